"""Intervals and profiles of an observed dataset, and reasons not to believe them."""

from collections.abc import Iterator, Mapping
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from bench.boards.judgement import MethodTrust
from bench.contracts import Surrogate, Task
from bench.errors import counted, message_of
from bench.library.evaluation import intervals_of, profiles_of
from bench.library.examination import UNFORESEEN
from bench.seeds import generator
from bench.stages.datasets import simulate
from bench.stats.clustering import Array
from bench.stats.energy import energy_test

_EDGE = 0.02  # share of the training range at its bounds where an estimate is not believed
_UNLIKE = 0.01  # p-value below which data look unlike simulations
_TESTED = 500  # observations that are compared with simulations
_SIMULATED = 1000  # simulations that they are compared with
_DRAWN = (0.0625, 0.25, 0.5625, 1.0, 1.5625, 2.25, 4.0, 6.25, 9.0)  # values of a drawn profile


class ObservedData:
    r"""Dataset whose parameters are unknown, as one surrogate sees it.

    Args:
        task: the task.
        method: the judgement of the surrogate.
        surrogate: the surrogate, of one member.
        events: observations, (n, \*event).
        folder: results folder, where simulations are kept.
        measured: auxiliary measurements of constrained parameters, by name.
    """

    def __init__(
        self,
        task: Task,
        method: MethodTrust,
        surrogate: Surrogate,
        events: Tensor,
        folder: Path,
        measured: Mapping[str, float] | None = None,
    ) -> None:
        self.task, self.method, self.surrogate = task, method, surrogate
        self.events, self.folder, self.measured = events, folder, measured
        self._found: dict[float, tuple[Array, list[dict[Any, Any]]]] = {}

    def intervals(self) -> Iterator[dict[str, Any]]:
        """Yield a line for each parameter: its interval as delivered, and calibrated."""
        estimate, delivered = self._at(1.0)
        common = [*self._few()]
        try:
            common += self._unlike(estimate)
        except UNFORESEEN as error:
            common.append(f"not compared with simulations: {message_of(error)}")
        for i, (own, row) in enumerate(zip(self.method.parameters, delivered, strict=True)):
            moved = {"low": nan, "high": nan, "cut": False}
            if 0 < own.threshold < inf:
                moved = self._at(own.threshold)[1][i]
            yield {
                "method": self.method.label,
                "verdict": own.verdict.word,
                "parameter": own.name,
                "estimate": row["estimate"],
                "low": row["low"],
                "high": row["high"],
                "calibrated_low": moved["low"],
                "calibrated_high": moved["high"],
                "warning": "; ".join([*self._warnings(row, moved), *common]),
            }

    def profiles(self) -> Iterator[dict[str, Any]]:
        """Yield points of the profile likelihoods: a parameter's value and the statistic there."""
        for i, own in enumerate(self.method.parameters):
            points = [(self._at(1.0)[1][i]["estimate"], 0.0)]
            for threshold in _DRAWN:
                row = self._at(threshold)[1][i]
                points += [
                    (row[end], threshold) for end in ("low", "high") if not row[f"cut_{end}"]
                ]
            for value, statistic in sorted(points):
                yield {
                    "label": self.method.label,
                    "parameter": own.name,
                    "value": value,
                    "statistic": statistic,
                    "threshold": own.threshold,
                }

    def _at(self, threshold: float) -> tuple[Array, list[dict[Any, Any]]]:
        """Return the estimate (P,), and a line for each reported parameter, at a threshold."""
        if threshold not in self._found:
            profiles = profiles_of(
                self.task, self.surrogate, self.events, self.folder, self.measured, threshold
            )
            rows = intervals_of(self.task, profiles).to_dict("records")
            for i, row in enumerate(rows):
                row["cut_low"] = bool(profiles[0].cut_lower[0, i])
                row["cut_high"] = bool(profiles[0].cut_upper[0, i])
            self._found[threshold] = profiles[0].mle[0], rows
        return self._found[threshold]

    def _warnings(self, row: Mapping[Any, Any], moved: Mapping[Any, Any]) -> Iterator[str]:
        """Yield reasons not to believe an interval."""
        bounds = self.task.space.parameters[self.task.space.names.index(row["parameter"])]
        edge = _EDGE * (bounds.high - bounds.low)
        if row["cut"] or not bounds.low + edge < row["estimate"] < bounds.high - edge:
            yield "at the edge of the training range"
        elif moved["cut"]:
            yield "the calibrated interval reaches the edge of the training range"
        if isnan(moved["low"]):
            yield "no calibrated interval: its threshold is not known"
        if row["unresolved"]:
            yield "its ends are less accurate than required"

    def _few(self) -> Iterator[str]:
        """Yield a warning if thresholds are those of datasets of another size."""
        number, usual = len(self.events), self.method.observations
        if number != usual and not self.task.has_rate:
            yield f"{counted(number, 'observation')}, where test datasets have {usual:,}"

    def _unlike(self, estimate: Array) -> Iterator[str]:
        """Compare data with simulations at the estimate, and yield a warning if they differ."""
        space, components = self.task.space, self.task.components("test")
        if self.task.expensive or any(c.size is not None for c in components.values()):
            return  # calls are too dear, or there is nothing to simulate
        theta = torch.from_numpy(estimate)
        few = self.events[:_TESTED]
        rng = generator("unlike", self.task.name, len(few))
        kinds = torch.multinomial(self.task.weights(theta), _SIMULATED, True, generator=rng)
        context = space.context_of(theta).float().expand(_SIMULATED, -1)
        drawn = few.new_empty(_SIMULATED, *few.shape[1:])
        for k, component in enumerate(components.values()):
            if bool((rows := kinds == k).any()):
                drawn[rows] = simulate(self.task, component, context[rows], rng)
        data, simulated = few.flatten(1).double(), drawn.flatten(1).double()
        beyond = ((data < simulated.amin(0)) | (data > simulated.amax(0))).sum()
        # An observation is beyond all others with probability 2 / (n + 1) in each number.
        expected = 2 * data.numel() / (_SIMULATED + 1)
        outside = float(stats.poisson.sf(int(beyond) - 1, expected))
        scale = simulated.std(0).clamp_min(1e-12)
        tested = energy_test((data / scale).numpy(), (simulated / scale).numpy(), 999).p_value
        p_value = min(1.0, 2 * min(outside, tested))  # of two tests
        if p_value < _UNLIKE:
            yield f"the data look unlike simulations at the estimate (p = {p_value:.2g})"
