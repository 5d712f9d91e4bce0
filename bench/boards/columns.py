"""Columns of leaderboard tables, grouped into sections."""

from collections.abc import Callable, Iterator, Sequence
from math import floor, isfinite, log10, nan
from typing import NamedTuple

from bench.boards.board import Leaderboard, Row
from bench.boards.quantities import parts
from bench.boards.verdict import SIGNS, decides
from bench.contracts import Metric
from bench.metrics import expected, heldout, intervals, likelihood, nuisances

_OWN = {
    value.name
    for module in (expected, heldout, intervals, likelihood, nuisances)
    for value in vars(module).values()
    if isinstance(value, Metric)
}
_WIDTH = 80  # characters per line of a table


class Column(NamedTuple):
    """Column of a table.

    Args:
        name: heading.
        text: returns the cell of a row.
        quantity: name of the quantity in the column; "" if none.
        rank: returns the rank interval of a row, in columns of ranks.
        left: whether it is aligned to the left.
    """

    name: str
    text: Callable[[Row], str]
    quantity: str = ""
    rank: Callable[[Row], tuple[int, int] | None] | None = None
    left: bool = False


def parenthesised(value: float, error: float) -> str:
    """Format a number with its standard error on the last digits, as 0.652(14).

    Two digits of the error are kept.

    Example:
        >>> parenthesised(0.65213, 0.0138), parenthesised(1234.5, 67.8), parenthesised(0.5, 0.0)
        ('0.652(14)', '1234(68)', '0.5000(0)')
    """
    if not isfinite(value):
        return "n/a"
    if not isfinite(error):
        return f"{value:.3g}(?)"
    if error <= 0:
        return f"{value:.4f}(0)"
    digits = max(0, 1 - floor(log10(error)))
    shown = round(error * 10**digits)
    if shown >= 100 and digits > 0:  # 0.0996 rounds up to three digits
        digits -= 1
        shown = round(error * 10**digits)
    return f"{value:.{digits}f}({shown})"


def _column(heading: str, name: str) -> Column:
    def text(row: Row) -> str:
        quantity = row.quantities.get(name)
        if quantity is None or quantity.estimate is None:
            return "n/a" if not row.fit.oracle or quantity is not None else "–"
        shown = parenthesised(quantity.estimate.value, quantity.estimate.error)
        return f"{shown} {quantity.where.replace('point ', '@')}".strip()

    return Column(heading, text, name)


def ranks_of(rank: tuple[int, int]) -> str:
    """Format a rank interval.

    Example:
        >>> ranks_of((1, 3)), ranks_of((2, 2))
        ('1–3', '2')
    """
    low, high = rank
    return str(low) if low == high else f"{low}–{high}"


def _rank(heading: str, rank: Callable[[Row], tuple[int, int] | None]) -> Column:
    def text(row: Row) -> str:
        found = rank(row)
        return "–" if found is None else ranks_of(found)

    return Column(heading, text, rank=rank)


def _verdict(heading: str, parameter: str, gap: str) -> Column:
    def text(row: Row) -> str:
        found = row.verdicts.get(parameter)
        if found is None:
            return "–" if row.fit.oracle else "n/a"
        return f"{SIGNS[found.word]} {found.word}"

    return Column(heading, text, gap, left=True)


def _components(name: str, gap: str) -> list[Column]:
    """Return the errors of a coverage gap from members and datasets, and what would decide."""

    def error(attribute: str) -> Callable[[Row], str]:
        def text(row: Row) -> str:
            value = getattr(row.estimate(gap), attribute, nan)
            return f"{100 * value:.1f}" if isfinite(value) else "–"

        return text

    def more(row: Row) -> str:
        found = row.verdicts.get(name)
        return "–" if found is None else decides(row, found) or "–"

    return [
        Column(f"{name} members", error("member_error")),
        Column(f"{name} datasets", error("set_error")),
        Column(f"{name} decides", more),
    ]


def _threshold(heading: str, name: str) -> Column:
    usual = _column(heading, name).text

    def text(row: Row) -> str:
        reason = row.quantities[name].reason if name in row.quantities else ""
        return reason if reason.startswith(">") else usual(row)

    return Column(heading, text, name)


def _cost(heading: str, name: str, form: str = "") -> Column:
    def text(row: Row) -> str:
        value = row.cost.get(name)
        return "–" if value is None else format(value, form)

    return Column(heading, text)


def two_lines(name: str) -> str:
    """Break a heading near its middle, so that columns stay narrow."""
    breaks = [i for i, character in enumerate(name) if character == " "]
    middle = min(breaks, key=lambda i: max(i, len(name) - i), default=len(name))
    return "\n".join(filter(None, (name[:middle], name[middle + 1 :])))


def sections(board: Leaderboard) -> list[tuple[str, list[Column]]]:
    """Return titles and columns of tables, each at most 80 characters wide."""
    method = Column("method", lambda r: r.label, left=True)
    columns = [
        _column(_heading(metric, parts(name)[1]), name)
        for metric, names in others(board)
        for name in names
    ]
    found = list(_fitting(board, method, columns))
    titles = ["Other metrics"] * len(found)
    if len(found) > 1:
        titles = [f"Other metrics, {i + 1} of {len(found)}" for i in range(len(found))]
    return _own_sections(board, method) + list(zip(titles, found, strict=True))


def others(board: Leaderboard) -> list[tuple[Metric, list[str]]]:
    """Return the metrics of plugins, each with the names of its mean values."""
    names: dict[str, list[str]] = {}
    for name in sorted({n for row in board.rows for n in row.quantities if "/" in n}):
        metric, _, statistic = parts(name)
        if not statistic:
            names.setdefault(metric, []).append(name)
    return [(m, names[m.name]) for m in board.metrics if m.name in names and m.name not in _OWN]


def direction(metric: Metric) -> str:
    """Return a sentence on the better direction; empty where the metric declares none."""
    if metric.target is not None:
        return f"{metric.target:g} is ideal."
    return f"{metric.better.capitalize()} is better." if metric.better else ""


def _heading(metric: Metric, key: str) -> str:
    arrow = {"lower": "↓", "higher": "↑"}.get(metric.better, "")
    if metric.target is not None:
        arrow = f"→ {metric.target:g}"
    unit = f"({metric.unit})" if metric.unit else ""
    return " ".join(filter(None, (metric.title, key, unit, arrow)))


def _fitting(
    board: Leaderboard, method: Column, columns: Sequence[Column]
) -> Iterator[list[Column]]:
    """Split columns into tables of limited width, each with the method first."""

    def width(column: Column) -> int:
        texts = [*two_lines(column.name).split("\n"), *map(column.text, board.rows)]
        return 2 + max(map(len, texts))

    table: list[Column] = []
    for column in columns:
        if table and sum(map(width, (method, *table, column))) - 2 > _WIDTH:
            yield [method, *table]
            table = []
        table.append(column)
    if table:
        yield [method, *table]


_Sections = Iterator[tuple[str, list[Column]]]
"""Titles of tables with their columns after the method's."""


def _own_sections(board: Leaderboard, method: Column) -> list[tuple[str, list[Column]]]:
    groups: tuple[Callable[[Leaderboard], _Sections], ...] = (
        *(_answer, _as_delivered, _honest_lengths, _components_of_gaps, _worst_places, _sizes),
        *(_gaps, _likelihoods, _regions, _nuisances, _cuts, _challenge, _costs),
    )
    if board.plan["kind"] == "heldout":
        groups = (_held_out,)
    return [(title, [method, *columns]) for group in groups for title, columns in group(board)]


def _held_out(board: Leaderboard) -> _Sections:
    yield "Held-out losses", _found(board, {"bce": "BCE", "nll": "NLL"})
    found = _found(board, {"log_mean_ratio": "log E", "score_error": "score error"})
    yield "Normalisation and score", found


def _answer(board: Leaderboard) -> _Sections:
    columns = [_verdict(f"coverage of {n}", n, _gap(board, n)) for n in board.parameters]
    if _any(board, "price"):
        columns.append(_column("honest length /exact", "price"))
    else:
        over = "hist." if board.reference == "histogram" else board.reference
        columns.append(_column(f"score /{over}", "score_ratio"))
    if any(row.likelihood_rank is not None for row in board.rows):
        columns.append(_rank("likelihood rank", lambda r: r.likelihood_rank))
    if board.ranks:
        columns.append(_rank("interval rank", lambda r: r.rank))
    yield "Which intervals to trust, and what they cost", columns


def _as_delivered(board: Leaderboard) -> _Sections:
    coverage, width = map(board.headline, ("coverage", "width"))
    columns = [_column(f"coverage {n}", f"{coverage}/{n}") for n in board.parameters]
    columns += [_length(board, n, width) for n in board.parameters]
    if _any(board, "price"):
        columns.append(_column(f"score /{board.reference}", "score_ratio"))
    where = "" if board.plain else ", within the box of the true parameters"
    yield f"As delivered{where}", columns


def _honest_lengths(board: Leaderboard) -> _Sections:
    for level, claimed in (("honest_length", "68.27 %"), ("honest_length_95", "95 %")):
        if not _any(board, *(f"{level}/{n}" for n in board.parameters)):
            continue
        threshold = level.replace("honest_length", "threshold")
        yield (
            f"Length at honest coverage, {claimed}, and the threshold that gives it",
            [
                *(_length(board, n, level) for n in board.parameters),
                *(_threshold(f"threshold {n}", f"{threshold}/{n}") for n in board.parameters),
            ],
        )


def _components_of_gaps(board: Leaderboard) -> _Sections:
    if any(row.verdicts for row in board.rows):
        yield (
            "Errors of the coverage gap in points, and what would decide the verdict",
            [column for n in board.parameters for column in _components(n, _gap(board, n))],
        )


def _by_parameter(board: Leaderboard, metric: str, title: str) -> _Sections:
    names = [f"{metric}/{n}" for n in board.parameters]
    if _any(board, *names):
        yield title, [_column(n, name) for n, name in zip(board.parameters, names, strict=True)]


def _worst_places(board: Leaderboard) -> _Sections:
    title = "Coverage at the parameter value where it is worst"
    return _by_parameter(board, "local_coverage", title)


def _sizes(board: Leaderboard) -> _Sections:
    """Yield verdicts by the size of datasets, and the largest size up to which they hold."""
    multiples = sorted({m for row in board.rows for m in row.at_multiples})

    def at(multiple: int) -> Column:
        def text(row: Row) -> str:
            word = row.at_multiples.get(multiple)
            return "–" if word is None else f"{SIGNS[word]} {word}"

        return Column(size_of(multiple), text, left=True)

    def largest(row: Row) -> str:
        if not row.at_multiples:
            return "–"
        return size_of(row.holds_up_to) if row.holds_up_to else "none"

    if multiples:
        columns = [*map(at, multiples), Column("holds up to", largest)]
        yield "Size of datasets up to which the coverage holds", columns


def _gaps(board: Leaderboard) -> _Sections:
    if board.reference != "exact":
        return
    coverage = board.headline("coverage")
    columns = [_column(f"gap {n}", f"{coverage}/{n}/gap") for n in board.parameters]
    columns += [
        _column(f"gap {n} at worst", f"coverage/{n}/worst")
        for n in board.parameters
        if _any(board, f"coverage/{n}/worst")
    ]
    yield "Coverage against the exact likelihood on the same datasets", columns


def _likelihoods(board: Leaderboard) -> _Sections:
    for metric, title in (
        ("divergence", "Divergence from the exact likelihood in the box, nats"),
        ("box_overlap", "Overlap with the exact likelihood in the box"),
        ("overlap_M", "Overlap with the exact likelihood of M events"),
        ("overlap_kM", "Overlap with the exact likelihood of all k M events"),
    ):
        if (board.plain or metric != "overlap_M") and _any(board, f"{metric}/joint"):
            names = {n: f"{metric}/{n}" for n in (*board.parameters, "joint")}
            yield title, [_column(n, name) for n, name in names.items() if _any(board, name)]


def _regions(board: Leaderboard) -> _Sections:
    coverage = _column("95 % coverage", f"{board.headline('region_coverage')}/")
    if board.reference != "exact":
        yield "95 % regions", [coverage, _column("95 % area", "region_area/")]
        return
    columns = [
        _column("LR error mean", "likelihood_ratio_error/"),
        _column("LR error median", "likelihood_ratio_error//median"),
        coverage,
    ]
    for heading, name in (
        ("95 % area /exact", "region_area//ratio"),
        ("information", "information/joint"),
    ):
        columns += [_column(heading, name)] if _any(board, name) else []
    yield "Likelihood ratios and 95 % regions", columns


def _nuisances(board: Leaderboard) -> _Sections:
    method = Column("method", lambda r: r.label, left=True)
    for metric, title in (
        ("pull", "Pulls of nuisance parameters, in widths of their constraints"),
        ("post_fit", "Widths of nuisance parameters after the fit, in those of their constraints"),
        ("impact", "Impacts of nuisance parameters on estimates"),
        ("nuisance_cost", "Widths in units of those with a nuisance parameter fixed, or all"),
    ):
        for _, *columns in _fitting(board, method, _found(board, {metric: ""})):
            yield title, columns


def _cuts(board: Leaderboard) -> _Sections:
    columns = [_column(n, f"cut/{n}") for n in (*board.parameters, "region")]
    yield "Share cut by a bound of the parameter space", columns


def _challenge(board: Leaderboard) -> _Sections:
    title = "Score of the FAIR Universe challenge, higher is better"
    return _by_parameter(board, "fair_universe_score", title)


def _costs(board: Leaderboard) -> _Sections:
    columns = [Column("members", lambda r: str(r.members)), _cost("calls", "calls", ",")]
    if any("calls_made" in row.cost for row in board.rows):
        columns.append(_cost("calls made", "calls_made", ","))
    yield (
        "Cost of one member",
        [
            *columns,
            _cost("train s", "seconds", ".1f"),
            _cost("to best s", "seconds_to_best", ".1f"),
            _cost("parameters", "parameters", ","),
            _cost("device", "device"),
        ],
    )


def _any(board: Leaderboard, *names: str) -> bool:
    """Return whether any row has any of the quantities."""
    return any(name in row.quantities for row in board.rows for name in names)


def _gap(board: Leaderboard, parameter: str) -> str:
    """Return the quantity that verdicts are about: the gap to `exact`, or plain coverage."""
    name = f"{board.headline('coverage')}/{parameter}"
    return f"{name}/gap" if board.reference == "exact" else name


def _length(board: Leaderboard, parameter: str, metric: str) -> Column:
    """Return a column of lengths, relative to exact's where it is there."""
    if board.reference == "exact":
        return _column(f"length {parameter} /exact", f"{metric}/{parameter}/ratio")
    return _column(f"length {parameter}", f"{metric}/{parameter}")


def size_of(multiple: int) -> str:
    """Return the size of a dataset in words.

    Example:
        >>> size_of(1), size_of(10)
        ('M', '10 M')
    """
    return "M" if multiple == 1 else f"{multiple} M"


def _found(board: Leaderboard, titles: dict[str, str]) -> list[Column]:
    """Return the columns of the metrics' keys that any row has."""
    names = {n for row in board.rows for n in row.quantities if n.count("/") == 1}
    return [
        _column(f"{title} {name.partition('/')[2]}".strip(), name)
        for metric, title in titles.items()
        for name in sorted(names)
        if name.partition("/")[0] == metric
    ]
