"""Metrics: functions of saved predictions of a method and, where needed, of the truth."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from bench.contracts.prediction import HeldOutPrediction, LikelihoodPrediction

Prediction = LikelihoodPrediction | HeldOutPrediction
PlanKind = Literal["independent", "bootstrap", "heldout"]


@dataclass(frozen=True)
class Metric:
    """Named quantity with one contribution per dataset.

    Metrics of plugins have their own table, with the title, unit, direction and description that
    are declared here.

    Args:
        name: name in tables.
        title: short column heading.
        description: definition of the metric in one sentence.
        plans: kinds of plan that it is defined for.
        compute: `compute(prediction, truth)` returns contributions (D,) by key, for the datasets of
            the prediction in order. A key is a parameter, "joint", a component, or "" where there
            is one; it is a text of at most 200 printable characters, without a slash. Contributions
            are real numbers; NaN marks a dataset without one, and infinity is not allowed. An empty
            mapping means that the metric is not defined.
        needs_truth: whether it compares with the exact likelihood.
        share: whether contributions are yes or no (booleans, or 1 and 0), so that a mean of 0 or
            1 still has an error.
        median: whether to report the median beside the mean, because contributions are skewed.
        against: comparison of a method's mean with that of the truth.
        kept: whether contributions are only stored, for later metrics, and tables have no mean.
        version: increase it when the numbers change.
        unit: unit of the numbers; "" for pure numbers.
        better: direction in which numbers are better; "" where neither is.
        target: ideal number, where there is one.
    """

    name: str
    title: str
    description: str
    plans: tuple[PlanKind, ...]
    compute: Callable[[Any, Any], Mapping[str, NDArray[Any]]]
    needs_truth: bool = False
    share: bool = False
    median: bool = False
    against: Literal["nothing", "difference", "ratio"] = "nothing"
    kept: bool = False
    version: int = 1
    unit: str = ""
    better: Literal["", "lower", "higher"] = ""
    target: float | None = None
