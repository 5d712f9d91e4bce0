"""Registry: built-ins, plugin files, failures, and duplicate or unknown names."""

import re
import sys

import pytest
import torch
from plugin_sources import METHOD, METRIC, TASK

from bench.contracts import Method, Metric, Task
from bench.errors import PluginError, UsageError
from bench.registry.registry import KINDS, Registry


def test_built_ins_load():
    registry = Registry()
    for kind in KINDS:
        assert registry.names(kind) == sorted(registry.names(kind))
        for name in registry.names(kind):
            assert registry.get(kind, name)
    assert {"gaussians-far", "gaussians-near"} <= set(registry.names("tasks"))
    assert {"exact", "histogram", "lre"} <= set(registry.names("methods"))
    assert len(registry.metrics()) == len(registry.names("metrics"))
    assert registry.failures == {}
    assert registry.item("methods", "lre").place == "nlbench (bench.methods.lre:LRE)"
    assert registry.item("methods", "lre").plugin_hash == ""


def test_a_plugin_file(plugin):
    path = plugin(TASK + METHOD.replace("toy", "toy-method").replace("Toy", "M") + METRIC)
    registry = Registry([path])
    assert isinstance(registry.task("toy"), Task)
    assert issubclass(registry.method("toy-method"), Method)
    assert isinstance(registry.get("metrics", "toy"), Metric)
    assert registry.item("tasks", "toy").place == f"{path} (toy)"
    assert registry.item("methods", "toy-method").place == f"{path} (M)"
    assert len(registry.item("metrics", "toy").plugin_hash) == 64
    assert registry.failures == {}
    assert registry.plugins == (str(path),)


def test_an_edited_plugin_is_another(plugin):
    old = Registry([plugin(METHOD)])
    new = Registry([plugin(METHOD + "\nx = 1\n")])
    assert old.item("methods", "toy").plugin_hash != new.item("methods", "toy").plugin_hash
    assert old.method("toy") is not new.method("toy")
    assert Registry([plugin(METHOD)]).method("toy") is old.method("toy")


def test_tasks_know_the_plugin_that_they_come_from(plugin):
    registry = Registry([plugin(TASK)])
    assert registry.task("toy").plugin_hash == registry.item("tasks", "toy").plugin_hash
    assert registry.task("gaussians-far").plugin_hash == ""


@pytest.mark.parametrize(
    "name", ["torch.py", "json.py", "my plugin.v2.py", "plügin.py", "1.py", "bench.py"]
)
def test_any_file_name_will_do(plugin, name):
    before = dict(sys.modules)
    registry = Registry([plugin(METHOD, name)])
    assert registry.method("toy").name == "toy"
    assert sys.modules["torch"] is torch
    new = [module for module in sys.modules if module not in before]
    assert all(re.fullmatch(r"nlbench_plugin_\w+", module) for module in new)


def test_relative_paths_and_links_are_one_file(plugin, tmp_path, monkeypatch):
    path = plugin(METHOD)
    (tmp_path / "link.py").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    registry = Registry(["plugin.py", path, tmp_path / "link.py"])
    assert registry.plugins == (str(path),)


def test_what_a_plugin_prints_goes_to_standard_error(plugin, capsys):
    Registry([plugin("print('noise')\n" + METHOD)])
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "noise\n"


def test_plugins_that_are_no_files(tmp_path):
    (tmp_path / "loop.py").symlink_to(tmp_path / "loop.py")
    for path, problem in {
        tmp_path / "missing.py": "does not exist",
        tmp_path / "loop.py": "does not exist",
        tmp_path: "is not a file",
    }.items():
        with pytest.raises(UsageError, match=f"^plugin {path} {problem}$"):
            Registry([path])
    with pytest.raises(UsageError, match=r"^cannot read plugin /proc/\d+/mem: "):
        Registry(["/proc/self/mem"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            "import no_such_module",
            "ModuleNotFoundError: No module named 'no_such_module' "
            "[plugin.py:1: import no_such_module]",
        ),
        ("def f(:", "SyntaxError: invalid syntax (plugin.py, line 1)"),
        ("\n1 / 0", "ZeroDivisionError: division by zero [plugin.py:2: 1 / 0]"),
        (
            "raise ValueError('two\\n  lines')",
            r"ValueError: two lines [plugin.py:1: raise ValueError('two\n lines')]",
        ),
        (
            "import sys; sys.exit('enough')",
            "SystemExit: enough [plugin.py:1: import sys; sys.exit('enough')]",
        ),
        (
            "raise BaseExceptionGroup('a', [ValueError('b')])",
            "ExceptionGroup: a (1 sub-exception) "
            "[plugin.py:1: raise BaseExceptionGroup('a', [ValueError('b')])]",
        ),
        ("x = '\0'", "SyntaxError: source code string cannot contain null bytes"),
        (
            "",
            "defines no Task instance, no Metric instance and no Method subclass with a name",
        ),
        (
            "from bench.methods.lre import LRE",
            "defines no Task instance, no Metric instance and no Method subclass with a name",
        ),
    ],
)
def test_a_plugin_that_fails_is_listed_and_breaks_nothing_else(plugin, content, reason):
    bad, good = plugin(content), plugin(METHOD, "good.py")
    before = set(sys.modules)
    registry = Registry([bad, good])
    assert registry.failures == {f"plugin {bad}": reason}
    assert registry.method("toy").name == "toy"
    half_imported = {m for m in set(sys.modules) - before if m.startswith("nlbench_plugin_plugin_")}
    assert len(half_imported) == reason.startswith("defines")


def test_a_plugin_that_is_not_python(plugin):
    path = plugin(METHOD, "plugin.txt")
    assert Registry([path]).failures == {
        f"plugin {path}": f"PluginError: {path} is not a Python file"
    }


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [(METHOD, "method", "LRE"), (TASK, "task", "Gaussians-Far"), (METRIC, "metric", "Coverage")],
)
def test_names_must_differ_by_more_than_case(plugin, source, kind, name):
    path = plugin(source.replace('"toy"', f'"{name}"'))
    with pytest.raises(PluginError) as caught:
        Registry([path])
    said = str(caught.value)
    assert said.startswith(f"{kind} {name!r} from {path} (")
    assert f" differs from {name.lower()!r} from nlbench (bench." in said
    assert said.endswith(" by case alone; rename one")


def test_names_must_be_unique(plugin):
    first, second = plugin(METHOD, "first.py"), plugin(METHOD, "second.py")
    for plugins, kind, places in (
        ([first, second], "method 'toy'", (f"{first} (Toy)", f"{second} (Toy)")),
        (
            [plugin(METHOD.replace('"toy"', '"lre"'), "lre.py")],
            "method 'lre'",
            ("nlbench (bench.methods.lre:LRE)", f"{first.with_name('lre.py')} (Toy)"),
        ),
        (
            [plugin(METRIC + METRIC.replace("metric =", "other ="), "both.py")],
            "metric 'toy'",
            (f"{first.with_name('both.py')} (metric)", f"{first.with_name('both.py')} (other)"),
        ),
    ):
        with pytest.raises(PluginError) as caught:
            Registry(plugins)
        assert str(caught.value) == (
            f"{kind} is defined twice: in {places[0]} and in {places[1]}; rename one"
        )


def test_the_same_thing_twice_is_no_clash(plugin):
    path = plugin(
        """
        from bench.metrics.intervals import coverage
        from bench.contracts import Metric

        one = two = Metric("mine", "mine", "Mine.", ("independent",), coverage.compute)
        """
    )
    registry = Registry([path, path])
    assert registry.get("metrics", "mine").name == "mine"
    assert registry.item("metrics", "coverage").plugin_hash == ""


def test_unknown_names(plugin):
    registry = Registry()
    with pytest.raises(
        UsageError, match=r"^unknown task 'gausian-far'; did you mean gaussians-far"
    ):
        registry.task("gausian-far")
    with pytest.raises(
        UsageError,
        match=r"^unknown method 'xyz'; known: dle, dle-nflows, exact, gradient-boosting, ",
    ):
        registry.method("xyz")
