"""Plugin files that import files of their own folder."""

import sys

import pytest

from bench.registry.plugins import plugin_files, plugin_version
from bench.registry.registry import Registry, registry_of

METRIC = """
from bench.contracts import Metric
{imports}
toy = Metric("toy", TITLE, "A toy.", ("independent",), lambda own, truth: {{}})
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a function that writes files into a folder; imports are undone."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def write(where="plugins", **sources):
        for name, source in sources.items():
            path = tmp_path / where / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return tmp_path / where

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def title(path):
    return Registry([path]).get("metrics", "toy").title


def test_a_plugin_imports_files_of_its_folder(folder):
    plugin = METRIC.format(imports="from helper_one import TITLE")
    where = folder(
        toy=plugin, helper_one="from helper_two import TITLE", helper_two="TITLE = 'two'"
    )
    assert list(plugin_files(where / "toy.py")) == ["toy.py", "helper_one.py", "helper_two.py"]
    assert title(where / "toy.py") == "two"


def test_a_package_of_its_folder_counts_as_a_whole(folder):
    plugin = METRIC.format(imports="import parts.words\nTITLE = parts.words.TITLE")
    where = folder(toy=plugin)
    folder("plugins/parts", __init__="", words="TITLE = 'words'", unused="")
    names = ["toy.py", "parts/__init__.py", "parts/unused.py", "parts/words.py"]
    assert list(plugin_files(where / "toy.py")) == names
    assert title(where / "toy.py") == "words"


def test_an_edited_import_is_another_version_and_is_imported_again(folder):
    plugin = METRIC.format(imports="from helper_one import TITLE")
    path = folder(toy=plugin, helper_one="TITLE = 'before'") / "toy.py"
    before = registry_of([str(path)])
    assert before.get("metrics", "toy").title == "before"
    assert registry_of([str(path)]) is before
    folder(helper_one="TITLE = 'then'")
    after = registry_of([str(path)])
    assert after.get("metrics", "toy").title == "then"
    versions = [registry.item("metrics", "toy").plugin_hash for registry in (before, after)]
    assert versions[0] != versions[1] == plugin_version(plugin_files(path))


def test_a_plugin_alone_has_the_version_of_its_bytes(folder):
    path = folder(toy=METRIC.format(imports="TITLE = 'alone'"), unused="") / "toy.py"
    assert list(plugin_files(path)) == ["toy.py"]
    assert title(path) == "alone"
    assert str(path.parent) not in sys.path


@pytest.mark.parametrize("hidden", ["colorsys", "helper_one"])
def test_a_hidden_file_is_named(folder, hidden):
    plugin = METRIC.format(imports=f"from {hidden} import TITLE")
    if hidden == "helper_one":
        other = folder("others", toy=plugin, helper_one="TITLE = 'other'") / "toy.py"
        assert title(other) == "other"
    path = folder(toy=plugin, **{hidden: "TITLE = 'mine'"}) / "toy.py"
    registry = Registry([path])
    (reason,) = registry.failures.values()
    assert reason.startswith(f"{hidden} in its folder is hidden by another module of this name, ")
    assert reason.endswith("; rename it")


def test_a_file_that_the_program_has_imported_is_not_hidden(folder, monkeypatch):
    plugin = METRIC.format(imports="from helper_one import TITLE")
    where = folder(toy=plugin, helper_one="TITLE = 'same'")
    monkeypatch.syspath_prepend(str(where / ".." / where.name))
    assert title(where / "toy.py") == "same"


def test_a_plugin_imports_methods_of_the_suite(folder):
    source = "from bench.methods.lre import LRE\nclass Mine(LRE):\n    name = 'mine'\n"
    path = folder(mine=source) / "mine.py"
    assert list(plugin_files(path)) == ["mine.py"]
    assert Registry([path]).method("mine").family == "discriminative"
