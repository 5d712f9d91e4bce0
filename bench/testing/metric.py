"""Conformance kit of metrics.

A metric is computed for predictions of every kind of plan that it declares: of two parameters on a
lattice, and of seven by gradients. They are those of the exact likelihood, and of one that is
wrong: its components differ by more than the exact ones.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts import (
    BootstrapPlan,
    HeldOutPlan,
    IndependentPlan,
    Metric,
    Plan,
    Task,
)
from bench.errors import PluginError
from bench.inference.likelihood import ExactLikelihood
from bench.stages.predict import load, predict
from bench.stages.score import Prediction, score
from bench.storage.store import Store
from bench.testing.asymmetric import asymmetric
from bench.testing.four_components import four_components
from bench.testing.guard import guarded
from bench.testing.report import (
    Check,
    ConformanceReport,
    Function,
    Inaccurate,
    Result,
    Skipped,
    checks_of,
    expect,
    run_checks,
)

COMPUTE = "the metric's compute"
DECLARED = "what the metric declares"

_SHARPNESS = 1.5  # log-densities of the surrogate, in units of the exact ones
_PLANS: Mapping[str, Plan] = {
    "independent": IndependentPlan(uniform=8, per_point=2, observations=40),
    "bootstrap": BootstrapPlan(sets=2, multiple=2, bootstraps=3, observations=40),
    "heldout": HeldOutPlan(contexts=6, events=20),
}

Arrays = Mapping[str, NDArray[Any]]
Contributions = dict[str, NDArray[Any]]


class Case(NamedTuple):
    """Predictions on the datasets of a plan.

    Args:
        what: the plan and the task, in words.
        task: the task.
        plan: the plan.
        own: saved arrays of the surrogate.
        exact: saved arrays of the exact likelihood.
    """

    what: str
    task: Task
    plan: Plan
    own: Arrays
    exact: Arrays

    def loaded(self, arrays: Arrays) -> Prediction:
        """Rebuild a prediction, from copies of its arrays."""
        return load(self.task, self.plan, {name: own.copy() for name, own in arrays.items()})

    @property
    def datasets(self) -> int:
        """Number of datasets."""
        return len(self.own["context" if self.plan.kind == "heldout" else "datasets.set"])

    def rows(self, rows: NDArray[np.intp]) -> "Case":
        """Take some datasets, in this order."""
        return self._replace(own=self._taken(self.own, rows), exact=self._taken(self.exact, rows))

    def _taken(self, arrays: Arrays, rows: NDArray[np.intp]) -> Arrays:
        if self.plan.kind == "heldout":
            axes = {"context": 0, "own": 1, "reference": 1, "score": 1}
            return {n: a.take(rows, axes[n]) if n in axes else a for n, a in arrays.items()}
        # Draws are those of the datasets at no point, in order.
        drawn = self.own["datasets.point"] < 0
        place = np.cumsum(drawn) - 1
        taken = {}
        for name, array in arrays.items():
            if name.startswith("draws."):
                taken[name] = array[place[rows[drawn[rows]]]]
            else:
                taken[name] = array if name.startswith("full") else array[rows]
        return taken


class _Wrong(ExactLikelihood):
    """Exact log-densities times a constant."""

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        return _SHARPNESS * super().log_ratio(x, context)

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        return _SHARPNESS * super().log_ratio_paired(x, context)


@lru_cache(maxsize=1)
def _cases() -> tuple[Case, ...]:
    """Evaluate the surrogate and the exact likelihood, once."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        seven = four_components()
        vars(seven)["reported"] = ("mu", "jet")  # neither all nor the first ones
        for task, kinds in ((asymmetric, tuple(_PLANS)), (seven, ("independent",))):
            for kind in kinds:
                arrays = [
                    predict(
                        task,
                        surrogate,
                        _PLANS[kind],
                        0,
                        store,
                        torch.device("cpu"),
                        lambda **_: None,
                    )[0]
                    for surrogate in (_Wrong(task), ExactLikelihood(task))
                ]
                what = f"{kind} plan, {len(task.space)} parameters"
                found.append(Case(what, task, _PLANS[kind], *arrays))
    return tuple(found)


def _declared(metric: Metric) -> Iterator[Case]:
    """Yield the cases of the plans that a metric declares."""
    if not metric.plans:
        raise Skipped("the metric is defined for no plan")
    yield from (case for case in _cases() if case.plan.kind in metric.plans)


def _contributions(metric: Metric, case: Case, truth: bool = True) -> Contributions:
    """Return contributions, (D,) float64 by key."""
    exact = case.loaded(case.exact) if truth else None
    with guarded():
        found = metric.compute(case.loaded(case.own), exact)
    return {key: np.ma.filled(values, np.nan).astype(float) for key, values in dict(found).items()}


def _same(some: Contributions, others: Contributions, tolerance: float = 0.0) -> bool:
    return some.keys() == others.keys() and all(
        np.allclose(some[key], others[key], rtol=tolerance, atol=tolerance, equal_nan=True)
        for key in some
    )


def _finite(metric: Metric) -> str:
    """Compute real, finite contributions, one per dataset, also of a single dataset."""
    said, missing = [], []
    for case in _declared(metric):
        for few in (case, case.rows(np.arange(1))):
            own, exact = few.loaded(few.own), few.loaded(few.exact)
            try:
                with guarded():
                    score([metric], own, exact)
            except PluginError as error:
                text = str(error).removeprefix(f"metric {metric.name!r} ")
                expect(
                    False,
                    f"a real, finite number or NaN for each of the datasets ({case.what})",
                    text,
                    COMPUTE,
                )
        found = _contributions(metric, case)
        if not found:
            missing.append(case.what)
        said += [key for key in found if key not in said]
    if not said:
        raise Skipped(f"not defined for the {' or the '.join(missing)}")
    keys = ", ".join(key or '""' for key in said)
    return f"keys {keys}" + (f"; not defined for the {' or the '.join(missing)}" if missing else "")


def _deterministic(metric: Metric) -> None:
    """Compute the same numbers twice."""
    for case in _declared(metric):
        expect(
            _same(_contributions(metric, case), _contributions(metric, case)),
            f"the same contributions if computed again ({case.what})",
            "others; random numbers come from np.random.default_rng(a fixed seed)",
            COMPUTE,
        )


def _order(metric: Metric) -> None:
    """Compute the same number of a dataset wherever it stands."""
    for case in _declared(metric):
        rows = np.random.default_rng(0).permutation(case.datasets)
        found, again = _contributions(metric, case), _contributions(metric, case.rows(rows))
        expected = {key: values[rows] for key, values in found.items()}
        expect(
            _same(again, expected, 1e-9),
            f"the same contributions if the datasets come in another order ({case.what})",
            "others; choose folds by a hash of datasets.set, not by position",
            COMPUTE,
        )


def _inputs(metric: Metric) -> None:
    """Leave predictions and the process as they are."""
    for case in _declared(metric):
        own, exact = case.loaded(case.own), case.loaded(case.exact)
        with guarded():
            np.random.random()  # noqa: NPY002 - so that a seed set earlier shows
            with guarded() as changed:
                metric.compute(own, exact)
        change = ", ".join(f"{what}: {how}" for what, how in changed.items())
        expect(not changed, "no change of the process's global state", change, COMPUTE)
        before = (case.loaded(case.own), case.loaded(case.exact))
        expect(
            repr(before) == repr((own, exact)),
            f"the predictions unchanged ({case.what})",
            "changed arrays",
            COMPUTE,
        )


def _truth(metric: Metric) -> str | None:
    """Read the exact likelihood only if the metric says so."""
    if metric.needs_truth:
        return "compares with the exact likelihood"
    for case in _declared(metric):
        expect(
            _same(_contributions(metric, case), _contributions(metric, case, truth=False)),
            f"the same without the exact likelihood ({case.what}), or needs_truth=True",
            "others",
            DECLARED,
        )
    return None


def _share(metric: Metric) -> str | None:
    """Return yes or no if the metric is a share."""
    values = [v for c in _declared(metric) for v in _contributions(metric, c).values()]
    every = np.concatenate([np.zeros(0), *values])
    every = every[np.isfinite(every)]
    binary = bool(len(every)) and bool(np.isin(every, (0, 1)).all())
    if metric.share:
        worst = every[~np.isin(every, (0, 1))]
        expect(not len(worst), "contributions of 0 or 1, as share=True says", worst[:3], DECLARED)
    elif binary and len({*every.tolist()}) == 2:
        raise Inaccurate("share=True, since all contributions are 0 or 1", "share=False", DECLARED)
    return None


def _direction(metric: Metric) -> str | None:
    """Call the exact likelihood at least as good as the wrong one."""
    if not metric.better and metric.target is None:
        return "neither direction nor target"
    worse = []
    for case in _declared(metric):
        own = _contributions(metric, case)
        exact = _contributions(metric, case._replace(own=case.exact))
        for key in own.keys() & exact.keys():
            apart = exact[key] - own[key]
            defined = np.isfinite(apart)
            if not defined.any():
                continue
            wrong, truth = (_badness(metric, v[key][defined].mean()) for v in (own, exact))
            error = apart[defined].std() / defined.sum() ** 0.5
            if truth > wrong + 3 * error + 1e-9:
                worse.append(f"{key or 'it'} of the {case.what}")
    if worse:
        raise Inaccurate(
            "the exact likelihood no worse than a wrong one",
            f"worse in {', '.join(sorted(worse)[:3])}",
            DECLARED,
        )
    return None


def _badness(metric: Metric, value: float) -> float:
    """Return a number that is lower where the metric is better."""
    if metric.target is not None:
        return abs(value - metric.target)
    return value if metric.better == "lower" else -value


_CHECKS: dict[str, tuple[Function, str]] = {
    "contributions": (_finite, COMPUTE),
    "deterministic": (_deterministic, COMPUTE),
    "order": (_order, COMPUTE),
    "inputs": (_inputs, COMPUTE),
    "truth": (_truth, DECLARED),
    "share": (_share, DECLARED),
    "direction": (_direction, DECLARED),
}
METRIC_CHECKS = tuple(_CHECKS)
"""Names of the checks of a metric."""


def metric_checks(metric: Metric) -> list[Check]:
    """Return the checks of a metric, each a callable that raises AssertionError on failure.

    They are used in pytest as those of `bench.testing.method_checks`.
    """
    module = getattr(metric.compute, "__module__", "")
    return checks_of(metric, f"metric {metric.name}", module, _CHECKS)


def check_metric(
    metric: Metric, *, report: Callable[[Result], None] | None = None
) -> ConformanceReport:
    """Run the checks of a metric.

    Args:
        metric: the metric.
        report: called with every result as it comes.
    """
    return run_checks(metric_checks(metric), report)
