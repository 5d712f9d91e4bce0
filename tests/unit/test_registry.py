"""Registered components: names, contracts, plugin files and installed packages."""

import re
import sys
import textwrap

import pytest
import torch
from plugin_sources import DIAGNOSTIC, METHOD, METRIC, TASK

from bench.contracts import Diagnostic, Method, Metric, Task
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
    assert len(registry.diagnostics()) == len(registry.names("diagnostics")) >= 17
    assert registry.failures == {}
    assert registry.item("methods", "lre").place == "nlbench (bench.methods.lre:LRE)"
    assert registry.item("methods", "lre").plugin_hash == ""


def test_a_plugin_file(plugin):
    method = METHOD.replace("toy", "toy-method").replace("Toy", "M")
    path = plugin(TASK + method + METRIC + DIAGNOSTIC)
    registry = Registry([path])
    assert isinstance(registry.task("toy"), Task)
    assert issubclass(registry.method("toy-method"), Method)
    assert isinstance(registry.get("metrics", "toy"), Metric)
    assert isinstance(registry.get("diagnostics", "toy"), Diagnostic)
    assert "toy" in [diagnostic.name for diagnostic in registry.diagnostics()]
    assert registry.item("tasks", "toy").place == f"{path} (toy)"
    assert registry.item("methods", "toy-method").place == f"{path} (M)"
    assert len(registry.item("metrics", "toy").plugin_hash) == 64
    assert registry.item("diagnostics", "toy").place == f"{path} (diagnostic)"
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
            "defines no task, simulator, method, wrapper, metric or diagnostic with a name",
        ),
        (
            "from bench.methods.lre import LRE",
            "defines no task, simulator, method, wrapper, metric or diagnostic with a name",
        ),
    ],
)
def test_a_plugin_that_fails_is_listed_and_breaks_nothing_else(plugin, content, reason):
    bad, good = plugin(content), plugin(METHOD, "good.py")
    before = set(sys.modules)
    registry = Registry([bad, good])
    failures = {
        k: v.replace("ValueError: source", "SyntaxError: source")
        for k, v in registry.failures.items()
    }
    assert failures == {f"plugin {bad}": reason}  # Python before 3.11.4 raised ValueError
    assert registry.method("toy").name == "toy"
    half_imported = {m for m in set(sys.modules) - before if m.startswith("nlbench_plugin_plugin_")}
    assert len(half_imported) == reason.startswith("defines")


def test_a_plugin_that_is_not_python(plugin):
    path = plugin(METHOD, "plugin.txt")
    assert Registry([path]).failures == {f"plugin {path}": f"{path} is not a Python file"}


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [
        (METHOD, "method", "LRE"),
        (TASK, "task", "Gaussians-Far"),
        (METRIC, "metric", "Coverage"),
        (DIAGNOSTIC, "diagnostic", "MMD"),
    ],
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
        match=r"^unknown method 'xyz'; known: dle, dle-counts, dle-fields, dle-nflows, ",
    ):
        registry.method("xyz")


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
            "it reports no parameter: reported is empty, or no parameter is of interest",
        ),
        (("version = 1", "version = 1\n    reported = ()"), "it reports no parameter: "),
        (
            ("version = 1", "version = 1\n    reported = ('mu', 'nu')"),
            "it reports 'nu', not among its parameters",
        ),
        (
            ("version = 1", "version = 1\n    reported = 'mu'"),
            "its reported is 'mu', and must",
        ),
        (
            ("version = 1", "version = 1\n    resolution = (Resolution(),)"),
            "it has 1 resolution, and must have one per parameter, 2",
        ),
        (("version = 1", "version = 1\n    resolution = Resolution()"), "its resolution is Resol"),
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


def test_a_task_may_have_any_number_of_parameters(plugin):
    more = ", ".join(f'Parameter("n{i}", 0, 1, "nuisance", (0, 1))' for i in range(18))
    source = TASK.replace('"nuisance", (1, 2))]', f'"nuisance", (1, 2)), {more}]')
    source = source.replace("[[0.5, 2.0]]", f"[[0.5, 2.0, {', '.join(['0.5'] * 18)}]]")
    task = Registry([plugin(source)]).task("toy")
    assert len(task.space) == 20
    assert (task.reported, task.reported_index, task.resolution) == (("mu",), (0,), ())


def test_reported_parameters_and_resolution_may_be_set_on_the_object(plugin):
    source = TASK.replace("toy = Toy()", "toy = Toy()\ntoy.reported = ('z', 'mu')")
    task = Registry([plugin(source)]).task("toy")
    assert task.reported_index == (0, 1)
    assert len(task.resolution) == 2


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
        (DIAGNOSTIC.replace('"toy", "toy"', 'None, "toy"'), "(diagnostic)"),
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


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("title=''", "its title is '', and must be one line of 1 to 60 characters"),
        ("description='a\\nb'", "its description is 'a\\nb', and must be one line of 0 to 1000"),
        ("citation=None", "its citation is None, and must be one line of 0 to 300 characters"),
        ("level='row'", "its level is 'row', and must be one of ('event', 'dataset', 'training')"),
        ("takes=['toys']", "its takes is ['toys'], and must be one of ('samples', 'weights', "),
        ("better=''", "its better is '', and must be one of ('lower', 'higher')"),
        (
            "null=None",
            "its null is None, and must be one of ('permutation', 'closed form', 'none')",
        ),
        ("compute=3", "its compute cannot be called"),
        ("version='1'", "its version is '1', and must be a whole number"),
    ],
)
def test_what_a_diagnostic_declares_is_checked(plugin, field, message):
    replaced = f"diagnostic = dataclasses.replace(diagnostic, {field})"
    path = plugin(f"import dataclasses\n{DIAGNOSTIC}{replaced}\n")
    registry = Registry([path])
    with pytest.raises(PluginError) as caught:
        registry.get("diagnostics", "toy")
    assert str(caught.value).startswith(f"diagnostic 'toy' from {path} (diagnostic): {message}")
    assert "\n" not in str(caught.value)
    assert "toy" not in [diagnostic.name for diagnostic in registry.diagnostics()]


def test_metrics_may_declare_a_unit_and_a_direction(plugin):
    fields = ("unit='cm', better='lower'", "unit='%', target=0", "better='higher', target=None")
    for place, field in enumerate(fields):
        replaced = f"metric = dataclasses.replace(metric, {field})"
        path = plugin(f"import dataclasses\n{METRIC}{replaced}\n", f"metric{place}.py")
        assert Registry([path]).get("metrics", "toy").title == "toy"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a package of one module, with entry points."""

    def make(entries, module="", name="third_party"):
        site = tmp_path / f"site-{name}"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(entries))
        (site / f"{name}.py").write_text(textwrap.dedent(module))
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return make


def test_an_installed_plugin(install):
    install("[nlbench.methods]\ntoy = third_party:Toy\n", METHOD)
    registry = Registry()
    assert registry.method("toy").name == "toy"
    assert registry.item("methods", "toy").place == "third_party (third_party:Toy)"
    assert registry.item("methods", "toy").plugin_hash == ""


@pytest.mark.parametrize(
    ("entries", "module", "kind", "reason"),
    [
        (
            "toy = missing_module:x",
            "",
            "tasks",
            "ModuleNotFoundError: No module named 'missing_mod",
        ),
        (
            "toy = third_party:x",
            "",
            "tasks",
            "AttributeError: module 'third_party' has no attribut",
        ),
        ("toy = third_party:x", "1 / 0", "methods", "ZeroDivisionError: division by zero"),
        ("toy = third_party:x", "import sys; sys.exit(1)", "metrics", "SystemExit: 1"),
        ("toy = third_party:x", "x = 3", "tasks", "it is not a bench.contracts.Task but int"),
        (
            "toy = third_party:x",
            "x = 3",
            "methods",
            "it is not a subclass of bench.contracts.Method",
        ),
        ("toy = third_party:x", "x = 3", "metrics", "it is not a bench.contracts.Metric but int"),
        ("toy = third_party:x", "x = 3", "diagnostics", "it is not a bench.contracts.Diagnostic"),
        ("toy = third_party:x", "def x(): 1 / 0", "tasks", "ZeroDivisionError: division by zero"),
        ("other = third_party:Toy", METHOD, "methods", "it calls itself 'toy'; the two names must"),
    ],
)
def test_an_installed_plugin_that_fails(install, entries, module, kind, reason):
    install(f"[nlbench.{kind}]\n{entries}\n", module)
    name, value = entries.split(" = ")
    registry = Registry()
    assert name in registry.names(kind)
    with pytest.raises(PluginError) as caught:
        registry.get(kind, name)
    where = f"{kind[:-1]} {name!r} from third_party ({value})"
    assert str(caught.value).startswith(f"{where}: {reason}")
    assert registry.failures[where].startswith(reason)
    assert len(registry.metrics()) >= 10
    assert registry.method("exact")


def test_two_installed_packages_with_one_name(install):
    install("[nlbench.methods]\ntoy = first:Toy\n", METHOD, "first")
    install("[nlbench.methods]\ntoy = second:Toy\n", METHOD, "second")
    with pytest.raises(PluginError, match=r"'toy' is defined twice: in \w+ \(.*\) and in \w+ \("):
        Registry()


@pytest.mark.parametrize("module", ["1 / 0", "import no_such_module", "import sys; sys.exit(1)"])
def test_presets_of_a_package_that_fails(install, module):
    install("[nlbench.presets]\nmine = third_party\n", module)
    registry = Registry()
    assert "smoke" in registry.names("presets")
    assert list(registry.failures) == ["presets mine (third_party)"]
