"""Write a working starting file for a method, a task, a wrapper or a metric: `bench new`."""

import keyword
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import FOLDER, with_default
from bench.echo import echo, tell
from bench.errors import UsageError

if TYPE_CHECKING:  # it imports torch, which is slow
    from bench.registry.registry import Kind


_KINDS: "dict[str, Kind]" = {
    "method": "methods",
    "metric": "metrics",
    "task": "tasks",
    "wrapper": "wrappers",
}


@click.group()
def new() -> None:
    """Write a starting file for your own method, task, wrapper or metric."""


def _add(kind: str) -> click.Command:
    @new.command(kind, help=f"Write a working {kind} called NAME, which you change into yours.")
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
        name: str, package: bool, out: str, parameters: int = 2, form: str = "density"
    ) -> None:
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
_add("wrapper")
with_default("--parameters", click.IntRange(1, 100), 2, "Number of parameters.")(_add("task"))


def _write(kind: str, name: str, package: bool, out: Path, parameters: int, form: str) -> None:
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
    folder = out / name if package else out
    variant = "" if form == "density" else f"_{form}"
    variant += "" if parameters == 2 else "_parameters"
    source = f"{kind}{variant}.py"
    wanted = {folder / f"{module}.py": source}
    if package:
        wanted[folder / "pyproject.toml"] = "package.toml"
        wanted[folder / f"test_{module}.py"] = f"test_{kind}.txt"
    for path in wanted:
        if path.exists():
            raise UsageError(f"{path} exists; move it away or choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    for path, template in wanted.items():
        path.write_text(_filled(template, kind, name, module, parameters), encoding="utf-8")
        tell(f"wrote {path}")
    preset = "quick" if kind == "method" else "smoke"
    only = {
        "metric": "",  # it runs with all others
        "wrapper": f" --method '{name}(histogram)'",
    }.get(kind, f" --{kind} {name}")
    if package:
        echo(f"pip install -e {folder}\nbench check {name}\nbench run {preset}{only}")
    else:
        file = folder / f"{module}.py"
        shown = file if file.is_absolute() else f"./{file}"
        echo(f"bench check {shown}\nbench run {preset} --plugin {shown}{only}")


def _filled(template: str, kind: str, name: str, module: str, parameters: int) -> str:
    text = files("bench.templates").joinpath(template).read_text(encoding="utf-8")
    words = "".join(word.capitalize() for word in re.split("[-_]", name))
    for old, filled in (
        ("range(1, 7)", f"range(1, {parameters})"),
        ("my_kind:MyKind", "my_metric:my_metric" if kind == "metric" else "my_kind:MyKind"),
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
