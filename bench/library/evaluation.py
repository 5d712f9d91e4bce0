"""Evaluation of one surrogate on datasets of a task: `bench.evaluate`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from bench.contracts import (
    Features,
    FitContext,
    FitLog,
    IndependentPlan,
    Method,
    Plan,
    ProfileSummary,
    ReferenceKind,
    Surrogate,
    Task,
)
from bench.contracts.pairs import log_ratio_paired
from bench.contracts.sampling import sample
from bench.errors import PluginError, UsageError, message_of
from bench.experiment.preset import make_preset
from bench.experiment.schedule import schedule
from bench.library.fitting import FittedSurrogate, TemporaryFolder, needed, registry_for
from bench.library.runs import Paths, perform, raise_failures
from bench.registry.registry import Registry
from bench.report.figures import draw_calibration, looks_of
from bench.report.load import Loaded, load
from bench.stages.evaluators import observed
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store


class Evaluation:
    """Results of a surrogate on datasets of a task, beside the exact likelihood if it is known.

    Attributes:
        task: the task.
        surrogate: the surrogate.
        label: its name in tables.
        results: all numbers, as of `bench.load`.
    """

    def __init__(
        self,
        task: Task,
        surrogate: Surrogate,
        label: str,
        results: Loaded,
        temporary: TemporaryFolder | None = None,
    ) -> None:
        self.task = task
        self.surrogate = surrogate
        self.label = label
        self._temporary = temporary
        self.results = results

    def coverage(self) -> pd.DataFrame:
        """Return the coverage of 68.27 % intervals, a line for each reported parameter.

        Columns: `parameter, coverage, error, gap, low, high`. `gap` is the coverage minus that of
        exact intervals, or minus 68.27 % where there are none, with its simultaneous 95 % interval.
        """
        return self._by_parameter(
            {
                "coverage": "coverage {}",
                "error": "coverage {} error",
                "gap": "gap {}",
                "low": "gap {} low",
                "high": "gap {} high",
            }
        )

    def verdicts(self) -> pd.DataFrame:
        """Return whether intervals cover, a line for each reported parameter.

        Columns: `parameter, verdict, honest_length, error`. The verdict is "holds" if the gap of
        the coverage is shown to be within 5 points, "fails" if it is shown to be beyond, or
        "undetermined". The honest length is that of intervals once 68.27 % of them cover, relative
        to exact ones; NaN where it is unknown.
        """
        found = self._by_parameter({"verdict": "verdict {}"})
        frame = self.results.quantities
        known = frame[(frame["label"] == self.label) & (frame["metric"] == "honest_length ratio")]
        values = known.drop_duplicates("key").set_index("key")[["value", "error"]]
        lengths = values.reindex(found["parameter"]).to_numpy()
        return found.assign(honest_length=lengths[:, 0], error=lengths[:, 1])

    def leaderboard(self) -> pd.DataFrame:
        """Return all that leaderboards say, a line for each method; see `Loaded.leaderboard`."""
        return self.results.leaderboard()

    def intervals(
        self, x: ArrayLike | Tensor, *, measured: Mapping[str, float] | None = None
    ) -> pd.DataFrame:
        r"""Return estimates and 68.27 % intervals of one dataset, such as the observed one.

        Args:
            x: its observations, (n, \*event).
            measured: auxiliary measurements of constrained parameters, by name; their centres
                where None.

        Returns:
            A line for each member and reported parameter. Columns: `member, parameter, estimate,
            low, high, cut, unresolved`. `cut` is whether a bound of the parameter space cuts the
            interval; `unresolved` whether its ends are less accurate than required.

        Raises:
            UsageError: if the observations have another shape, or are not finite.
        """
        events = observations_of_user(self.task, x)
        folder = self.results.folders.root
        profiles = profiles_of(self.task, self.surrogate, events, folder, measured)
        return intervals_of(self.task, profiles)

    def plot(self) -> Figure:
        """Draw coverage against the nominal level, for each parameter and for all jointly."""
        frame = self.results.calibration
        names = list(dict.fromkeys(frame["parameter"]))
        if not names:
            raise UsageError("no coverage to draw: there are too few datasets")
        figure = Figure(figsize=(3.2 * len(names), 3.2), layout="constrained")
        looks = looks_of(self.results)
        for name, axes in zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True):
            draw_calibration(frame[frame["parameter"] == name], axes, looks)
            axes.set_title(name)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return figure

    def _by_parameter(self, columns: Mapping[str, str]) -> pd.DataFrame:
        frame = self.leaderboard()
        (row,) = frame[frame["label"] == self.label].to_dict("records")
        return pd.DataFrame.from_records(
            [
                {"parameter": name} | {k: row[v.format(name)] for k, v in columns.items()}
                for name in self.task.reported
            ]
        )

    def __repr__(self) -> str:
        return f"Evaluation({self.label!r} on {self.task.name!r})\n{self.verdicts().to_string()}"

    def _repr_html_(self) -> str:
        """Show the leaderboard in a notebook."""
        return self.results._repr_html_()


def observations_of_user(task: Task, x: ArrayLike | Tensor) -> Tensor:
    r"""Return the observations of a dataset as a tensor, (n, \*event) float32.

    Raises:
        UsageError: if they are no numbers, have another shape, or are not finite.
    """
    try:
        given = x.detach().cpu() if isinstance(x, Tensor) else x
        array = np.asarray(given)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"they are of type {array.dtype}")
        events = torch.from_numpy(array.astype(np.float32))
    except (TypeError, ValueError) as error:
        raise UsageError(f"observations are no array of numbers: {message_of(error)}") from error
    if events.dim() != 1 + len(task.event_shape) or events.shape[1:] != task.event_shape:
        wanted = ", ".join(map(str, ("n", *task.event_shape)))
        raise UsageError(f"observations have shape {tuple(events.shape)}, not ({wanted})")
    if not len(events) or not bool(events.isfinite().all()):
        raise UsageError("a dataset is at least one observation, and all of them finite")
    return events


def profiles_of(
    task: Task,
    surrogate: Surrogate,
    events: Tensor,
    folder: Path,
    measured: Mapping[str, float] | None = None,
    threshold: float = 1.0,
) -> list[ProfileSummary]:
    r"""Return the profile likelihoods of one dataset, for each member.

    Args:
        task: the task.
        surrogate: the surrogate.
        events: observations, (n, \*event).
        folder: results folder, where simulations are kept.
        measured: auxiliary measurements of constrained parameters, by name.
        threshold: value that the likelihood-ratio statistic has at interval ends.

    Raises:
        UsageError: if a measurement is of no constrained parameter.
    """
    given = {c.parameter: c.centre for c in task.constraints} | dict(measured or {})
    if unknown := sorted({*given} - {c.parameter for c in task.constraints}):
        raise UsageError(f"{task.name} has no constraint of {', '.join(unknown)}")
    auxiliary = torch.tensor([float(given[c.parameter]) for c in task.constraints]).double()
    device = torch.device("cpu")
    if isinstance(surrogate, FittedSurrogate):
        device = torch.device(surrogate.context.device)
    simulations = SimulationStore(Store.open(folder))
    return observed(task, surrogate, events, auxiliary, device, simulations, threshold)


def intervals_of(task: Task, profiles: Sequence[ProfileSummary]) -> pd.DataFrame:
    """Return estimates and 68.27 % intervals; see `Evaluation.intervals`."""
    return pd.DataFrame.from_records(
        [
            {
                "member": member,
                "parameter": name,
                "estimate": float(curves.mle[0, task.reported_index[i]]),
                "low": float(curves.lower[0, i]),
                "high": float(curves.upper[0, i]),
                "cut": bool(curves.cut_lower[0, i] | curves.cut_upper[0, i]),
                "unresolved": bool(curves.unresolved[0]),
            }
            for member, curves in enumerate(profiles)
            for i, name in enumerate(task.reported)
        ]
    )


def evaluate(
    on: Task | str,
    surrogate: Any,
    *,
    datasets: int = 64,
    plans: Sequence[Plan] | None = None,
    plugins: Paths = (),
    quiet: bool = False,
) -> Evaluation:
    """Evaluate a surrogate on datasets of a task, beside the exact likelihood if it is known.

    The numbers are those of `bench run` with the same plan and seed. Evaluations are kept in the
    folder of a surrogate that `bench.fit` trained.

    Args:
        on: the task, or its name.
        surrogate: what `bench.fit` returned, or an object with `log_ratio`, as
            `bench.contracts.Surrogate`.
        datasets: number of datasets, whose parameters are uniform in the inner box.
        plans: evaluation plans instead.
        plugins: files that define the task.
        quiet: whether to show no progress.

    Raises:
        UsageError: if a name or a value is wrong.
        BenchError: if the evaluation fails.

    Example:
        >>> evaluation = bench.evaluate("higgs", surrogate)  # doctest: +SKIP
        >>> evaluation.verdicts()  # doctest: +SKIP
    """
    if not 2 <= datasets <= 10**6:
        raise UsageError(f"datasets = {datasets} is not allowed: it must be 2 to 1,000,000")
    chosen = tuple(plans or (IndependentPlan(uniform=datasets, per_point=0),))
    temporary = None
    if isinstance(surrogate, FittedSurrogate):
        name = on if isinstance(on, str) else on.name
        if name != surrogate.task.name:
            raise UsageError(f"the surrogate was trained on {surrogate.task.name}, not on {name}")
        context, pattern = surrogate.context, surrogate.pattern
        registry = Registry(context.plugins, context.objects)
        preset, root = surrogate.preset, surrogate.folder
    else:
        method, members = _given(registry_for(on, "exact", plugins)[0], on, surrogate)
        registry, name = registry_for(on, method, plugins)
        temporary = TemporaryFolder()
        pattern, root = method.name, temporary.path
        preset = make_preset(tasks=(name,), methods=(pattern,), members=members, budgets=(1,))
    preset = preset.model_copy(update={"plans": chosen})
    planned = schedule(registry, preset, Store.open(root))
    own = [s for s in planned.specs if s.oracle or _is(s, surrogate, pattern)]
    planned = replace(planned, specs=own, jobs=needed(planned.jobs, own))
    summary, *_ = perform(planned, ["bench.evaluate"], quiet=quiet, here=True)
    raise_failures(planned, summary)
    label = next(spec.label for spec in own if _is(spec, surrogate, pattern))
    return Evaluation(registry.task(name), surrogate, label, _loaded(root, registry), temporary)


def _loaded(root: Path, registry: Registry) -> Loaded:
    found = load(root)
    return Loaded(found.folders, found.results, registry)


def _is(spec: Any, surrogate: Any, pattern: str) -> bool:
    """Return whether a fit is the surrogate's."""
    if isinstance(surrogate, FittedSurrogate):
        return bool(spec.folder == surrogate.spec.folder)
    return bool(spec.method == pattern)


class _Members:
    """Some members of a surrogate."""

    def __init__(self, surrogate: Any, members: Tensor) -> None:
        self._surrogate, self._members = surrogate, members
        self.log = FitLog()
        self.reference: ReferenceKind | None = getattr(surrogate, "reference", None)
        self.has_density = bool(getattr(surrogate, "has_density", False))

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        return cast(Tensor, self._surrogate.log_ratio(x, context)[self._members])

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        return log_ratio_paired(self._surrogate, x, context)[self._members]

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        return sample(self._surrogate, context, generator)[self._members]

    def state(self) -> Mapping[str, Tensor]:
        return {"members": self._members}


def _given(registry: Registry, on: Task | str, surrogate: Any) -> tuple[type[Method], int]:
    """Return a method whose fit is a surrogate, and the number of its members.

    Raises:
        PluginError: if it has no log_ratio of the right shape.
    """
    task = registry.task(on) if isinstance(on, str) else on
    if not callable(getattr(surrogate, "log_ratio", None)):
        what = type(surrogate).__name__
        raise PluginError(f"an object of type {what} is no surrogate: it has no log_ratio")
    with torch.no_grad():
        out = surrogate.log_ratio(torch.zeros(1, *task.event_shape), task.nominal[None])
    if not isinstance(out, Tensor) or out.dim() != 4:
        came = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise PluginError(
            f"log_ratio returned {came}; the contract is a torch.Tensor (members, components, "
            "events, contexts)"
        )

    class Given(Method):
        """Surrogate of this program."""

        name = "surrogate"
        title = "Surrogate of this program"

        def fit(self, fit_context: FitContext) -> _Members:
            return _Members(surrogate, torch.tensor(fit_context.members))

        def restore(self, task: Task, features: Features, state: Mapping[str, Tensor]) -> _Members:
            return _Members(surrogate, state["members"])

    return Given, len(out)
