"""Words and numbers of figures: names of parameters, budgets and files, literal texts."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

from bench.errors import BenchError
from bench.registry.registry import Registry

FAMILY = "DejaVu Sans"  # comes with matplotlib, so the same on all machines
_LONGEST = 40  # characters per label
_SYMBOLS = {
    "mu": "μ",
    "nu": "ν",
    "lambda": "λ",
    "gamma": "γ",
    "sigma": "σ",
    "tau": "τ",
    "theta": "θ",
    "alpha": "α",
    "beta": "β",
    "length": "ℓ",
    "nugget": "τ²",
}


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


_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def number(value: float, digits: int = 3) -> str:
    """Format a number in few characters, without mathematics: 0.05, 2,000, 2·10⁴, 10⁶.

    Example:
        >>> [number(v) for v in (0.05, 2000, 20_000, 1e6, -3, 0)]
        ['0.05', '2,000', '2·10⁴', '10⁶', '−3', '0']
    """
    if not math.isfinite(value):
        return "n/a"
    if 1e3 <= abs(value) < 1e4:
        return f"{value:,.0f}".replace("-", "−")
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.{digits}g}".replace("-", "−")
    power = math.floor(math.log10(abs(value)) + 1e-9)
    factor = f"{value / 10**power:.{digits}g}".replace("-", "−")
    raised = f"10{str(power).translate(_RAISED)}"
    return {"1": raised, "−1": f"−{raised}"}.get(factor, f"{factor}·{raised}")


def with_error(value: float, error: float) -> str:
    """Format a number and its standard error as words for reading aloud: 0.652 ± 0.014.

    Example:
        >>> with_error(0.65213, 0.0138), with_error(12345, 678), with_error(0.5, float("nan"))
        ('0.652 ± 0.014', '12300 ± 700', '0.5, error unknown')
    """
    if not math.isfinite(value):
        return "n/a"
    if not math.isfinite(error):
        return f"{value:.3g}, error unknown"
    if error <= 0:
        return f"{value:.4g}"
    digits = 1 - math.floor(math.log10(error))
    if digits <= 0:
        digits -= 1
        return f"{round(value, digits):.0f} ± {round(error, digits):.0f}".replace("-", "−")
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "−")


def calls(budget: float) -> str:
    """Format a budget: "50,000 calls", "2·10⁶ calls"."""
    shown = f"{int(budget):,}" if budget < 1e5 else number(budget)
    return f"{shown} calls"


def slug(*parts: object) -> str:
    """Join words to a name that is valid on any file system."""
    words = (re.sub(r"[^A-Za-z0-9]+", "-", str(part)).strip("-").lower() for part in parts)
    return "-".join(word for word in words if word) or "figure"


def symbol(parameter: str) -> str:
    """Return the symbol of a parameter of an unknown task."""
    return _SYMBOLS.get(parameter, parameter)


def symbols(registry: Registry, task: str) -> dict[str, str]:
    """Return the axis labels of a task's parameters, with units; empty for an unknown task."""
    try:
        space = registry.task(task).space
    except BenchError:
        return {}
    return {
        p.name: (p.symbol or symbol(p.name)) + (f" ({p.unit})" if p.unit else "")
        for p in space.parameters
    }


def written(names: Mapping[str, str] | None, parameter: str) -> str:
    """Return the axis label of a parameter."""
    if parameter == "joint":
        return "jointly"
    if names and parameter in names:
        return names[parameter]
    component, dot, last = parameter.rpartition(".")  # key of a component's score
    return f"{component} {written(names, last)}" if dot else symbol(parameter)


def valued(text: str, value: float) -> str:
    """Format a parameter with its value and unit: "z = 0.785 rad"."""
    unit = text.partition(" (")[2].removesuffix(")")
    if unit.startswith("1/"):
        return f"{bare(text)} = {number(value)}{unit[1:]}"
    return f"{bare(text)} = {number(value)} {unit}".rstrip()


def capital(text: str) -> str:
    """Capitalise the first letter of a text."""
    return f"{text[0].upper()}{text[1:]}"


def bare(text: str) -> str:
    """Return a symbol without its unit."""
    return text.partition(" (")[0]


def parameters(names: Iterable[str], order: Sequence[str] = ()) -> list[str]:
    """Sort parameters in their task's order where it is known, with "joint" last."""
    known = {name: place for place, name in enumerate(order)}
    return sorted(set(names), key=lambda n: (n == "joint", known.get(n, len(known)), n))


def listed(words: Sequence[str]) -> str:
    """Join words: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))
