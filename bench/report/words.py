"""Words and numbers of figures: names of parameters, budgets and files, literal texts."""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

from bench.errors import BenchError
from bench.registry.registry import Registry

FAMILY = "DejaVu Sans"  # comes with matplotlib, so the same on all machines
_LONGEST = 28  # characters per label
_NAMES = ("mu", "nu", "lambda", "gamma", "sigma", "tau", "theta", "alpha", "beta", "length")
_SYMBOLS = dict(zip(_NAMES, "μνλγστθαβℓ", strict=True)) | {"nugget": "τ²"}
_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=FAMILY))).get_charmap())


def literal(text: object, longest: int = _LONGEST) -> str:
    r"""Return a text that matplotlib shows literally, without mathematics.

    Long texts are shortened in the middle. Characters that the font lacks become boxes.

    Example:
        >>> literal("a$b$"), literal("x" * 50, 7)
        ('a\\$b\\$', 'xxx…xxx')
    """
    line = " ".join(str(text).split())
    if len(line) > longest:
        half = (longest - 1) // 2
        line = f"{line[: longest - 1 - half]}…{line[-half:]}"
    shown = "".join(c if ord(c) in _glyphs() and c.isprintable() else "□" for c in line)
    return shown.replace("$", r"\$")


def number(value: float) -> str:
    """Format a number in few characters, without mathematics: 0.05, 2,000, 2·10⁴, 10⁶.

    Example:
        >>> [number(v) for v in (0.05, 2000, 20_000, 1e6, -3, 0)]
        ['0.05', '2,000', '2·10⁴', '10⁶', '−3', '0']
    """
    if value == 0 or not 1e-3 <= abs(value) < 1e4:
        power = math.floor(math.log10(abs(value)) + 1e-9) if value and math.isfinite(value) else 0
        factor = f"{value / 10**power:.3g}·10{str(power).translate(_RAISED)}"
        return factor.removeprefix("1·").removesuffix("·10⁰").replace("-", "−")
    return (f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.3g}").replace("-", "−")


def calls(budget: float) -> str:
    """Format a budget: "50,000 calls", "2·10⁶ calls"."""
    return f"{f'{int(budget):,}' if budget < 1e5 else number(budget)} calls"


def slug(*parts: object) -> str:
    """Join words to a name that is valid on any file system."""
    words = (re.sub(r"[^A-Za-z0-9]+", "-", str(part)).strip("-").lower() for part in parts)
    return "-".join(word for word in words if word) or "figure"


def unique_slug(text: str) -> str:
    """Return a name for files and identifiers that no other text has.

    Example:
        >>> unique_slug("gaussians-far"), unique_slug("My Task")
        ('gaussians-far', 'my-task-3216')
    """
    name = slug(text)[:60]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:4]}"


def symbols(registry: Registry, task: str) -> dict[str, str]:
    """Return the axis labels of a task's parameters, with units; empty for an unknown task."""
    try:
        space = registry.task(task).space
    except BenchError:
        return {}
    return {
        p.name: (p.symbol or _SYMBOLS.get(p.name, p.name)) + (f" ({p.unit})" if p.unit else "")
        for p in space.parameters
    }


def written(names: Mapping[str, str] | None, parameter: str) -> str:
    """Return the axis label of a parameter."""
    if names and parameter in names:
        return names[parameter]
    component, dot, last = parameter.rpartition(".")  # key of a component's score
    return f"{component} {written(names, last)}" if dot else _SYMBOLS.get(parameter, parameter)


def bare(names: Mapping[str, str] | None, parameter: str) -> str:
    """Return the symbol of a parameter without its unit, and of "joint" a word for all."""
    if parameter == "joint":
        return "both" if len(names or "ab") == 2 else "all"
    return written(names, parameter).partition(" (")[0]


def valued(text: str, value: float) -> str:
    """Format a parameter with its value and unit: "z = 0.785 rad"."""
    symbol, _, unit = text.partition(" (")
    unit = unit.removesuffix(")")
    if unit.startswith("1/"):
        return f"{symbol} = {number(value)}{unit[1:]}"
    return f"{symbol} = {number(value)} {unit}".rstrip()


def parameters(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """Sort parameters in their task's order where it is known, with "joint" last."""
    known = {name: place for place, name in enumerate(order)}
    return sorted(set(names), key=lambda n: (n == "joint", known.get(n, len(known)), n))


def listed(words: Sequence[str]) -> str:
    """Join words: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))


def left_out(labels: Sequence[str]) -> str:
    """Return a sentence on methods that a figure omits; empty if there are none."""
    return f" Not drawn: {listed(labels)}." if labels else ""
