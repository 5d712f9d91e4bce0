"""Plugins of installed packages: entry points, and errors in them."""

import sys
import textwrap

import pytest
from plugin_sources import METHOD

from bench.errors import PluginError
from bench.registry.registry import Registry


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
