"""Judgement of surrogates of one simulator: tables, intervals of observed data, figures."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, isnan
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Canvas
from numpy.typing import ArrayLike
from torch import Tensor

from bench.boards.columns import parenthesised
from bench.boards.judgement import MethodTrust, ParameterTrust
from bench.boards.render import printed, terminal_table
from bench.boards.verdict import SIGNS, interval
from bench.contracts import Task
from bench.errors import counted
from bench.library.evaluation import observations_of_user
from bench.library.fitting import (
    FittedSurrogate,
    TemporaryFolder,
)
from bench.library.observed import ObservedData
from bench.report.colours import Style, looks
from bench.report.drawings import PAGE, lay_out
from bench.report.figures.style import Draw, Figure, Panel
from bench.report.figures.trust import draw_local_coverage, draw_profiles

_VAGUE = 0.8  # width of a band of coverage above which it says nothing
_CERTAIN = 1e-3  # width below which all intervals of a place contain the truth, or none


class Trust:
    """Judgement of surrogates of one simulator.

    Attributes:
        task: the task of the simulator.
        methods: the judgement of each method.
        absent: reasons of methods that cannot learn the task, by label.
        surrogates: the trained surrogates, by label.
        tolerance: largest gap of the coverage that holds.
        folder: results folder, which later calls reuse.
    """

    def __init__(
        self,
        task: Task,
        methods: Sequence[MethodTrust],
        absent: Mapping[str, str],
        surrogates: Mapping[str, FittedSurrogate],
        tolerance: float,
        folder: Path,
        temporary: TemporaryFolder | None = None,
    ) -> None:
        self.task = task
        self.methods = tuple(methods)
        self.absent = absent
        self.surrogates = surrogates
        self.tolerance = tolerance
        self.folder = folder
        self._temporary = temporary

    def frame(self) -> pd.DataFrame:
        """Return a line for each method, number of observations and parameter.

        Columns: `method, observations, parameter, verdict, coverage, error, gap_low, gap_high,
        worst_at, worst_coverage, worst_low, worst_high, length, threshold, threshold_low,
        threshold_high, calibrated_length, calibrated_low, calibrated_high, bias, bias_error,
        holds_up_to`, where
        the last is a number of observations, 0 if none holds.
        """
        return pd.DataFrame.from_records(
            [
                {
                    "method": method.label,
                    "observations": one.observations,
                    "parameter": own.name,
                    "verdict": own.verdict.word,
                    "coverage": own.coverage.value,
                    "error": own.coverage.error,
                    "gap_low": own.verdict.low,
                    "gap_high": own.verdict.high,
                    "worst_at": own.local.theta[own.worst],
                    "worst_coverage": own.local.coverage[own.worst],
                    "worst_low": own.local.low[own.worst],
                    "worst_high": own.local.high[own.worst],
                    "length": own.length.value,
                    "threshold": own.threshold,
                    "threshold_low": own.threshold_range[0],
                    "threshold_high": own.threshold_range[1],
                    "calibrated_length": own.calibrated_length,
                    "calibrated_low": own.calibrated_range[0],
                    "calibrated_high": own.calibrated_range[1],
                    "bias": own.bias.value,
                    "bias_error": own.bias.error,
                    "holds_up_to": method.holds_up_to,
                }
                for method in self.methods
                for one in method.every
                for own in one.parameters
            ]
        )

    def intervals(
        self, x: ArrayLike | Tensor, *, measured: Mapping[str, float] | None = None
    ) -> pd.DataFrame:
        r"""Return estimates and intervals of the observed dataset.

        Args:
            x: its observations, (n, \*event).
            measured: auxiliary measurements of constrained parameters, by name.

        Returns:
            A line for each method and parameter. Columns: `method, verdict, parameter, estimate,
            low, high, calibrated_low, calibrated_high, warning`. Calibrated intervals have the
            threshold that covers 68.27 % of the test datasets, of those with as many observations
            where such were judged.

        Raises:
            UsageError: if the observations have another shape, or are not finite.
        """
        data = self._observed(x, measured)
        return pd.DataFrame.from_records([row for own in data for row in own.intervals()])

    def profiles(
        self, x: ArrayLike | Tensor, *, measured: Mapping[str, float] | None = None
    ) -> Figure:
        r"""Draw the profile likelihoods of the observed dataset; arguments as in `intervals`.

        Dashed lines are the thresholds of calibrated intervals, the solid one that of delivered
        intervals.
        """
        data = self._observed(x, measured)
        frame = pd.DataFrame.from_records([row for own in data for row in own.profiles()])
        told = self.intervals(x, measured=measured).rename(columns={"method": "label"})
        told = told.assign(value=told["estimate"], error=0.5 * (told["high"] - told["low"]))
        return self._figure(
            "profiles",
            "Profile likelihoods of the observed data",
            "The interval of a parameter ends where the statistic reaches 1 (solid line), and a "
            "calibrated one where it reaches its method's threshold (dashed).",
            draw_profiles,
            frame,
            told,
        )

    def local_coverage(self) -> Figure:
        """Draw the coverage of intervals along each parameter, with 95 % bands."""
        frame = pd.DataFrame(
            [
                {"label": method.label, "parameter": own.name, **row}
                for method in self.methods
                for own in method.parameters
                for row in _along(own)
            ]
        )
        told = self.frame().rename(columns={"method": "label", "coverage": "value"})
        told = told[told["observations"] == self.task.observations]
        return self._figure(
            "coverage",
            "Coverage along each parameter",
            "Other parameters are averaged over the inner range. Bands hold the whole curve with "
            "95 % confidence; the horizontal line is nominal.",
            draw_local_coverage,
            frame,
            told,
        )

    def plot(self, figure: Figure | None = None) -> Canvas:
        """Draw a figure for a notebook or a paper; that of `local_coverage` by default.

        Args:
            figure: what `local_coverage` or `profiles` returned.
        """
        return lay_out(figure or self.local_coverage(), PAGE)

    @property
    def looks(self) -> dict[str, Style]:
        """Style of each method in figures."""
        return looks(self.surrogates)

    def _figure(
        self,
        name: str,
        title: str,
        caption: str,
        draw: Draw,
        frame: pd.DataFrame,
        told: pd.DataFrame,
    ) -> Figure:
        panels = tuple(
            Panel(
                draw,
                frame[frame["parameter"] == key],
                key,
                {},
                told[told["parameter"] == key],
            )
            for key in self.task.reported
        )
        return Figure(
            name,
            self.task.name,
            title,
            caption,
            panels,
            self.looks,
            columns=min(len(panels), 3),
            methods=[*self.surrogates],
        )

    def _observed(
        self, x: ArrayLike | Tensor, measured: Mapping[str, float] | None
    ) -> list[ObservedData]:
        events = observations_of_user(self.task, x)
        return [
            ObservedData(
                self.task,
                own.at(len(events)),
                self.surrogates[own.label],
                events,
                self.folder,
                measured,
            )
            for own in self.methods
        ]

    def text(self) -> str:
        """Return the judgement as tables for a terminal."""
        parts = [f"{self.subject}\n\n"]
        for method in self.methods:
            rows = [(cells(own), False) for own in method.parameters]
            parts += [
                f"{self.task.name}, {method.label}: {SIGNS[method.word]} {method.word}\n",
                printed(terminal_table(HEAD, rows, HEAD[:2])),
                *(f"{line}\n" for line in (*method.notes, method.next_step, "")),
            ]
        parts += [f"{line}\n" for line in self.remarks]
        return "".join(parts)

    @property
    def subject(self) -> str:
        """Sentences on the task: observations, parameters and their ranges."""
        shape = " × ".join(map(str, self.task.event_shape))
        each = "one number" if shape == "1" else f"{shape} numbers"
        known = {constraint.parameter for constraint in self.task.constraints}
        every = []
        for one in self.task.space.parameters:
            low, high = one.inner
            words = [f"true values {low:.4g} to {high:.4g}"]
            words += ["profiled"] if one.name not in self.task.reported else []
            words += ["measured"] if one.name in known else []
            every.append(f"{one.name} {one.low:.4g} to {one.high:.4g} ({', '.join(words)})")
        many = counted(self.task.observations, "observation")
        rate = " on average" if self.task.has_rate else ""
        return f"Datasets of {many}{rate}, each of {each}. {'; '.join(every)}."

    @property
    def remarks(self) -> Iterator[str]:
        """Yield sentences on all methods."""
        yield from (f"{label}: n/a, {reason}" for label, reason in self.absent.items())
        yield (
            f"Coverage holds if its gap to 68.3 % lies within ± {100 * self.tolerance:g} points. "
            "Verdicts are about the networks trained here."
        )

    def __repr__(self) -> str:
        return self.text()


HEAD = (
    "parameter",
    "verdict",
    "coverage",
    "gap, points",
    "worst coverage",
    "at",
    "length",
    "threshold",
    "calibrated length",
)
"""Headings of the table of one method."""


def cells(own: ParameterTrust) -> list[str]:
    """Return the texts of a parameter's row."""
    local, at = own.local, own.worst
    known = _CERTAIN < local.high[at] - local.low[at] < _VAGUE
    return [
        own.name,
        f"{SIGNS[own.verdict.word]} {own.verdict.word}",
        parenthesised(own.coverage.value, own.coverage.error),
        interval(own.verdict),
        f"{local.coverage[at]:.2f} [{local.low[at]:.2f}, {local.high[at]:.2f}]" if known else "–",
        f"{local.theta[at]:.3g}" if known else "–",
        parenthesised(own.length.value, own.length.error),
        _ranged(own.threshold, own.threshold_range),
        _ranged(own.calibrated_length, own.calibrated_range),
    ]


def _ranged(value: float, ends: tuple[float, float]) -> str:
    low, high = (f"{end:.3g}" if isfinite(end) else "?" for end in ends)
    if isfinite(value):
        return f"{value:.3g} [{low}, {high}]"
    return "n/a" if isnan(value) else "> 25"


def _along(own: ParameterTrust) -> Iterator[dict[str, float]]:
    names = ("theta", "coverage", "low", "high")
    for values in zip(*(getattr(own.local, name) for name in names), strict=True):
        yield dict(zip(names, map(float, values), strict=True))
