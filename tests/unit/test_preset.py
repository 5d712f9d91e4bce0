"""Presets: valid and invalid TOML."""

import re

import pytest
from pydantic import BaseModel, ValidationError

from bench.contracts import BootstrapPlan, HeldOutPlan, IndependentPlan
from bench.errors import UsageError
from bench.experiment.preset import Preset, explain, read_preset
from bench.registry.registry import Registry


@pytest.fixture(scope="module")
def registry():
    return Registry()


def test_the_presets_that_ship_are_valid(registry):
    names = registry.names("presets")
    assert {"smoke", "quick", "standard", "paper"} <= set(names)
    for name in names:
        preset = read_preset(registry, name, {})
        assert preset.description
        assert preset.plans


def test_a_file(registry, tmp_path):
    path = tmp_path / "my preset ü.toml"
    path.write_text(
        '\ufeffdescription = "μ"\nmembers = 0x2\nbudgets = [1000, 2000]\ntime_limit = 3\n'
        'tasks = ["gaussians-*"]\n[[plans]]\nkind = "heldout"\n[[plans]]\nkind = "independent"\n'
        'uniform = 3\n[[plans]]\nkind = "bootstrap"\nstratified = false\n',
        encoding="utf-8",
    )
    preset = read_preset(registry, str(path), {})
    assert preset == Preset(
        description="μ",
        members=2,
        budgets=(1000, 2000),
        time_limit=3.0,
        tasks=("gaussians-*",),
        plans=(HeldOutPlan(), IndependentPlan(uniform=3), BootstrapPlan(stratified=False)),
    )
    assert Preset.model_validate(preset.model_dump(mode="json")) == preset


def test_a_file_needs_no_suffix_and_a_name_wins_over_a_file(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("members = 3")
    (tmp_path / "smoke").write_text("members = 3")
    assert read_preset(registry, "mine", {}).members == 3
    assert read_preset(registry, "smoke", {}).members == 1


def test_options_override(registry):
    preset = read_preset(registry, "smoke", {"members": 7, "tasks": ("a", "b"), "seed": None})
    assert (preset.members, preset.tasks, preset.seed) == (7, ("a", "b"), 0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"members": 0}, "option --members = 0 is not allowed: it must be greater than or equal"),
        ({"budgets": (9, -5)}, "option --budget = -5 is not allowed: it must be greater than"),
        ({"seed": -1}, "option --seed = -1 is not allowed: it must be greater than or equal to 0"),
        ({"device": "tpu"}, "option --device = \"tpu\" .* it must be 'auto', 'cpu' or 'cuda'"),
    ],
)
def test_a_wrong_option_is_not_blamed_on_the_preset(registry, option, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        read_preset(registry, "smoke", option)


PLAN = "[[plans]]\nkind = 'independent'\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # keys
        ("membres = 3", "unknown key 'membres'; did you mean members?"),
        ("x.y = 1", "unknown key 'x'; known: author, budgets, description, device, "),
        (PLAN + "unifrom = 3", "unknown key 'unifrom'; did you mean uniform? (in plans.0)"),
        (
            PLAN + "sets = 3",
            "unknown key 'sets'; known: evaluator, first, kind, multiple, observations, per_point, "
            "theta, uniform ",
        ),
        (PLAN + PLAN + "a = 1", "unknown key 'a'; "),
        # types, which TOML distinguishes
        ("members = true", "members = true is not allowed: it must be an integer"),
        ("members = 2.0", "members = 2.0 is not allowed: it must be an integer"),
        ("members = '3'", 'members = "3" is not allowed: it must be an integer'),
        ("members = nan", "members = NaN is not allowed: it must be an integer"),
        ("seed = 1979-05-27", 'seed = "1979-05-27" is not allowed: it must be an integer'),
        ("time_limit = true", "time_limit = true is not allowed: it must be a number"),
        ("description = 3", "description = 3 is not allowed: it must be a string"),
        ("tasks = 'x'", 'tasks = "x" is not allowed: it must be a list'),
        ("tasks = [1]", "tasks.0 = 1 is not allowed: it must be a string"),
        ("budgets = 5", "budgets = 5 is not allowed: it must be a list"),
        ("budgets = [1e3]", "budgets.0 = 1000.0 is not allowed: it must be an integer"),
        ("[members]\nx = 1", 'members = {"x": 1} is not allowed: it must be an integer'),
        ("plans = 3", "plans = 3 is not allowed: it must be a list"),
        ("plans = [3]", "plans.0 = 3 is not allowed: it must be a table"),
        (
            "[plans]\nkind = 'heldout'",
            'plans = {"kind": "heldout"} is not allowed: it must be a li',
        ),
        (PLAN + "uniform = true", "plans.0.uniform = true is not allowed: it must be an integer"),
        (
            "[[plans]]\nkind = 'bootstrap'\nstratified = 1",
            "plans.0.stratified = 1 is not allowed: it must be true or false",
        ),
        # values
        ("members = 0", "members = 0 is not allowed: it must be greater than or equal to 1"),
        ("members = 99999", "members = 99999 is not allowed: it must be less than or equal to 100"),
        ("budgets = []", "budgets = [] is not allowed: it must be a list of at least 1 item"),
        (
            "budgets = [10, 0]",
            "budgets.1 = 0 is not allowed: it must be greater than or equal to 1",
        ),
        (
            "budgets = [10000000000000]",
            "budgets.0 = 10000000000000 is not allowed: it must be less",
        ),
        ("tasks = []", "tasks = [] is not allowed: it must be a list of at least 1 item"),
        ("methods = []", "methods = [] is not allowed: it must be a list of at least 1 item"),
        ("plans = []", "plans = [] is not allowed: it must be a list of at least 1 item"),
        ("seed = -1", "seed = -1 is not allowed: it must be greater than or equal to 0"),
        ("seed = 3000000000", "seed = 3000000000 is not allowed: it must be less than 2147483648"),
        ("device = 'tpu'", "device = \"tpu\" is not allowed: it must be 'auto', 'cpu' or 'cuda'"),
        (
            "training_data = ''",
            "training_data = \"\" is not allowed: it must be 'fresh', 'shared' ",
        ),
        ("time_limit = 0", "time_limit = 0 is not allowed: it must be greater than 0"),
        ("time_limit = nan", "time_limit = NaN is not allowed: it must be a finite number"),
        ("time_limit = -inf", "time_limit = -Infinity is not allowed: it must be a finite number"),
        (
            "memory_limit = inf",
            "memory_limit = Infinity is not allowed: it must be a finite number",
        ),
        ("memory_limit = 1e308", "memory_limit = 1e+308 is not allowed: it must be less than or e"),
        (PLAN + "uniform = 1", "plans.0.uniform = 1 is not allowed: it must be greater than or eq"),
        (
            "members = " + "9" * 4000,
            "members = " + "9" * 57 + "... is not allowed: it must be less",
        ),
        # plans
        (
            "[[plans]]\nkind = 'independant'",
            "plans.0: unknown kind 'independant'; did you mean inde",
        ),
        (
            "[[plans]]\nkind = 3",
            "plans.0: unknown kind '3'; known: independent, bootstrap, heldout",
        ),
        ("[[plans]]\nuniform = 3", "plans.0 has no kind; it must have one of independent, boots"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(registry, tmp_path, text, message):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_preset(registry, str(path), {})
    assert str(caught.value).startswith(f"preset {path}: {message}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize(
    "text",
    ["members =", "members = 1\nmembers = 2", "\0", "a = " + "[" * 9999, "a = " + "9" * 9999],
    ids=["no value", "twice", "null", "nested", "huge"],
)
def test_broken_toml(registry, tmp_path, text):
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"^preset {re.escape(str(path))} is not valid TOML: "):
        read_preset(registry, str(path), {})


def test_files_that_cannot_be_read(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"description = '\xe4'")
    (tmp_path / "folder.toml").mkdir()
    for name, reason in {
        "latin.toml": "byte 15 is not UTF-8",
        "folder.toml": "Is a directory",
        "missing.toml": "No such file or directory",
        "x" * 300 + ".toml": "File name too long",
    }.items():
        with pytest.raises(UsageError, match=f"^cannot read preset {name}: {reason}$"):
            read_preset(registry, name, {})


@pytest.mark.parametrize("name", ["smok", "", ".", "..", "folder", "x" * 5000, "smoke/"])
def test_unknown_presets(registry, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"^unknown preset .*; a file's name ends in \.toml$"):
        read_preset(registry, name, {})


def test_explain_knows_other_models():
    class Inner(BaseModel, extra="forbid"):
        depth: int

    class Outer(BaseModel, extra="forbid"):
        inner: Inner

    for value, message in {
        "key 'inner' is missing": {},
        "key 'inner.depth' is missing": {"inner": {}},
        "unknown key 'dept'; did you mean depth? (in inner)": {"inner": {"depth": 1, "dept": 1}},
    }.items():
        with pytest.raises(ValidationError) as caught:
            Outer.model_validate(message)
        assert explain(caught.value, Outer) == value
