"""A metric: a function of saved predictions, of a method and, if any, of the truth."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from bench.contracts.prediction import HeldOutPrediction, LikelihoodPrediction

Prediction = LikelihoodPrediction | HeldOutPrediction
PlanKind = Literal["independent", "bootstrap", "heldout"]


@dataclass(frozen=True)
class Metric:
    """A named quantity that every dataset contributes to.

    Metrics of plugins have a table of their own, with the title, unit, direction and description
    that are declared here.

    Args:
        name: name in tables.
        title: short column heading.
        description: one sentence that says what it is.
        plans: kinds of plan that it is defined for.
        compute: `compute(prediction, truth)` returns contributions (D,) by key (a parameter,
            "joint", a component, or "" where there is one), for the datasets of the prediction
            in order. They are real numbers; NaN where a dataset has none, never infinite. A key
            is a text of at most 200 printable characters, without a slash. An empty mapping means
            not defined.
        needs_truth: whether it compares with the exact likelihood.
        share: whether contributions are yes or no (booleans, or 1 and 0), so that a mean of 0 or
            1 still has an error.
        median: whether the median matters beside the mean, because contributions are skewed.
        against: how a method's mean is set against that of the truth.
        version: raise it when the numbers change.
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
    version: int = 1
    unit: str = ""
    better: Literal["", "lower", "higher"] = ""
    target: float | None = None
