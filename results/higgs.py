"""Tables of docs/higgs.md, as Markdown: `python results/higgs.py`.

It reads `results/higgs`: each method's networks on every plan, under the bootstrap plan as single
networks too (mean ± standard deviation between them, which is how the paper shows its examples),
and paired differences on the same training sets and datasets.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
from bench.tasks.higgs import ENERGY_SCALES

import bench
from bench.leaderboard.columns import parenthesised
from bench.leaderboard.render import markdown_table
from bench.leaderboard.units import ResamplingUnits
from bench.report.load import Loaded
from bench.stats.clustering import Estimate, mean, ratio

FOLDER = Path(__file__).parent / "higgs"
COMPARED = ("lre:tuned", "dle:tuned", "dle-nflows:tuned")
"""Every pair of these is compared, and each with the configuration that is published."""
DIFFERENCES = (
    "interval_score/mu",
    "interval_score/z",
    "coverage/z",
    "width/z",
    "overlap_M/joint",
    "overlap_kM/joint",
    "likelihood_ratio_error/",
    "mle_distance/z",
)
SINGLE = (
    *("overlap_kM/mu", "overlap_kM/z", "overlap_kM/joint"),
    *("coverage/mu", "coverage/z", "width/mu", "width/z"),
)


def table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown, with the sign of minus."""
    return re.sub(r"-(?=\d)", "−", markdown_table(head, rows))


def marked(estimate: Estimate, comparisons: int, equal: float = 0.0) -> str:
    """Bold where the 95 % interval, widened for so many (Bonferroni), excludes equality."""
    number = parenthesised(estimate.value, estimate.error)
    low, high = estimate.interval(1 - 0.05 / max(comparisons, 1))
    return f"**{number}**" if low > equal or high < equal else number


def board(loaded: Loaded, plan: str) -> str:
    """The leaderboard's numbers that the page shows, methods in its order; gaps are marked."""
    shown = {
        "score /exact": "score_ratio",
        "coverage μ": "coverage/mu",
        "coverage z": "coverage/z",
        "μ − exact's": "coverage/mu/gap",
        "z − exact's": "coverage/z/gap",
        "width μ /exact": "width/mu/ratio",
        "width z /exact": "width/z/ratio",
        "overlap_M": "overlap_M/joint",
        "overlap_kM": "overlap_kM/joint",
        "LR error": "likelihood_ratio_error/",
        "region cut": "cut/region",
    }
    frame = loaded.quantities.query("plan == @plan")
    rows = []
    gaps = 2 * (frame.label.nunique() - 1)
    for label, numbers in frame.groupby("label", sort=False):
        by = {
            q.quantity: marked(Estimate(q.value, q.error, q.dof, np.nan, np.nan), gaps)
            if q.statistic == "gap"
            else parenthesised(q.value, q.error)
            for q in numbers.itertuples()
        }
        first = numbers.iloc[0]
        rank = "–" if np.isnan(first.rank_low) else f"{first.rank_low:.0f}–{first.rank_high:.0f}"
        rows.append(
            [f"`{label}`", str(first.members), rank, *(by.get(q, "–") for q in shown.values())]
        )
    return table(["method", "networks", "rank", *shown], rows)


def single(loaded: Loaded) -> str:
    """Single networks under the bootstrap plan: mean ± standard deviation between them."""
    frame = loaded.members.query("plan == 'bootstrap' and quantity in @SINGLE")
    rows = []
    for label, numbers in frame.groupby("label", sort=True):
        by = numbers.groupby(["quantity", "member"]).value.mean().unstack()
        cells = []
        for quantity in SINGLE:
            if quantity not in by.index:
                cells.append("–")
                continue
            values = by.loc[quantity]
            digits = 4 if quantity == "width/z" else 3
            spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.{digits}f}{spread}")
        rows.append([f"`{label}`", str(by.shape[1]), *cells])
    return table(["method", "networks", *SINGLE], rows)


def scales(loaded: Loaded) -> str:
    """Lengths and coverage of intervals in z under the bootstrap plan, by energy scale; marked."""
    folder = next(name for name in loaded.results.plans if name.startswith("bootstrap"))
    scores = {fit.label: loaded.results.scores(fit, folder) for fit in loaded.results.fits}
    exact = scores.pop("exact")
    assert exact is not None
    units = ResamplingUnits(exact.point, exact.block)
    known = np.array(ENERGY_SCALES)[units.point % len(ENERGY_SCALES)]
    rows = []
    there = {label: found for label, found in sorted(scores.items()) if found is not None}
    comparisons = 9 * len(there)
    for label, found in there.items():
        cells = []
        for kind, scale in product(("width/z", "percentile_width/z", "coverage/z"), ENERGY_SCALES):
            used = known == scale
            own, true = (s.values[kind][:, used] for s in (found, exact))
            strata = units[used].strata
            gap = kind == "coverage/z"
            found_there = mean(own - true, strata) if gap else ratio(own, true, strata)
            cells.append(marked(found_there, comparisons, equal=0.0 if gap else 1.0))
        rows.append([f"`{label}`", str(len(found.members)), *cells])
    names = ("width /exact", "spread /exact", "coverage − exact's")
    head = [f"{name}, z = {scale:.2f}" for name, scale in product(names, ENERGY_SCALES)]
    return table(["method", "networks", *head], rows)


def differences(loaded: Loaded, plan: str) -> str:
    """Paired differences; bold where the 95 % interval, widened for the table, excludes 0."""
    fits = {fit.label: fit for fit in loaded.results.fits}
    pairs = [*combinations(COMPARED, 2)]
    pairs += [(label, label.replace("tuned", "published")) for label in COMPARED]
    found: list[tuple[str, str, Estimate]] = []
    folder = next(name for name in loaded.results.plans if name.startswith(plan))
    for one, other in pairs:
        a, b = (
            loaded.results.scores(fits[label], folder) if label in fits else None
            for label in (one, other)
        )
        if a is None or b is None:
            continue
        common = [m for m in a.members if m in b.members]
        units = ResamplingUnits(a.point, a.block)
        for name in DIFFERENCES:
            if name not in a.values or name not in b.values:
                continue
            first, second = (s.values[name][[s.members.index(m) for m in common]] for s in (a, b))
            used = units.headline & np.isfinite(first - second).all(0)
            estimate = mean((first - second)[:, used], units[used].strata)
            found.append((f"`{one}` − `{other}` ({len(common)})", name, estimate))
    rows = [[pair, name, marked(estimate, len(found))] for pair, name, estimate in found]
    return table(["difference (networks)", "metric", "value"], rows)


def main() -> None:
    """Prints the tables."""
    loaded = bench.load(FOLDER)
    for plan in ("independent", "bootstrap"):
        print(f"## {plan}\n\n{board(loaded, plan)}\n{differences(loaded, plan)}")
    print(f"## by energy scale, bootstrap plan\n\n{scales(loaded)}")
    print(f"## single networks, bootstrap plan\n\n{single(loaded)}")


if __name__ == "__main__":
    main()
