"""Numbers as tables of studies show them: errors on the last digits, differences marked."""

from math import isfinite, nan

from scipy import stats

from bench.boards.columns import parenthesised
from bench.stats.clustering import Estimate

LEVEL = 0.05
"""Chance that any difference is called one where there is none, over all of a table."""


def number(estimate: Estimate | None, sign: str = "") -> str:
    """Write an estimate with its error on the last digits, as −0.017(14).

    Args:
        estimate: the number; None writes "n/a".
        sign: "+" to write the sign of positive numbers.
    """
    if estimate is None:
        return "n/a"
    text = parenthesised(estimate.value, estimate.error).replace("-", "−")
    return f"+{text}" if sign and text[0].isdigit() else text


def both(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """Return an estimate and its error as cells of a CSV row, empty for None."""
    value, error = (estimate.value, estimate.error) if estimate else (None, None)
    return {name: value, f"{name}_error": error}


def p_value(estimate: Estimate | None, comparisons: int, equal: float = 0.0) -> float:
    """Test equality by Student's t, two-sided, corrected for the comparisons of a table.

    Args:
        estimate: a difference or a ratio.
        comparisons: number of comparisons (Bonferroni).
        equal: the difference or ratio of equal numbers.

    Returns:
        The p-value, at most 1; NaN without an error.
    """
    if estimate is None or not isfinite(estimate.error) or estimate.error <= 0:
        return nan
    pull = abs(estimate.value - equal) / estimate.error
    return min(1.0, float(2 * stats.t.sf(pull, estimate.dof)) * max(comparisons, 1))


def marked(estimate: Estimate | None, comparisons: int, equal: float = 0.0) -> str:
    """Write an estimate, bold where its 95 % interval excludes equality.

    The interval is widened for the number of comparisons (Bonferroni).
    """
    text = number(estimate)
    return f"**{text}**" if p_value(estimate, comparisons, equal) < LEVEL else text


def code(label: str) -> str:
    """Write a method's label as code in Markdown."""
    return f"`{label}`"
