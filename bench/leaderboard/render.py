"""Renders leaderboards: a terminal's tables, Markdown, CSV, JSON."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from math import floor, isfinite, log10
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.leaderboard.build import Leaderboard, Quantity, Row
from bench.leaderboard.units import FEWEST_BLOCKS
from bench.leaderboard.verdict import verdict
from bench.stages.cells import size


class Column(NamedTuple):
    """A column of a table.

    Args:
        name: its heading.
        text: what it says of a row.
        quantity: the quantity of leaderboards that it shows, if it shows one.
    """

    name: str
    text: Callable[[Row], str]
    quantity: str = ""


def parenthesised(value: float, error: float) -> str:
    """Writes a number with its standard error on the last digits, as 0.652(14).

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


def _rank(row: Row) -> str:
    if row.rank is None:
        return "–"
    low, high = row.rank
    return str(low) if low == high else f"{low}–{high}"


def _number(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form)


def sections(board: Leaderboard) -> list[tuple[str, list[Column]]]:
    """What a reader sees, in tables that fit 80 columns."""
    method = Column("method", lambda r: r.label)
    if board.plan["kind"] == "heldout":
        return [
            ("Held-out losses", [method, *_found(board, {"bce": "BCE", "nll": "NLL"})]),
            (
                "Normalisation and score",
                [method, *_found(board, {"log_mean_ratio": "log E", "score_error": "score error"})],
            ),
        ]
    names = board.parameters
    over = "hist." if board.reference == "histogram" else board.reference
    ranks = any(row.rank is not None for row in board.rows)
    exact = board.reference == "exact"  # without it lengths are absolute, and the rest is n/a
    gaps = [
        method,
        *(_column(f"gap {n}", f"coverage/{n}/gap") for n in names),
        *(
            _column(f"gap {n} at worst", f"coverage/{n}/worst")
            for n in names
            if any(f"coverage/{n}/worst" in row.quantities for row in board.rows)
        ),
    ]
    regions = [
        method,
        _column("LR error mean", "likelihood_ratio_error/"),
        _column("LR error median", "likelihood_ratio_error//median"),
        _column("95 % coverage", "region_coverage/"),
        _column("95 % area /exact", "region_area//ratio"),
    ]
    if not exact:
        regions = [method, regions[3], _column("95 % area", "region_area/")]
    found: list[tuple[str, list[Column]]] = [
        (
            "Which intervals are short and still cover",
            [
                *([Column("rank", _rank)] if ranks else []),
                method,
                _column(f"score /{over}", "score_ratio"),
                *(_column(f"coverage {n}", f"coverage/{n}") for n in names),
                *(
                    _column(f"width {n} /exact", f"width/{n}/ratio")
                    if exact
                    else _column(f"width {n}", f"width/{n}")
                    for n in names
                ),
            ],
        ),
        *([("Coverage against the exact likelihood on the same datasets", gaps)] * exact),
        *(
            (f"Overlap with the exact likelihood of {events}", [method, *columns])
            for events, metric in (("M events", "overlap_M"), ("all k M events", "overlap_kM"))
            if (columns := [_column(n, f"{metric}/{n}") for n in (*names, "joint")])
            and any(f"{metric}/joint" in row.quantities for row in board.rows)
        ),
        ("Likelihood ratios and 95 % regions" if exact else "95 % regions", regions),
        (
            "Share cut by a bound of the parameter space",
            [method, *(_column(n, f"cut/{n}") for n in (*names, "region"))],
        ),
        (
            "Cost of one member",
            [
                method,
                Column("members", lambda r: str(r.members)),
                Column("calls", lambda r: _number(r.cost.get("calls"), ",")),
                Column("train s", lambda r: _number(r.cost.get("seconds"), ".1f")),
                Column("to best s", lambda r: _number(r.cost.get("seconds_to_best"), ".1f")),
                Column("parameters", lambda r: _number(r.cost.get("parameters"), ",")),
                Column("device", lambda r: str(r.cost.get("device", "–"))),
            ],
        ),
    ]
    return found


def _found(board: Leaderboard, titles: dict[str, str]) -> list[Column]:
    """Columns of the metrics' keys that any row has."""
    names = {n for row in board.rows for n in row.quantities if n.count("/") == 1}
    return [
        _column(f"{title} {name.partition('/')[2]}", name)
        for metric, title in titles.items()
        for name in sorted(names)
        if name.partition("/")[0] == metric
    ]


def heading(board: Leaderboard) -> str:
    """One line that says what a leaderboard compares."""
    data = {
        "fresh": "a new training set per member"
        if board.blocks is None
        else "training on finite observations",
        "shared": "one training set, on which errors are conditional",
        "bootstrap": "bootstraps of one training set",
    }.get(board.training_data, "no training")
    return f"{board.task} · {board.budget:,} simulator calls · {data} · {_plan(board.plan)}"


def _plan(plan: Mapping[str, Any]) -> str:
    if plan["kind"] == "independent":
        return (
            f"independent datasets: {plan['uniform']} with θ uniform, {plan['per_point']} at "
            "each point"
        )
    if plan["kind"] == "bootstrap":
        return (
            f"bootstrap plan: at each point {plan['sets']} × {plan['multiple']} M events, "
            f"each resampled {plan['bootstraps']} times"
        )
    return f"held-out simulations at {plan['contexts']} contexts, {plan['events']} at each"


def notes(board: Leaderboard, brief: bool = False) -> list[str]:
    """What a reader must know to read the numbers, and what is missing."""
    out = []
    if board.plan["kind"] != "heldout":
        out.append(
            f"68.27 % intervals; expected coverage of exact ones {100 * board.expected:.1f} %. "
            "0.652(14) means 0.652 ± 0.014 (one standard error)."
        )
    if board.plan["kind"] == "independent":
        out.append("Rank: the interval of ranks that 95 % simultaneous comparisons allow.")
    out += _finite(board)
    if any(r.members == 1 and not r.fit.oracle for r in board.rows):
        out.append("With n = 1 errors hold for that one training set only.")
    if board.training_data == "fresh" and any(size(r.fit.identity) > 1 for r in board.rows):
        out.append(
            "ensemble(…, N) averages N members with training sets of their own: it costs N times "
            "the simulator calls of the others."
        )
    if any(r.fit.identity.get("calibration") for r in board.rows):
        out.append(
            "calibrated(…) spends a tenth of its simulator calls on calibrating; what it "
            "calibrates has the rest."
        )
    for row in board.rows:
        for name, quantity in row.quantities.items():
            if name.startswith("not_finite/") and quantity.estimate and quantity.estimate.value > 0:
                share = f"{100 * quantity.estimate.value:.2g} %"
                out.append(
                    f"{row.label}: {share} of the held-out log-densities of "
                    f"{name.partition('/')[2]} are not finite; losses leave their contexts out."
                )
        for what, reason in row.failures.items():
            out.append(f"{row.label}: {what} failed: {reason}")
    out += [f"{label}: n/a, {reason}" for label, reason in board.absent.items()]
    if brief:
        return out
    reasons: dict[str, list[str]] = {}
    for row in board.rows:
        for name, quantity in row.quantities.items():
            if quantity.estimate is None:
                reasons.setdefault(f"{name}: {quantity.reason}", []).append(row.label)
    out += [f"n/a {what} ({', '.join(labels)})" for what, labels in reasons.items()]
    return out


def _finite(board: Leaderboard) -> list[str]:
    """What finite observations mean for a leaderboard."""
    if board.blocks is None:
        return []
    out = [
        "Observations are finite: members train on the same ones, each in an order and at contexts "
        "of its own, and errors hold for these training observations only."
    ]
    if board.plan["kind"] != "heldout":
        few = "" if board.blocks >= FEWEST_BLOCKS else f", and (?) with fewer than {FEWEST_BLOCKS}"
        out.append(
            f"Datasets are drawn from {board.blocks} disjoint blocks of test observations, the "
            f"same at every θ; errors are over members and blocks{few}."
        )
    if board.asked is not None and _plan(board.asked) != _plan(board.plan):
        out.append(
            f"Too few test observations for what was asked, {_plan(board.asked)}: the plan shrank."
        )
    return out


def _two_lines(name: str) -> str:
    """Breaks a heading near its middle, so that columns stay narrow."""
    breaks = [i for i, character in enumerate(name) if character == " "]
    if not breaks:
        return name
    middle = min(breaks, key=lambda i: max(i, len(name) - i))
    return name[:middle] + "\n" + name[middle + 1 :]


def printed(what: Text | Table, style: str = "") -> str:
    """Prints for a terminal, as wide as it is, a table as wide as it needs.

    A number cut short would lie: on a narrow terminal a table may be wider than it.
    """
    width = Console().width
    needed = Console(width=1000).measure(what).maximum if isinstance(what, Table) else 0
    console = Console(width=max(width, needed), highlight=False)
    with console.capture() as captured:
        console.print(what, style=style)
    return captured.get()


def escape(text: str) -> str:
    """Writes a text so that Markdown shows it as it is, in a table too."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def table(boards: Sequence[Leaderboard], brief: bool = False) -> str:
    """Renders for a terminal, as wide as it is.

    Args:
        boards: the leaderboards.
        brief: only the first table and the verdict of those that rank; the rest if none does.
    """
    lines: list[str] = []

    def show(what: Text | Table, style: str = "") -> None:
        lines.append(printed(what, style))

    ranking = [board for board in boards if any(row.rank for row in board.rows)]
    for board in ranking if brief and ranking else boards:
        show(Text(heading(board)), "bold")
        tables = sections(board)
        for number, (title, columns) in enumerate(tables[:1] if brief else tables):
            grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for column in columns:
                left = column.name in ("method", "device")
                grid.add_column(_two_lines(column.name), justify="left" if left else "right")
            for row in board.rows:
                cells = [Text(column.text(row), no_wrap=True) for column in columns]
                grid.add_row(*cells, style="dim" if row.fit.oracle else "")
            show(Text(title), "italic")
            show(grid)
            for sentence in verdict(board) if number == 0 else ():
                show(Text(sentence))
            lines.append("\n")
        for note in notes(board, brief):
            show(Text(note), "dim")
        lines.append("\n")
    return "".join(lines)


def markdown(boards: Sequence[Leaderboard]) -> str:
    """Renders GitHub-flavoured Markdown."""
    lines: list[str] = []
    for board in boards:
        lines += [f"### {escape(heading(board))}", ""]
        for number, (title, columns) in enumerate(sections(board)):
            lines += [f"**{escape(title)}**", ""]
            lines.append("| " + " | ".join(escape(column.name) for column in columns) + " |")
            lines.append("|" + " --- |" * len(columns))
            for row in board.rows:
                lines.append(
                    "| " + " | ".join(escape(column.text(row)) for column in columns) + " |"
                )
            lines.append("")
            if number == 0:
                lines += [f"{escape(sentence)}\n" for sentence in verdict(board)]
        lines += [f"- {escape(note)}" for note in notes(board)]
        lines.append("")
    return "\n".join(lines)


def flat(boards: Sequence[Leaderboard]) -> list[dict[str, Any]]:
    """One record per number, with its error; what CSV and JSON hold."""
    records = []
    for board in boards:
        for row in board.rows:
            base = {
                "task": board.task,
                "budget": board.budget,
                "training_data": board.training_data,
                "seed": board.seed,
                "plan": board.plan_folder,
                "method": row.fit.method,
                "configuration": row.fit.configuration,
                "ensemble": size(row.fit.identity),
                "calibration": (row.fit.identity.get("calibration") or {}).get("kind", ""),
                "fit": row.fit.folder,
                "members": row.members,
                "rank_low": row.rank[0] if row.rank else None,
                "rank_high": row.rank[1] if row.rank else None,
            }
            for name, quantity in row.quantities.items():
                records.append(base | {"quantity": name} | _flat(quantity))
            for name, value in row.cost.items():
                number = value if isinstance(value, int | float) else None
                note = "" if number is not None else str(value)
                records.append(base | {"quantity": f"cost/{name}"} | _flat(None, number, note))
            for what, reason in row.failures.items():
                records.append(base | {"quantity": f"failure/{what}"} | _flat(None, None, reason))
        for label, reason in board.absent.items():
            whole = label.startswith(("ensemble(", "calibrated("))  # these have no simpler form
            method, _, configuration = (label, "", "") if whole else label.partition(":")
            records.append(
                dict.fromkeys(records[0] if records else ())
                | {
                    "task": board.task,
                    "budget": board.budget,
                    "method": method,
                    "configuration": configuration,
                    "quantity": "absent",
                    "note": reason,
                }
            )
    return records


def _flat(quantity: Quantity | None, value: Any = None, note: str = "") -> dict[str, Any]:
    estimate = quantity.estimate if quantity is not None else None

    def finite(number: float | None) -> float | None:
        return number if number is not None and isfinite(number) else None

    return {
        "value": finite(estimate.value) if estimate else value,
        "error": finite(estimate.error) if estimate else None,
        "dof": finite(estimate.dof) if estimate else None,
        "member_error": finite(estimate.member_error) if estimate else None,
        "set_error": finite(estimate.set_error) if estimate else None,
        "note": (quantity.reason or quantity.where) if quantity is not None else note,
    }


def csv_of(records: Sequence[Mapping[str, Any]]) -> str:
    """Renders records of the same keys as comma-separated values; nothing where there are none."""
    buffer = io.StringIO()
    if records:
        writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return buffer.getvalue()


def as_csv(boards: Sequence[Leaderboard]) -> str:
    """Renders one line per number."""
    return csv_of(flat(boards))


def as_json(boards: Sequence[Leaderboard]) -> str:
    """Renders a list of objects, one per number; null where there is none."""
    return json.dumps(flat(boards), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Sequence[Leaderboard]], str]] = {
    "table": table,
    "csv": as_csv,
    "md": markdown,
    "json": as_json,
}
