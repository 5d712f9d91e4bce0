"""Every option of every command, with invalid values.

Values that are not allowed must end with status 2 and one line, and start nothing.
"""

import fnmatch
import io
import shutil
import sys
from pathlib import Path

import click
import pytest
from allowed import (
    MILLION,
    REGISTRY,
    a_configuration,
    a_folder,
    a_method,
    a_new,
    a_number,
    an_integer,
    names,
    never,
    one_line,
    one_of,
)
from hypothesis import given
from hypothesis import strategies as st

import bench.experiment.schedule
import bench.report.write  # imports matplotlib, which makes a folder for itself
import bench.storage.store
import bench.studies.device
import bench.studies.examples
import bench.studies.features
import bench.studies.scaling
import bench.testing
import bench.tuning.tune
from bench.cli import main as program
from bench.cli.main import cli
from bench.studies.device_networks import NETWORKS
from bench.studies.scaling_laws import laws

PLUGINS = Path(__file__).parents[1] / "plugins"


class Started(Exception):
    """Signal that a command was about to make or fetch something."""


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Return a function that runs commands in a folder of its own, and stops before any work."""
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
        """Return exit status, standard output and error; status None if work would begin."""
        out, err = io.StringIO(), io.StringIO()
        status = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "dont_write_bytecode", True)
            patch.setattr(sys, "argv", ["bench", *arguments])
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(bench.storage.store.Store, "__init__", start)
            patch.setattr(bench.storage.store.Store, "write_bytes", start)
            patch.setattr(bench.experiment.schedule, "estimate", start)
            patch.setattr(bench.studies.features, "tests", start)
            patch.setattr(bench.studies.examples, "figure", start)
            patch.setattr(bench.studies.scaling, "measure", start)
            patch.setattr(bench.studies.device, "roof", start)
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

    run("list")  # performs late imports
    return run


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
OF_RESULTS = {"": never, "--task": never, "--method": never, "--metric": never}
SIZES = {law.size for law in laws(REGISTRY)}


def names_of(known):
    """A pattern that matches one of these."""
    return lambda pattern: bool(fnmatch.filter(known, pattern))


COMMANDS = {  # how it begins, what else is allowed, and whether then it makes something
    "run": (["run", "tiny.toml", "--plugin", "simple.py"], RUN),
    "plan": (["plan", "tiny.toml", "--plugin", "simple.py"], RUN),
    "check": (
        ["check"],
        {"": a_configuration, "--task": one_of(*REGISTRY.names("tasks")), "--plugin": never},
    ),
    "new method": (["new", "method"], {"": a_new("method"), "--out": a_folder}),
    "new task": (
        ["new", "task"],
        {"": a_new("task"), "--parameters": an_integer(1, 100), "--out": a_folder},
    ),
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
            "--out": None,  # checked last
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
            "--out": None,  # checked last
            "--plugin": never,
        },
    ),
    "study equivalence": (["study", "equivalence"], {"": never, "--out": None}),
    "study differences": (["study", "differences", "made"], OF_RESULTS | {"--against": never}),
    "study calibration": (["study", "calibration", "made"], OF_RESULTS),
    "study networks": (["study", "networks", "made"], OF_RESULTS),
    "study averaging": (
        ["study", "averaging", "made"],
        {"": never, "--task": never, "--method": never},
    ),
    "study decomposition": (
        ["study", "decomposition", "made"],
        {
            "": never,
            "--task": never,
            "--method": never,
            "--datasets": never,
            "--simulations": never,
            "--out": None,
            "--plugin": never,
        },
    ),
    "study expectations": (
        ["study", "expectations", "made"],
        {"": never, "--task": never, "--method": never, "--out": None},
    ),
    "study points": (
        ["study", "points", "made"],
        {"": never, "--task": never, "--method": never, "--by": never, "--plugin": never},
    ),
    "study score-times": (
        ["study", "score-times", "made"],
        {"": never, "--task": never, "--budget": never, "--turns": never, "--out": never},
    ),
    "study examples": (
        ["study", "examples", "--task", "gp"],
        {
            "--task": names("tasks"),
            "--seed": an_integer(0, 2**31 - 1),
            "--out": None,  # is looked at in the end
            "--plugin": never,
        },
    ),
    "study scaling": (
        ["study", "scaling"],
        {"--only": names_of(SIZES), "--repeats": an_integer(2, MILLION), "--out": None},
    ),
    "study device": (
        ["study", "device"],
        {
            "--device": one_of("auto", "cpu"),
            "--network": names_of(NETWORKS),
            "--members": an_integer(1, MILLION),
            "--batch": an_integer(1, MILLION),
            "--repeats": an_integer(2, MILLION),
            "--out": None,
        },
    ),
    "results pack": (["results", "pack"], {"": never}),
    "status": (["status"], {"": never}),
    "score": (["score"], {"": never, "--workers": never, "--plugin": never}),
    "leaderboard": (
        ["leaderboard", "made"],
        {
            "--task": never,
            "--format": never,
            "--tolerance": a_number(0, 100),
            "--level": a_number(50, 100, closed="low"),
            "--plugin": never,
            "": never,
        },
    ),
    "list": (
        ["list"],
        {
            "": one_of("tasks", "methods", "wrappers", "metrics", "diagnostics", "presets"),
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
words = st.characters(exclude_categories=["Cs"], exclude_characters="\0")  # valid arguments
odd = st.sampled_from(ODD) | st.text(words, max_size=8) | st.integers().map(str)


def told(err):
    """Return the one line of an error message, or fail."""
    assert err.startswith("bench: "), err
    assert err.endswith("\n")
    line = err.removesuffix("\n")
    assert one_line(line), line
    assert line.isprintable(), line
    assert "bench: unexpected" not in line, line
    return line


FLAGS = {"--debug", "--overwrite", "--quiet", "--multinomial", "--package"}
HELP = {"-h", "--help", "--version"} | FLAGS
NAMELESS = {"new method", "new task", "results pack"}  # do nothing without their argument


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
