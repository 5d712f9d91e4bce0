"""Comparison of the methods of a leaderboard: verdicts, prices, ranks, recommendation."""

from collections.abc import Sequence
from dataclasses import replace
from math import exp, nan

import numpy as np

from bench.boards.board import Row
from bench.boards.price import Price, price, quantities_of_price
from bench.boards.quantities import Quantity
from bench.boards.results import SavedFit, Scores
from bench.boards.units import ResamplingUnits
from bench.stats.clustering import Array, Estimate
from bench.stats.decision import CoverageVerdict, judge_coverage
from bench.stats.local import local_coverage, local_gap
from bench.stats.ranking import Ranking, rank

_LEAST = 1e-9  # nats, below which divergences are rounding


class Comparison:
    """Comparison of the methods of a leaderboard; its methods complete the rows.

    Args:
        rows: the rows, those with scores first.
        scored: the fits with scores, in the order of the rows.
        parameters: names of the parameters.
        units: units of resampling.
        tolerance: largest coverage gap that holds.
        level: confidence level of all verdicts together, and of all ranks of a kind.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        scored: Sequence[tuple[SavedFit, Scores]],
        parameters: Sequence[str],
        units: ResamplingUnits,
        tolerance: float,
        level: float,
    ) -> None:
        self.parameters = parameters
        self.tolerance = tolerance
        self.level = level
        self.used = units.headline
        self.units = units
        self.found = units[self.used]
        self.drawn = bool((units.point < 0).any())
        self.methods = [(r, s) for r, (f, s) in zip(rows, scored, strict=False) if not f.oracle]
        exact = [(r, s) for r, (f, s) in zip(rows, scored, strict=False) if f.oracle]
        self.exact = exact[0] if exact else None
        known: list[tuple[str, Scores]] = [("exact", s) for _, s in exact]
        known += [("histogram", s) for f, s in scored if f.method == "histogram"]
        self.reference = known[0][0] if known else ""
        self.base = known[0][1] if known else None
        # Contributions of the ranked methods' intervals, and of the reference's.
        self.intervals: list[tuple[Row, Array]] = []
        self.interval_base: Array | None = None

    def _table(self, values: Sequence[Array]) -> Array:
        """Return contributions of several keys on the units, (…, units, keys)."""
        return np.stack([self.found.average(v[..., self.used]) for v in values], -1)

    def _ranked(self, tables: Sequence[Array], base: Array) -> Ranking:
        return rank(tables, base, self.found.strata, self.level)

    def rank_scores(self, score: str) -> str:
        """Rank the methods by an interval score relative to the reference.

        Returns:
            Name of the reference; "" if there is none.
        """
        keys = [f"{score}/{p}" for p in self.parameters]
        if self.base is None:
            return ""
        if int(self.used.sum()) < 2 or not keys or not all(k in self.base.values for k in keys):
            return self.reference
        base = self._table([self.base.values[k].mean(0) for k in keys])
        ranked = [
            (row, self._table([s.values[k] for k in keys]))
            for row, s in self.methods
            if all(k in s.values for k in keys)
        ]
        # Intervals of zero length have no ratio.
        ranked = [(row, s) for row, s in ranked if s.mean((0, 1)).all() and base.mean(0).all()]
        if ranked and not self.found.enough:  # too few blocks to estimate an error
            for row, scores in ranked:
                value = exp(float(np.log(scores.mean((0, 1)) / base.mean(0)).mean()))
                row.quantities["score_ratio"] = Quantity(Estimate(value, nan, nan, nan, nan))
        elif ranked:
            self._rank_intervals(ranked, base, "score_ratio")
        return self.reference

    def _rank_intervals(
        self, ranked: Sequence[tuple[Row, Array]], base: Array, quantity: str
    ) -> None:
        """Add ratios to the reference as a quantity of the rows, and ranks where θ is drawn."""
        ranking = self._ranked([values for _, values in ranked], base)
        for i, (row, _) in enumerate(ranked):
            value = exp(float(ranking.log_ratio[i]))
            estimate = Estimate(value, value * float(ranking.error[i]), nan, nan, nan)
            row.quantities[quantity] = Quantity(estimate)
            if self.drawn:
                row.rank = (int(ranking.low[i]), int(ranking.high[i]))
                row.better["interval"] = _beaten([r.label for r, _ in ranked], ranking, i)
        self.intervals, self.interval_base = list(ranked), base

    def rank_likelihoods(self) -> None:
        """Rank the methods by divergence from the exact likelihood."""
        name = "divergence/joint"
        found = [
            (row, self._table([s.values[name]])) for row, s in self.methods if name in s.values
        ]
        ranked = [(row, values) for row, values in found if np.isfinite(values).all()]
        if not ranked or not self.found.enough or self.found.strata.sets < 2:
            return
        # Rounding may leave a copy of the exact likelihood with a divergence of −10⁻¹⁶.
        tables = [np.maximum(values, _LEAST) for _, values in ranked]
        ranking = self._ranked(tables, np.ones((self.found.strata.sets, 1)))
        for i, (row, _) in enumerate(ranked):
            row.likelihood_rank = (int(ranking.low[i]), int(ranking.high[i]))
            row.better["likelihood"] = _beaten([r.label for r, _ in ranked], ranking, i)

    def rank_lengths(self) -> None:
        """Add prices, and rank the methods by their intervals' length at honest coverage."""
        truth = None
        if self.exact is not None:
            truth = self._priced(*self.exact, None)
        prices = [(row, self._priced(row, s, truth)) for row, s in self.methods]
        keys = [("honest_length", p) for p in self.parameters]
        ranked = [(r, p) for r, p in prices if all(k in p.lengths for k in keys)]
        if truth is None or not ranked or not self.found.enough:
            return
        base = self._table([truth.lengths[k].mean(0) for k in keys])
        tables = [(row, self._table([p.lengths[k] for k in keys])) for row, p in ranked]
        self._rank_intervals(tables, base, "price")

    def _priced(self, row: Row, scores: Scores, truth: Price | None) -> Price:
        exact = None if self.exact is None else self.exact[1]
        found = price(scores, exact, self.parameters, self.units)
        row.quantities |= dict(quantities_of_price(found, truth, self.units))
        return found

    def localise(self, nominal: float) -> None:
        """Add coverages at the parameter value where they are worst, in all and beside exact's."""
        if self.exact is None or not self.found.enough or self.found.shared:
            return
        for name in self.parameters:
            start = f"posterior/{name} "
            draws = [v[0] for k, v in self.exact[1].values.items() if k.startswith(start)]
            if not draws:
                continue
            theta = np.stack(draws, -1)[self.used]
            base = None
            for row, s in (self.exact, *self.methods):
                lower = s.values.get(f"profile_lower/{name} 1")
                upper = s.values.get(f"profile_upper/{name} 1")
                if lower is None or upper is None:
                    continue
                inside = (lower[:, self.used, None] <= theta) & (theta <= upper[:, self.used, None])
                found = local_coverage(theta, inside, self.found.strata, self.level)
                at = found.worst(nominal)
                value, error = float(found.coverage[at]), float(found.error[at])
                row.quantities[f"local_coverage/{name}"] = Quantity(
                    Estimate(value, error, nan, nan, nan), where=f"at {found.theta[at]:.3g}"
                )
                if base is None:  # exact is the first
                    base = inside
                    continue
                gap = local_gap(theta, inside, base, self.found.strata)
                at = gap.worst
                row.quantities[f"local_gap/{name}"] = Quantity(
                    Estimate(float(gap.gap[at]), float(gap.error[at]), nan, nan, nan),
                    where=f"at {gap.theta[at]:.3g}",
                )

    def judge(self, coverage: str, expected: float) -> None:
        """Decide for every method and parameter whether its coverage holds.

        Gaps are to the exact likelihood on the same datasets; without one, to the coverage that is
        expected of exact intervals.
        """
        gaps: list[tuple[Row, str, Estimate]] = []
        for row, _ in self.methods:
            for name in self.parameters:
                if self.exact is not None:
                    gap = row.estimate(f"{coverage}/{name}/gap")
                elif gap := row.estimate(f"{coverage}/{name}"):
                    gap = replace(gap, value=gap.value - expected)
                if gap is not None:
                    gaps.append((row, name, gap))
                row.verdicts[name] = CoverageVerdict("n/a", nan, nan)
        level = 1 - (1 - self.level) / max(len(gaps), 1)
        sets = self.found.strata.sets
        for row, name, gap in gaps:
            row.verdicts[name] = judge_coverage(gap, row.members, sets, self.tolerance, level)

    def recommend(self) -> None:
        """Mark the methods whose coverage holds and whose intervals are shortest."""
        holding = [(row, values) for row, values in self.intervals if row.word == "holds"]
        if holding and self.interval_base is not None:
            ranking = self._ranked([values for _, values in holding], self.interval_base)
            for i, (row, _) in enumerate(holding):
                row.recommended = bool(ranking.low[i] == 1)


def _beaten(labels: Sequence[str], ranking: Ranking, i: int) -> tuple[str, ...]:
    """Return the labels of methods that are significantly worse than the i-th."""
    return tuple(label for label, better in zip(labels, ranking.better[i], strict=True) if better)
