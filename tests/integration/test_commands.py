"""Commands of the README and the documentation run as typed, page by page, in an empty folder.

A page is a story: the lines of its shell blocks run in order, and so do lines of other blocks that
begin with `bench`. A block after "Save … as `FILE`" is written to that file. The rules:

- `bench` commands run in this process, with exceptions for long ones. `bench run` becomes
  `bench plan`, with the options of `PLANNED` unless it has its own. Of `bench study`, `tune` and
  `data`, of runs on a cluster or a GPU, and of commands in a sentence, options are only parsed.
- On the page `TRAINED`, `bench run smoke` does run, with the options of `RUN`.
- Committed files that a command names are copied. Folders of results are copied with one task, one
  fit of each method and independent datasets. Folders of one's own runs, `OWN`, are copies of
  `INSTEAD`. Reports have no figures, and plans time no simulator.
- `git clone` has the address of the project. Bash parses all blocks, and runs none.
"""

import itertools
import re
import shlex
import shutil
import subprocess
import tomllib
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench.cli.main import cli
from bench.storage.pack import PACK, Pack, packed

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    *sorted(
        str(page.relative_to(ROOT))
        for page in (ROOT / "docs").rglob("*.md")
        if not page.relative_to(ROOT).parts[1].startswith("_")
    ),
]
TRAINED = "docs/tutorials/first-benchmark.md"
SHELLS = ("sh", "bash")
NOT_RUN = {".", "cd", "dask", "done", "for", "kubectl", "pip", "python", "python3", "sbatch", "tox"}
RUN = {"--task": "gaussians-far", "--method": "histogram", "--workers": "1"}
PLANNED = {"--members": "1", "--budget": "10000"}
PARSED_ONLY = ("data", "study", "trust", "tune")
OWN, INSTEAD = {"mine", "quick", "smoke"}, "gaussians-budgets"


def blocks(page):
    """Yield language, content and the file's name, if it is to be saved, of a page's blocks."""
    text, end = (ROOT / page).read_text(), 0
    for found in re.finditer(r"^( *)```(\S*)[^\n]*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        saved = re.search(r"Save [^`]*? as\s+`([\w.]+)`[^`]*$", text[end : found.start()])
        yield found[2], found[3], saved and saved[1]
        end = found.end()


def commands(language, block):
    """Yield program and arguments of each command of a block."""
    for line in block.replace("\\\n", " ").splitlines():
        if language not in SHELLS and not line.startswith("bench "):
            continue
        words = shlex.split(line, comments=True)
        for joined in itertools.groupby(words, lambda word: word in ("&&", "&", "|")):
            if not joined[0]:
                name, *arguments = (w for w in joined[1] if not re.match(r"[A-Z_]+=", w))
                yield name.rpartition("/")[2], arguments


def parse(words):
    """Parse a command of `bench` without running it."""
    command, rest = cli, list(words)
    while isinstance(command, click.Group):
        assert rest, words
        assert rest[0] in command.commands, words
        command = command.commands[rest.pop(0)]
    command.make_context("bench", rest)


def lend(name, to):
    """Write a part of committed results to a folder."""
    pack = Pack(ROOT / "results" / name / PACK)
    keys = pack.keys()
    fits = {key.split("/")[2]: pack.record(key) for key in keys if key.endswith("/fit")}
    last = max(record["task"] for record in fits.values())
    kept = {}
    for fit, record in sorted(fits.items(), key=lambda item: item[1]["identity"]["budget"]):
        if record["task"] == last:
            kept.setdefault(record["method"], fit)
    entries = [
        (key, pack.record(key), pack.arrays(key) if pack.has_arrays(key) else {})
        for key in keys
        if key.startswith("plans/independent-")
        or (set(kept.values()) & {*key.split("/")} and ("fits/" in key or "/independent-" in key))
    ]
    to.mkdir(parents=True)
    (to / PACK).write_bytes(packed(entries))
    shutil.copy(ROOT / "results" / name / "run.json", to)


def bring(words):
    """Copy the committed files and folders of results that a command names and the page lacks."""
    for word in words:
        here, there = Path(word), ROOT / word
        if not re.match(r"(results|bench)/", word) or here.exists():
            continue
        if there.is_file():
            here.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(there, here)
        elif words[0] not in ("run", "plan"):
            lend(INSTEAD if there.name in OWN else there.name, here)


def shortened(words, trained):
    """Return a command that is short enough to run here, or None if it only has to parse."""
    if words[0] in PARSED_ONLY or "--scheduler" in words or "cuda" in words:
        return None
    if words[0] not in ("run", "plan"):
        return words
    runs = trained and words[:2] == ["run", "smoke"]
    words = [*words, "--quiet"] if runs else ["plan", *words[1:]]
    for option, value in (RUN if runs else PLANNED).items():
        words += [] if option in words else [option, value]
    return words


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page):
    text = (ROOT / page).read_text()
    for inline in re.findall(r"(?<!`)`bench\s+([a-z][^`]*)`", text):
        with suppress(click.MissingParameter):  # `bench run` names a command, and is not one
            parse(shlex.split(inline))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for language, block, _ in blocks(page):
        if language in SHELLS:
            subprocess.run(["bash", "-n"], input=block, text=True, check=True, timeout=60)
        for name, words in commands(language, block):
            if name == "bench":
                parse(words)
            elif name == "git":
                assert words == ["clone", project["urls"]["Repository"]]
            else:
                assert name == "cp" or name in NOT_RUN, name


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if [*blocks(page)]])
def test_commands_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.report.write.figures", lambda loaded: iter(()))
    monkeypatch.setattr("bench.experiment.cost._seconds_each", lambda function, most: 1e-6)
    for language, block, saved in blocks(page):
        if saved:
            Path(saved).write_text(block)
        if "np.savez(" in block:
            exec(block, {})  # commands below read the file
        for name, words in commands(language, block):
            if name == "cp":
                bring(words[:-1])
                subprocess.run(["cp", *words], check=True, timeout=60)
            if name != "bench" or (short := shortened(words, page == TRAINED)) is None:
                continue
            bring(words)
            result = CliRunner().invoke(cli, short)
            assert result.exit_code == 0, (words, result.output, result.exception)
            assert short[0] != "run" or ", 0 failed" in result.output
