"""Plugins that break the contract of a task or method, or have invalid names."""

import pytest
from plugin_sources import METHOD, METRIC, TASK

from bench.errors import PluginError
from bench.registry.registry import Registry


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("version = 1", "pass"), "it lacks version"),
        (("version = 1", "version = 'one'"), "its version is str, not int"),
        (("observations = 10", "observations = 0"), "its observations and its chunk must be at"),
        (("observations = 10", "chunk = 0; observations = 1"), "its observations and its chunk"),
        (("event_shape = (1,)", "event_shape = 1"), "its event_shape is int, not tuple"),
        (("nominal = torch.tensor([2.0])", "nominal = 2.0"), "its nominal is float, not Tensor"),
        (("torch.tensor([2.0])", "torch.tensor(2.0)"), "its nominal has shape (), not (1,)"),
        (("[[0.5, 2.0]]", "[[0.5]]"), "its points has shape (1, 1), not (1, 2)"),
        (('"mu"', '"m/u"'), "its parameter name 'm/u' is not allowed: it must be printable"),
        (('"mu"', '""'), "its parameter name '' is not allowed: it must be printable"),
        (("[[0.5, 2.0]]", "0.5"), "TypeError: len() of a 0-d tensor"),
        (("version = 1", "version = 1\n    settings = {'f': print}"), "TypeError: Object of type"),
        (
            ("version = 1", "version = 1\n    settings = {'f': float('nan')}"),
            "ValueError: Out of r",
        ),
        (("version = 1", "version = 1\n    resolution = (1, 2)"), "TypeError: asdict() should be"),
        (
            ('Parameter("mu", 0, 1, "interest", (0, 1)), ', ""),
            "it has 1 parameter; the suite profiles two",
        ),
    ],
)
def test_a_task_that_breaks_its_contract(plugin, change, message):
    assert change[0] in TASK
    path = plugin(TASK.replace(*change))
    registry = Registry([path])
    with pytest.raises(PluginError) as caught:
        registry.task("toy")
    assert str(caught.value).startswith(f"task 'toy' from {path} (toy): {message}")
    assert list(registry.failures) == [f"task 'toy' from {path} (toy)"]
    assert registry.failures[f"task 'toy' from {path} (toy)"].startswith(message)


@pytest.mark.parametrize("name", ["a/b", "../up", "", "a b", "a:b", "*", "-x", "x" * 65, "a\\nb"])
def test_names_that_would_not_do(plugin, name):
    path = plugin(METHOD.replace("toy", name))
    registry = Registry([path])
    with pytest.raises(PluginError, match="a name is up to 64 letters, digits or"):
        registry.method(name.replace("\\n", "\n"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (TASK.replace('"toy"', "7"), "(toy)"),
        (METRIC.replace('"toy", "toy"', 'None, "toy"'), "(metric)"),
        (METHOD.replace('"toy"', "7"), "(Toy)"),
    ],
)
def test_names_that_are_no_strings(plugin, content, what):
    path = plugin(content)
    assert Registry([path]).failures[f"plugin {path} {what}"] == "its name is not a string"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("def restore", "def store"), "it does not define restore"),
        (
            ("fit(self, fit_context)", "fit(self)"),
            "fit(self) has a wrong signature (too many positional arguments); it must take "
            "(self, fit_context)",
        ),
        (
            ("fit(self, fit_context)", "fit(self, a, b)"),
            "fit(self, a, b) has a wrong signature (missing a required argument: 'b')",
        ),
        (('name = "toy"', 'name = "toy"; configurations = {}'), "its configurations must be"),
        (('name = "toy"', 'name = "toy"; configurations = {1: {}}'), "its configurations must be"),
        (('name = "toy"', 'name = "toy"; configurations = 3'), "TypeError: 'int' object is not"),
    ],
)
def test_a_method_that_breaks_its_contract(plugin, change, message):
    assert change[0] in METHOD
    path = plugin(METHOD.replace(*change))
    with pytest.raises(PluginError) as caught:
        Registry([path]).method("toy")
    assert str(caught.value).startswith(f"method 'toy' from {path} (Toy): {message}")


def test_more_arguments_with_defaults_are_fine(plugin):
    path = plugin(METHOD.replace("fit_context)", "fit_context, extra=None, *, key=1)"))
    assert Registry([path]).method("toy")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("title=3", "its title is 3, and must be one line of 1 to 60 characters"),
        ("title=''", "its title is '', and must be one line of 1 to 60 characters"),
        ("title='a\\nb'", "its title is 'a\\nb', and must be one line of 1 to 60 characters"),
        ("title='\\x1b[31m'", "its title is '\\x1b[31m', and must be one line of 1 to 60"),
        ("description=None", "its description is None, and must be one line of 0 to 1000"),
        ("unit='x' * 21", "its unit is 'xxxxxxxxxxxxxxxxxxxxx', and must be one line of 0 to 20"),
        ("better='less'", "its better is 'less', and must be 'lower', 'higher' or ''"),
        ("better=[]", "its better is [], and must be 'lower', 'higher' or ''"),
        ("target='0'", "its target is '0', and must be a finite number or None"),
        ("target=float('nan')", "its target is nan, and must be a finite number or None"),
        ("target=0, better='lower'", "it has a target and a better direction; declare one of them"),
    ],
)
def test_what_a_metric_declares_is_checked(plugin, field, message):
    replaced = f"metric = dataclasses.replace(metric, {field})"
    path = plugin(f"import dataclasses\n{METRIC}{replaced}\n")
    registry = Registry([path])
    with pytest.raises(PluginError) as caught:
        registry.get("metrics", "toy")
    assert str(caught.value).startswith(f"metric 'toy' from {path} (metric): {message}")


def test_metrics_may_declare_a_unit_and_a_direction(plugin):
    fields = ("unit='cm', better='lower'", "unit='%', target=0", "better='higher', target=None")
    for place, field in enumerate(fields):
        replaced = f"metric = dataclasses.replace(metric, {field})"
        path = plugin(f"import dataclasses\n{METRIC}{replaced}\n", f"metric{place}.py")
        assert Registry([path]).get("metrics", "toy").title == "toy"
