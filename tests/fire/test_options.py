"""Every key of a preset and every option of every command, with values that make no sense.

What is allowed is said here a second time, independently of the suite: everything else must end
with status 2 and one line, and start nothing.
"""

import datetime
import fnmatch
import io
import json
import keyword
import math
import re
import shutil
import sys
from pathlib import Path

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import bench.report.write  # with it matplotlib, which makes a folder for itself
import bench.stages.run
import bench.stages.store
import bench.stages.tune
import bench.studies.features
import bench.testing
from bench.cli import main as program
from bench.cli.main import cli
from bench.errors import UsageError
from bench.stages.preset import Preset, read_preset
from bench.stages.registry import Registry

PLUGINS = Path(__file__).parents[1] / "plugins"
LONGEST = 700  # characters of a message; a path may be part of it
REGISTRY = Registry()


def one_line(text):
    return text.count("\n") == 0 and 0 < len(text) <= LONGEST


# Presets


def whole(low, high):
    return lambda v: type(v) is int and low <= v <= high


def number(low, high):
    return lambda v: type(v) in (int, float) and math.isfinite(v) and low < v <= high


def optional(allowed):
    return lambda v: v is None or allowed(v)


def listed(allowed):
    return lambda v: type(v) is list and len(v) >= 1 and all(map(allowed, v))


def text(v):
    return type(v) is str


MILLION = 10**6
PLANS = {
    "independent": {
        "uniform": whole(2, MILLION),
        "per_point": whole(0, MILLION),
        "observations": whole(1, MILLION),
    },
    "bootstrap": {
        "sets": whole(1, MILLION),
        "multiple": whole(1, MILLION),
        "bootstraps": whole(2, MILLION),
        "stratified": lambda v: type(v) is bool,
        "observations": whole(1, MILLION),
    },
    "heldout": {"contexts": whole(2, MILLION), "events": whole(2, MILLION)},
}


def a_plan(v):
    if type(v) is not dict or type(v.get("kind")) is not str or v["kind"] not in PLANS:
        return False
    allowed = PLANS[v["kind"]]
    return all(k == "kind" or (k in allowed and allowed[k](inner)) for k, inner in v.items())


KEYS = {
    "description": text,
    "tasks": listed(text),
    "methods": listed(text),
    "members": whole(1, 10_000),
    "budgets": listed(whole(1, 10**12)),
    "training_data": lambda v: v in ("fresh", "shared", "bootstrap"),
    "seed": whole(0, 2**31 - 1),
    "device": lambda v: v in ("auto", "cpu", "cuda"),
    "time_limit": number(0, math.inf),
    "memory_limit": number(0, 1e6),
    "plans": listed(a_plan),
}
characters = st.characters(exclude_categories=["Cs"])
texts = st.text(characters, max_size=12) | st.sampled_from(
    ["", "\0", "\x1b[31m", "<b>", "../..", "x" * 5000, "*", "[", "fresh", "cpu", "\u202e", "nan"]
)
wholes = st.integers(-3, 12) | st.integers(-(10**40), 10**40) | st.integers(MILLION - 1, 2**31 + 1)
scalars = wholes | st.floats() | st.booleans() | texts | st.dates() | st.times() | st.datetimes()
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
plans = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from([*PLANS, "independant"]) | anything,
        **{key: wholes | scalars for keys in PLANS.values() for key in keys},
        "more": scalars,
    },
) | st.sampled_from(sorted(PLANS)).flatmap(
    lambda kind: st.fixed_dictionaries(
        {"kind": st.just(kind)}, optional=dict.fromkeys(PLANS[kind], wholes | st.booleans())
    )
)
VALUES = {
    "plans": st.lists(plans, max_size=2),
    "tasks": st.lists(texts, max_size=3),
    "methods": st.lists(texts, max_size=3),
    "budgets": st.lists(wholes, max_size=3),
    "time_limit": st.floats() | wholes,
    "memory_limit": st.floats() | wholes,
    "members": wholes,
    "seed": wholes,
}
presets = st.fixed_dictionaries(
    {}, optional={key: VALUES.get(key, texts) | anything for key in KEYS}
) | st.dictionaries(texts | st.sampled_from(sorted(KEYS)), anything, max_size=4)


def toml(value):
    """A value as TOML has it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value).replace("\\/", "/").replace("\x7f", "\\u007f")
        case datetime.date() | datetime.time():
            return value.isoformat()
        case float() if not math.isfinite(value):
            return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _surrogates(text):
    """JSON escapes characters beyond 16 bits in two halves, TOML in one piece."""
    return re.sub(
        r"\\ud([89ab]..)\\ud([c-f]..)",
        lambda m: json.loads(f'"{m[0]}"'),
        text,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("presets") / "some.toml"


def read(place):
    """A preset, or the message that says why it is none."""
    try:
        return read_preset(REGISTRY, str(place), {}), ""
    except UsageError as error:
        return None, str(error)


@given(values=presets)
@example(values={"plans": [{"kind": "independent", "uniform": 10**12}]})
@example(values={"plans": [{"kind": "independent", "observations": 10**30}]})
@example(values={"x" * 5000: 1})
def test_keys_of_presets(place, values):
    place.write_text(
        _surrogates("\n".join(f"{toml(k)} = {toml(v)}" for k, v in values.items())),
        encoding="utf-8",
    )
    allowed = all(key in KEYS and KEYS[key](value) for key, value in values.items())
    preset, problem = read(place)
    assert allowed == (preset is not None), problem
    if preset is None:
        assert one_line(problem), problem
        assert problem.startswith(f"preset {place}")
    else:
        made = preset.model_dump(mode="json")
        for key in values.keys() - {"plans"}:
            asked = values[key]
            assert made[key] == (float(asked) if key.endswith("_limit") else asked)
        for plan, asked in zip(made["plans"], values.get("plans", made["plans"]), strict=True):
            assert asked.items() <= plan.items()
        assert Preset.model_validate(made) == preset


@given(content=st.binary(max_size=60) | texts.map(str.encode))
def test_files_that_are_no_presets(place, content):
    place.write_bytes(content)
    preset, problem = read(place)
    assert preset is not None or one_line(problem), problem


# Options


class Started(Exception):
    """Something was about to be made or fetched."""


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Runs commands in this process, in a folder of their own, and stops before any work."""
    folder = tmp_path_factory.mktemp("shell")
    shutil.copy(PLUGINS / "simple.py", folder)
    (folder / "tiny.toml").write_text(
        'tasks = ["gaussians-far"]\nmethods = ["simple"]\nplans = [{kind = "heldout"}]\n'
    )
    folder.joinpath("made").mkdir()
    before = sorted(folder.rglob("*"))

    def start(self, *arguments, **options):
        raise Started

    def run(*arguments):
        """Returns exit status, standard output and error; status None if work would begin."""
        out, err = io.StringIO(), io.StringIO()
        status = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "dont_write_bytecode", True)
            patch.setattr(sys, "argv", ["bench", *arguments])
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(bench.stages.store.Store, "__init__", start)
            patch.setattr(bench.stages.store.Store, "write_bytes", start)
            patch.setattr(bench.stages.run.BenchmarkRun, "estimate", start)
            patch.setattr(bench.studies.features, "tests", start)
            patch.setattr(bench.testing, "check_method", start)
            patch.setattr(bench.testing, "check_task", start)
            patch.setattr(Path, "mkdir", start)
            patch.setattr(type(REGISTRY.task("higgs-fair").data), "fetch", start)
            try:
                program()
            except SystemExit as error:
                status = error.code
        if "unexpected Started" in err.getvalue():
            status = None
        assert sorted(folder.rglob("*")) == before
        return status, out.getvalue(), err.getvalue()

    run("list")  # imports what is imported late
    return run


def an_integer(low=1, high=MILLION):
    def allowed(text):
        try:
            return low <= int(text) <= high
        except ValueError:
            return False

    return allowed


def names(kind):
    return lambda pattern: bool(fnmatch.filter(REGISTRY.names(kind), pattern))


def one_of(*allowed):
    return lambda text: text in allowed


def never(text):
    return False


SIMPLE = ("default", "same", "wide", "slow")


def a_method(pattern):
    inner, wrapped = pattern, False
    if found := re.fullmatch(r"ensemble\(\s*(.+?)\s*,\s*(\d{1,4})\s*\)", pattern):
        inner, wrapped = found[1], True
        if int(found[2]) < 2:
            return False
    if found := re.fullmatch(r"calibrated\(\s*([^\s,()]+)\s*(,\s*(platt|isotonic)\s*)?\)", inner):
        inner, wrapped = found[1], True
    if re.search(r"[\s,()]", inner) and wrapped:
        return False
    name, colon, configuration = inner.partition(":")
    methods = fnmatch.filter([*REGISTRY.names("methods"), "simple"], name)
    if wrapped and "exact" in methods and fnmatch.fnmatchcase("default", configuration or "*"):
        return False  # it has one member, and nothing to calibrate
    labels = [
        c for m in methods for c in (SIMPLE if m == "simple" else REGISTRY.method(m).configurations)
    ]
    return bool(methods) and (not colon or bool(fnmatch.filter(labels, configuration)))


def a_configuration(text):
    """A method or task that `bench check` knows by its name."""
    name, colon, configuration = text.partition(":")
    if name in REGISTRY.names("methods"):
        return not colon or configuration in REGISTRY.method(name).configurations
    return not colon and name in REGISTRY.names("tasks")


def a_new(kind):
    """A name that nothing has yet, and a file can have."""

    def allowed(text):
        return (
            len(text) <= 40
            and re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", text) is not None
            and text not in REGISTRY.names(f"{kind}s")
            and not keyword.iskeyword(text.replace("-", "_"))
            and text not in ("bench", "torch", kind)
        )

    return allowed


def a_folder(text):
    return text != "" and len(text) < 200


RUN = {
    "--task": names("tasks"),
    "--method": a_method,
    "--members": an_integer(1, 10_000),
    "--budget": an_integer(1, 10**12),
    "--seed": an_integer(0, 2**31 - 1),
    "--device": one_of("auto", "cpu"),
    "--workers": an_integer(1, 1024),
    "--scheduler": one_of("local:2"),
    "--out": a_folder,
    "--plugin": never,
}
COMMANDS = {  # how it begins, what else is allowed, and whether then it makes something
    "run": (["run", "tiny.toml", "--plugin", "simple.py"], RUN),
    "plan": (["plan", "tiny.toml", "--plugin", "simple.py"], RUN),
    "check": (
        ["check"],
        {"": a_configuration, "--task": one_of(*REGISTRY.names("tasks")), "--plugin": never},
    ),
    "new method": (["new", "method"], {"": a_new("method"), "--out": a_folder}),
    "new task": (["new", "task"], {"": a_new("task"), "--out": a_folder}),
    "report": (
        ["report", "made"],
        {"": never, "--out": never, "--task": never, "--method": never, "--plugin": never},
    ),
    "tune": (
        ["tune", "lre", "--task", "gaussians-far"],
        {
            "--task": one_of("gaussians-far", "gaussians-near", "gaussians-*", "higgs"),
            "--budget": an_integer(1, 10**12),
            "--only": one_of("activation=silu", "learning_rate=1e-2", "training.batch_size=1024"),
            "--epochs": an_integer(9, MILLION),
            "--rungs": an_integer(1, 3),
            "--members": an_integer(1, 10_000),
            "--seed": an_integer(0, 2**31 - 1),
            "--workers": an_integer(1, 1024),
            "--device": one_of("auto", "cpu"),
            "--out": a_folder,
            "--plugin": never,
        },
    ),
    "study bootstrap-k": (
        ["study", "bootstrap-k"],
        {
            "--task": one_of("gaussians-far", "gaussians-near", "gaussians-*", "gp", "sis"),
            "--k": an_integer(),
            "--observations": an_integer(),
            "--sets": an_integer(2),
            "--bootstraps": an_integer(2),
            "--independent": an_integer(),
            "--seed": an_integer(0, 2**31 - 1),
            "--workers": an_integer(1, 1024),
            "--out": None,  # is looked at in the end
            "--plugin": never,
        },
    ),
    "study features": (
        ["study", "features", "--observed", "higgs", "--model", "higgs"],
        {
            "--observed": one_of("higgs"),
            "--model": one_of("higgs"),
            "--events": an_integer(10, 10_000),
            "--permutations": an_integer(9, MILLION),
            "--seed": an_integer(0, 2**31 - 1),
            "--out": None,  # is looked at in the end
            "--plugin": never,
        },
    ),
    "study equivalence": (["study", "equivalence"], {"": never, "--out": None}),
    "status": (["status"], {"": never}),
    "score": (["score"], {"": never, "--workers": never, "--plugin": never}),
    "leaderboard": (
        ["leaderboard", "made"],
        {"--task": never, "--format": never, "--plugin": never, "": never},
    ),
    "list": (
        ["list"],
        {
            "": one_of("tasks", "methods", "metrics", "presets"),
            "--format": one_of("table", "md"),
            "--plugin": never,
        },
    ),
    "data fetch": (
        ["data", "fetch", "higgs-fair"],
        {"--from": lambda text: True, "--plugin": never, "": never},
    ),
    "data status": (["data", "status"], {"--plugin": never, "": never}),
    "": ([], {"": never}),
}
ODD = [
    *("", " ", "0", "1", "2", "7", "-1", "1e3", "0x10", "1_0", "١", " 5 ", "nan", "inf", "3.0"),
    *("10000", "10001", "1000000", "1000001", str(2**31 - 1), str(2**31), "9" * 40, "9" * 5000),
    *("../..", "/", ".", "~", "made", "*", "**", "[", "[!a]", "?", "{}", "%s", "$(id)", "a\nb"),
    *("<script>", "\x1b[2J", "\x9b2J", "\u202e", "\udcff", "x" * 300, "x" * 9000),
    *(
        "ü",
        "'",
        '"',
        "\\",
        "lre",
        "lre:tuned",
        "lre:",
        "gp:x",
        ":",
        "exact",
        "simple",
        "ensemble(lre,2)",
    ),
    *("local:2", "local:0", "local:", "tcp://", "tcp://x:99999", "tls://x", "calibrated(lre)"),
    *("calibrated(exact)", "calibrated(lre,x)", "ensemble(calibrated(lre),3)", "calibrated(("),
    *("ensemble(lre,1)", "ensemble(exact,2)", "ensemble(lre,9999)", "ensemble(,2)", "ensemble(("),
    *("gaussians-far", "gaussians-*", "gp", "cpu", "cuda", "auto", "csv", "md", "tasks", "higgs"),
]
words = st.characters(exclude_categories=["Cs"], exclude_characters="\0")  # as a system hands on
odd = st.sampled_from(ODD) | st.text(words, max_size=8) | st.integers().map(str)


def told(err):
    """The one line that is said, or fails."""
    assert err.startswith("bench: "), err
    assert err.endswith("\n")
    line = err.removesuffix("\n")
    assert one_line(line), line
    assert line.isprintable(), line
    assert "bench: unexpected" not in line, line
    return line


FLAGS = {"--debug", "--overwrite", "--quiet", "--multinomial", "--package"}
HELP = {"-h", "--help", "--version"} | FLAGS
NAMELESS = {"new method", "new task"}  # commands that do nothing without their argument


def test_every_option_is_tried():
    def walk(command, path=()):
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield from walk(inner, (*path, name))
        else:
            yield (
                " ".join(path),
                {
                    p.opts[-1]
                    for p in command.params
                    if isinstance(p, click.Option) and not p.is_flag
                },
            )

    for path, options in walk(cli):
        assert options == set(COMMANDS[path][1]) - {""}, path


@given(data=st.data(), command=st.sampled_from(sorted(COMMANDS)))
def test_options(shell, data, command):
    begin, options = COMMANDS[command]
    given_options = data.draw(
        st.lists(st.sampled_from(sorted(options)), min_size=1, max_size=3, unique=True)
    )
    arguments, right, sure = list(begin), command not in NAMELESS or "" in given_options, True
    for option in given_options:
        value = data.draw(odd)
        if option == "" and value.startswith("-"):
            value = f"x{value}"
        allowed = options[option]
        if allowed is None:
            sure = False
        elif not allowed(value):
            right = False
        if option:
            arguments += data.draw(st.sampled_from([[option, value], [f"{option}={value}"]]))
        else:
            arguments.append(value)
    status, _, err = shell(*arguments)
    if right and (command in ("list", "data status") or not sure):
        return
    if right:
        assert status is None, (status, err)
    else:
        assert status == 2, (status, err)
        told(err)


@given(
    arguments=st.lists(odd | st.sampled_from(["run", "tiny.toml", "study", "--out"]), max_size=5)
)
def test_words(shell, arguments):
    if set(arguments) & HELP:
        return
    status, out, err = shell(*arguments)
    assert status in (None, 0, 2)
    if status == 2:
        told(err)
        assert out == ""
