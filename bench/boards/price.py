"""Price of a method: lengths of its intervals once they cover as claimed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt

import numpy as np

from bench.boards.quantities import Quantity, estimated
from bench.boards.results import Scores
from bench.boards.units import ResamplingUnits
from bench.stats.clustering import Array, Estimate
from bench.stats.honest import HonestLengths, fold_of, honest_lengths

LEVELS = {"honest_length": 0.6827, "honest_length_95": 0.95}
"""Claimed coverage by the name of the length at which intervals reach it."""


@dataclass(frozen=True)
class Price:
    """Lengths at honest coverage of one method.

    Args:
        lengths: by level's name and parameter, for all sets of the plan; NaN outside averages.
        roots: square roots of each member's threshold, likewise.
    """

    lengths: dict[tuple[str, str], Array]
    roots: dict[tuple[str, str], Array]


def price(
    scores: Scores, exact: Scores | None, parameters: Sequence[str], units: ResamplingUnits
) -> Price:
    """Return lengths at honest coverage; empty where interval ends are not stored.

    Coverage is expected over the exact posterior where there is one. Without, it is whether the
    statistic at the generating value is below the threshold.

    Args:
        scores: scores of the method.
        exact: scores of the exact likelihood, if there is one.
        parameters: names of the reported parameters.
        units: units of resampling.
    """
    found = Price({}, {})
    used = units.headline
    fold = np.array([fold_of(int(block)) for block in units.block[used]])
    if len(np.unique(fold)) < 2:
        return found
    for name in parameters:
        ends = (
            _at_roots(scores, f"profile_lower/{name} "),
            _at_roots(scores, f"profile_upper/{name} "),
        )
        roots = sorted(ends[0])
        if not roots:
            continue
        lower, upper = (np.stack([side[r][:, used] for r in roots], -1) for side in ends)
        covers = _coverage(scores, name, roots)[:, used]
        if not np.isfinite(covers).all():
            continue
        for level, claimed in LEVELS.items():
            whole = _range(name, scores, exact)
            honest: HonestLengths = honest_lengths(
                covers, upper - lower, roots, whole, claimed, fold
            )
            lengths = np.full((len(covers), len(used)), nan)
            lengths[:, used] = honest.lengths
            found.lengths[level, name], found.roots[level, name] = lengths, honest.root
    return found


def _range(name: str, scores: Scores, exact: Scores | None) -> float:
    """Return the length of the box, as far as interval ends and generating values reach.

    Short intervals do not reach its bounds, but those of the exact likelihood do.
    """
    starts = f"profile_lower/{name} ", f"profile_upper/{name} "
    values = [
        v[np.isfinite(v)]
        for one in (scores, exact)
        if one is not None
        for key, v in one.values.items()
        if key.startswith(starts) or key == f"generating/{name}"
    ]
    every = np.concatenate([v.ravel() for v in values])
    return float(every.max() - every.min())


def _at_roots(scores: Scores, start: str) -> dict[float, Array]:
    """Return stored values by the square root of the threshold."""
    return {
        float(k.removeprefix(start)): v for k, v in scores.values.items() if k.startswith(start)
    }


def _coverage(scores: Scores, name: str, roots: Sequence[float]) -> Array:
    expected = _at_roots(scores, f"profile_coverage/{name} ")
    if expected:
        return np.stack([expected[r] for r in roots], -1)
    statistic = scores.values[f"statistic/{name}"][..., None]
    return np.where(np.isnan(statistic), nan, statistic <= np.square(roots))


def quantities_of_price(
    own: Price, truth: Price | None, units: ResamplingUnits
) -> Iterator[tuple[str, Quantity]]:
    """Yield lengths at honest coverage, their ratios to those of exact, and thresholds."""
    for (level, name), lengths in own.lengths.items():
        yield f"{level}/{name}", estimated(lengths, units, units.headline)
        other = truth.lengths.get((level, name)) if truth is not None else None
        if other is not None:
            ratio = estimated(lengths, units, units.headline, other)
            yield f"{level}/{name}/ratio", ratio
        thresholds = np.square(own.roots[level, name])
        kind = level.replace("honest_length", "threshold")
        yield f"{kind}/{name}", _threshold(thresholds)


def _threshold(thresholds: Array) -> Quantity:
    value = float(thresholds.mean())
    if not isfinite(value):
        return Quantity(reason="> 25")
    count = len(thresholds)
    error = float(thresholds.std(ddof=1)) / sqrt(count) if count > 1 else nan
    return Quantity(Estimate(value, error, count - 1.0, error, nan))
