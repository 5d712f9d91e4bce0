"""Write a working starting file for a method, a task or another plugin: `bench new`."""

import json
import keyword
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import COUNT, FOLDER, with_default
from bench.echo import echo, tell
from bench.errors import UsageError

if TYPE_CHECKING:  # it imports torch, which is slow
    from bench.registry.registry import Kind


_KINDS: "dict[str, Kind]" = {
    "diagnostic": "diagnostics",
    "method": "methods",
    "metric": "metrics",
    "simulator": "tasks",
    "task": "tasks",
    "wrapper": "wrappers",
}
_INSTANCES = ("diagnostic", "metric")  # templates define an instance, others a class


@click.group()
def new() -> None:
    """Write a starting file for a task, a method or others."""


def _add(kind: str) -> click.Command:
    @new.command(kind, help=f"Write a working {kind} called NAME, to change into yours.")
    @click.argument("name")
    @click.option(
        "--package",
        is_flag=True,
        help="Write an installable package with an entry point and a test.",
    )
    @click.option(
        "--out",
        type=FOLDER,
        default=".",
        help="Write to this folder.  [default: the current folder]",
    )
    def command(
        name: str,
        package: bool,
        out: str,
        parameters: int = 2,
        form: str = "density",
        simulations: str | None = None,
        theta: tuple[str, ...] = (),
        observations: int = 1,
    ) -> None:
        if simulations is not None:
            if package:
                raise UsageError("--package writes no file of simulations; leave one of both out")
            _write_stored(name, Path(out), Path(simulations), theta, observations)
            return
        if theta or observations != 1:
            raise UsageError("--theta and --observations describe a file: add --simulations FILE")
        _write(kind, name, package, Path(out), parameters, form)

    return command


click.option(
    "--kind",
    "form",
    type=click.Choice(["density", "ratio", "torch"]),
    default="density",
    show_default=True,
    help="Learn a density, a ratio with scikit-learn, or a ratio with PyTorch.",
)(_add("method"))
_add("metric")
_add("diagnostic")
_add("wrapper")
_task = _add("task")
for _option in (
    with_default("--parameters", click.IntRange(1, 100), 2, "Number of parameters."),
    click.option(
        "--simulations",
        metavar="FILE",
        help="Take simulations from this .npz or .parquet file instead of a simulator.",
    ),
    click.option(
        "--theta",
        multiple=True,
        metavar="NAME",
        help="Name a parameter of the file, in order; repeatable. Columns of a .parquet file.",
    ),
    with_default("--observations", COUNT, 1, "Observations in a row of the file."),
):
    _option(_task)


def _write(kind: str, name: str, package: bool, out: Path, parameters: int, form: str) -> None:
    module = _module(kind, name)
    folder = out / name if package else out
    variant = "" if form == "density" else f"_{form}"
    variant += "" if parameters == 2 else "_parameters"
    source = f"{kind}{variant}.py"
    wanted = {folder / f"{module}.py": source}
    if package:
        wanted[folder / "pyproject.toml"] = "package.toml"
        wanted[folder / f"test_{module}.py"] = f"test_{kind}.txt"
    _save({path: _filled(text, kind, name, module, parameters) for path, text in wanted.items()})
    preset = {"method": "quick", "diagnostic": ""}.get(kind, "smoke")  # runs have no diagnostics
    only = {
        "metric": "",  # it runs with all others
        "wrapper": f" --method '{name}(histogram)'",
    }.get(kind, f" --{kind} {name}")
    if package:
        echo(f"pip install -e {folder}\nbench check {name}")
        if preset:
            echo(f"bench run {preset}{only}")
    else:
        _echo_commands(folder / f"{module}.py", preset, only)


@new.command("simulator")
@click.argument("name")
@click.option(
    "--out",
    type=FOLDER,
    default=".",
    help="Write to this folder.  [default: the current folder]",
)
def _simulator(name: str, out: str) -> None:
    """Write a working simulator called NAME, to change into yours."""
    file = Path(out) / f"{_module('simulator', name)}.py"
    _save({file: _filled("simulator.py", "simulator", name, file.stem, 2)})
    echo(f"bench trust {file if file.is_absolute() else f'./{file}'}")


def _write_stored(
    name: str, out: Path, file: Path, names: Sequence[str], observations: int
) -> None:
    """Write a task of the simulations in a file, with the ranges that its rows fill."""
    from bench.contracts import Parameter, read_simulations
    from bench.contracts.simulation_files import ranges

    module = _module("task", name)
    found = ranges(file, names)
    parameters = [
        Parameter(parameter, low, high, "interest", inner)
        for parameter, (low, high, inner) in found.items()
    ]
    read_simulations(file, parameters, observations=observations)
    shown = Path(os.path.relpath(file.resolve(), out.resolve())).as_posix()
    lines = [
        f'Parameter({json.dumps(p.name)}, {p.low}, {p.high}, "interest", {p.inner}),'
        for p in parameters
    ]
    text = _filled("task_stored.txt", "task", name, module, len(parameters))
    for old, new in (
        ('"simulations.npz"', json.dumps(shown)),
        ('Parameter("theta1", 0.0, 1.0, "interest", (0.1, 0.9)),', "\n        ".join(lines)),
        ("observations=1,", f"observations={observations},"),
    ):
        text = text.replace(old, new)
    _save({out / f"{module}.py": text})
    _echo_commands(out / f"{module}.py", "smoke", f" --task {name}")


def _module(kind: str, name: str) -> str:
    """Return the module's name of a new object.

    Raises:
        UsageError: if the name is not allowed or taken.
    """
    from bench.registry.registry import Registry

    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) or len(name) > 40:
        raise UsageError(
            f"name {name!r} is not allowed: lower-case letters and digits, words joined by -, as "
            f"in my-{kind}"
        )
    module = name.replace("-", "_")
    registry = Registry()
    if name in registry.names(_KINDS[kind]):
        raise UsageError(f"there is a {kind} {name!r} already; choose another name")
    if keyword.iskeyword(module) or module in ("bench", "torch", kind):
        raise UsageError(f"a file must not be called {module}.py; choose another name")
    return module


def _save(texts: Mapping[Path, str]) -> None:
    """Write new files.

    Raises:
        UsageError: if one exists.
    """
    for path in texts:
        if path.exists():
            raise UsageError(f"{path} exists; move it away or choose another name")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        tell(f"wrote {path}")


def _echo_commands(file: Path, preset: str, only: str) -> None:
    shown = file if file.is_absolute() else f"./{file}"
    echo(f"bench check {shown}")
    if preset:
        echo(f"bench run {preset} --plugin {shown}{only}")


def _filled(template: str, kind: str, name: str, module: str, parameters: int) -> str:
    text = files("bench.templates").joinpath(template).read_text(encoding="utf-8")
    words = "".join(word.capitalize() for word in re.split("[-_]", name))
    for old, filled in (
        ("range(1, 7)", f"range(1, {parameters})"),
        ("my_kind:MyKind", "my_kind:my_kind" if kind in _INSTANCES else "my_kind:MyKind"),
        ("my-kind", f"my-{kind}"),
        ("my_kind", f"my_{kind}"),
        ("MyKind", f"My{kind.capitalize()}"),
        ("nlbench.kinds", f"nlbench.{kind}s"),
        ("A kind for", f"A {kind} for"),
        (f"my-{kind}", name),
        (f"my_{kind}", module),
        (f"My{kind.capitalize()}", words),
    ):
        text = text.replace(old, filled)
    return text
