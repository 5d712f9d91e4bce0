"""Evaluators of likelihoods: what is saved of every dataset of a plan, by member.

There are two behind one contract. The lattice evaluates likelihoods of one or two parameters on a
product of axes. The gradient evaluator follows their profiles, in any number of parameters.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from bench.contracts import (
    BootstrapPlan,
    BoxSummary,
    BoxWindow,
    EventsOfSet,
    IndependentPlan,
    LatticeWindow,
    PosteriorDraws,
    ProfileSummary,
    Resolution,
    Surrogate,
    Task,
)
from bench.contracts.plan import EvaluatorName, evaluator_of
from bench.inference.box import ROOTS, summarise_box
from bench.inference.critical import CriticalValues, critical_values_of
from bench.inference.datasets import likelihood_of, log_ratio_of
from bench.inference.ends import SLACK
from bench.inference.gradient import GradientProfiles, profile
from bench.inference.intervals import summarise
from bench.inference.lattice import BOX_DEPTH, DEPTH, refine
from bench.inference.likelihood import LogRatio, MixtureLikelihood
from bench.inference.polynomials import Window
from bench.inference.profiling import Profiled
from bench.inference.rescaling import rescaled
from bench.stages.posterior import at_draws, drawn
from bench.storage.simulations import SimulationStore

AT_ONCE = 32
"""Datasets whose profiles are followed together."""

_FULL_SPACING = 0.25  # spacing for all k M events, in their half-widths: under σ/3
_NEGATIVE = 0.02  # statistic below zero, in nats, that shows that a maximum was missed

Windows = tuple[Window, ...]
Saved = ProfileSummary | LatticeWindow | BoxSummary | BoxWindow | PosteriorDraws


class Evaluated(NamedTuple):
    """Likelihoods of the datasets of some sets; each list is by member.

    Args:
        curves: summaries of the datasets and, on a lattice, their windows.
        box: the same inside the box; empty unless the plan is independent.
        full: the same of all events of each set; empty unless the plan is of bootstraps.
        draws: likelihoods at draws from the exact posteriors; empty from the lattice, and where
            there are none.
    """

    curves: list[tuple[Saved, ...]]
    box: list[tuple[Saved, ...]]
    full: list[tuple[Saved, ...]]
    draws: Sequence[tuple[Saved, ...]] = ()


Evaluator = Callable[
    [
        Task,
        Surrogate,
        IndependentPlan | BootstrapPlan,
        Iterable[EventsOfSet],
        torch.device,
        int,
        SimulationStore,
    ],
    Iterator[Evaluated],
]
"""Maps a task, a surrogate, a plan, its sets, a device, the number of members, and the store of
draws from exact posteriors to likelihoods.

Raises:
    NonFiniteError: if a log-ratio is NaN or +inf.
    PluginError: if log_ratio returns a wrong shape.
"""


def on_lattice(
    task: Task,
    surrogate: Surrogate,
    plan: IndependentPlan | BootstrapPlan,
    sets: Iterable[EventsOfSet],
    device: torch.device,
    members: int,
    simulations: SimulationStore,
) -> Iterator[Evaluated]:
    """Evaluate one set after another on lattices, as Evaluator."""
    finer = [dataclasses.replace(r, spacing=_FULL_SPACING, tolerance=None) for r in task.resolution]

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        return log_ratio_of(task, surrogate, x, context)

    boxed = isinstance(plan, IndependentPlan)
    critical = critical_values_of(surrogate, members)
    for events in sets:
        own, around = evaluate(
            task, log_ratio, events, device, members, boxed=boxed, critical=critical
        )
        if not boxed:
            everything = dataclasses.replace(events, counts=torch.ones(1, len(events.x)))
            found, _ = evaluate(
                task, log_ratio, everything, device, members, finer, around, critical=critical
            )
            own = own._replace(full=found.curves)
        yield own


def evaluate(
    task: Task,
    log_ratio: LogRatio,
    events: EventsOfSet,
    device: torch.device,
    members: int = 1,
    resolution: Sequence[Resolution] | None = None,
    start: Windows | None = None,
    *,
    boxed: bool = False,
    critical: Sequence[CriticalValues | None] = (None,),
) -> tuple[Evaluated, Windows]:
    r"""Evaluate the datasets of one set of events on a lattice.

    Args:
        task: the task.
        log_ratio: maps events (n, \*event) and contexts (J, d) to (members, K, n, J).
        events: the set and its datasets.
        device: device of log_ratio.
        members: number of members of log_ratio.
        resolution: required resolution of each parameter; the task's own if None.
        start: window that contains the maxima, unit coordinates; the whole space if None.
        boxed: whether to summarise the likelihoods inside the inner box too.
        critical: critical values of each member, if it has any.

    Returns:
        The likelihoods, and the window of the lattice, unit coordinates.

    Raises:
        NonFiniteError: if a log-ratio is NaN or +inf.
    """
    weighed = MixtureLikelihood(
        log_ratio,
        events.x.to(device),
        (events.power * events.counts).to(device),
        task.space,
        task.weights,
        events.theta,
        members,
    )
    box = task.space.box if boxed else None
    depth = DEPTH * max([1.0, *(own.largest for own in critical if own is not None)])
    lattice = refine(weighed, resolution or task.resolution, start=start, depth=depth, box=box)
    found = Evaluated([], [], [])
    # All members are summarised at once, unless they have critical values of their own.
    together = members if all(own is None for own in critical) else 1
    parts = lattice.split(members // together)
    for part, own in zip(parts, critical if together == 1 else (None,), strict=True):
        own = own and own.raised(events.power)
        where = task.space, task.reported_index, events.theta, own
        found.curves.extend(_by_member(summarise(part, *where), together))
        if part.inside is not None:
            found.box.extend(_by_member(summarise_box(part.inside, *where), together))
    return found, tuple((float(axis[0]), float(axis[-1])) for axis in lattice.axes)


def _by_member(saved: Sequence[Saved], members: int) -> list[tuple[Saved, ...]]:
    """Split what holds the datasets of all members, member after member."""
    return list(zip(*(part.split(members) for part in saved), strict=True))


def by_gradient(
    task: Task,
    surrogate: Surrogate,
    plan: IndependentPlan | BootstrapPlan,
    sets: Iterable[EventsOfSet],
    device: torch.device,
    members: int,
    simulations: SimulationStore,
) -> Iterator[Evaluated]:
    """Follow the profiles of many sets together, as Evaluator; every set is one dataset.

    Raises:
        NotApplicable: if log-ratios have no gradient in the context.
    """
    ordered = iter(sets)
    critical = critical_values_of(surrogate, members)
    corrections = [own for own in critical if own is not None]
    while some := list(islice(ordered, AT_ONCE)):
        likelihood = likelihood_of(task, surrogate, plan, some, device, members)
        truth = task.space.to_unit(torch.stack([events.theta for events in some]))
        found = profile(
            likelihood, task.reported_index, truth, task.space.box, every=bool(corrections)
        )
        if corrections:
            corrections = [own.raised(some[0].power) for own in corrections]
            where = corrections, task.reported_index
            space = torch.zeros_like(task.space.box)
            space[1] = 1.0
            whole = rescaled(likelihood, found.whole, *where, (1.0,), space)
            box = rescaled(likelihood, found.box, *where, ROOTS, task.space.box)
            found = dataclasses.replace(found, whole=whole, box=box)
        uniform = [row for row, events in enumerate(some) if events.point < 0]
        draws: list[PosteriorDraws] = []
        if task.has_exact and uniform:
            posteriors = [drawn(task, plan, some[row], simulations) for row in uniform]
            draws = at_draws(task, likelihood, found.box.maximum, uniform, posteriors)
        yield Evaluated(
            [(_curves(task, found, m, truth, own),) for m, own in enumerate(critical)],
            [(_box(task, found, m, truth, own),) for m, own in enumerate(critical)],
            [],
            [(own,) for own in draws],
        )


def _curves(
    task: Task,
    found: GradientProfiles,
    member: int,
    truth: Tensor,
    critical: CriticalValues | None,
) -> ProfileSummary:
    """Summarise a member's profiles in the parameter space."""
    whole = found.whole
    lower, upper = _ends(task, whole, member)
    return ProfileSummary(
        mle=task.space.from_unit(whole.maximum.unit[member]).numpy(),
        lower=lower[..., 0].numpy(),
        upper=upper[..., 0].numpy(),
        cut_lower=whole.cut_lower[member, ..., 0].numpy(),
        cut_upper=whole.cut_upper[member, ..., 0].numpy(),
        disconnected=torch.zeros_like(whole.cut_lower[member, ..., 0]).numpy(),
        log_ratio_truth=_fall(found, whole, member, truth, critical).numpy(),
        unresolved=_unresolved(whole, member).numpy(),
        information=found.information[member].numpy(),
        evaluations=found.cost.numpy(),
    )


def _box(
    task: Task,
    found: GradientProfiles,
    member: int,
    truth: Tensor,
    critical: CriticalValues | None,
) -> BoxSummary:
    """Summarise a member's profiles in the box."""
    box = found.box
    lower, upper = _ends(task, box, member)
    statistic = found.statistic[member]
    negative = (statistic < -2 * _NEGATIVE).any(-1)
    factor = torch.ones_like(statistic[:, 0])
    if critical is not None:
        factor = critical.factor_of_region(box.maximum.unit[member])
        fixed, index = found.fixed[member], enumerate(task.reported_index)
        each = [critical.of_profile(statistic[:, i], fixed[:, i], p) for i, p in index]
        statistic = torch.stack(each, -1)
    return BoxSummary(
        mle=task.space.from_unit(box.maximum.unit[member]).numpy(),
        lower=lower.numpy(),
        upper=upper.numpy(),
        statistic=statistic.clamp(0, 2 * BOX_DEPTH).numpy(),
        log_ratio_truth=_fall(found, box, member, truth, critical).clamp(-BOX_DEPTH, 0).numpy(),
        unresolved=(_unresolved(box, member) | negative).numpy(),
        region_factor=factor.numpy(),
    )


def _fall(
    found: GradientProfiles,
    profiled: Profiled,
    member: int,
    truth: Tensor,
    critical: CriticalValues | None,
) -> Tensor:
    """Return a member's log-likelihood at the generating parameters minus the maximum, (D,)."""
    fall = (found.at_truth - profiled.maximum.value)[member]
    return fall if critical is None else -0.5 * critical.of_region(-2 * fall, truth)


def _ends(task: Task, profiled: Profiled, member: int) -> tuple[Tensor, Tensor]:
    """Return lower and upper ends of the reported parameters, (D, I, L) each."""
    index = list(task.reported_index)
    found = []
    for ends in (profiled.lower[member], profiled.upper[member]):
        unit = ends.new_full((*ends.shape[:1], ends.shape[2], len(task.space)), 0.5)
        unit[..., index] = ends.transpose(1, 2)
        found.append(task.space.from_unit(unit)[..., index].transpose(1, 2))
    return found[0], found[1]


def _unresolved(profiled: Profiled, member: int) -> Tensor:
    """Return whether a maximum or an end failed its own check, (D,) bool."""
    error = profiled.error[member].flatten(1).amax(-1)
    accurate = (error <= SLACK) & (profiled.maximum.distance[member] <= SLACK)  # not where NaN
    return ~accurate | profiled.missed[member]


EVALUATORS: Mapping[EvaluatorName, Evaluator] = {"lattice": on_lattice, "gradient": by_gradient}
"""Evaluators by name; `bench.contracts.plan.evaluator_of` chooses one."""


def observed(
    task: Task,
    surrogate: Surrogate,
    x: Tensor,
    measured: Tensor,
    device: torch.device,
    simulations: SimulationStore,
    threshold: float = 1.0,
) -> list[ProfileSummary]:
    r"""Evaluate one dataset whose generating parameters are unknown.

    Args:
        task: the task.
        surrogate: the surrogate.
        x: observations, (n, \*event).
        measured: auxiliary measurements of the task's C constraints, (C,) float64.
        device: device of the surrogate.
        simulations: store of simulations, as of Evaluator.
        threshold: value that the likelihood-ratio statistic has at interval ends, above 0.

    Returns:
        The profiles of each member.
    """
    plan = IndependentPlan(uniform=2, observations=len(x))
    evaluator = EVALUATORS[evaluator_of(task, plan)]
    members = len(log_ratio_of(task, surrogate, x[:1].to(device), task.nominal[None].to(device)))
    theta = task.space.from_unit(torch.full((len(task.space),), 0.5, dtype=torch.float64))
    found: list[ProfileSummary] = []
    # Sums are most accurate relative to a point near the maximum, which the first pass finds.
    for _ in range(2):
        counts = torch.ones(1, len(x))
        dataset = EventsOfSet(0, 0, 0, theta, x, counts, measured, power=1 / threshold)
        (evaluated,) = evaluator(task, surrogate, plan, [dataset], device, members, simulations)
        found = [own for part in evaluated.curves for own in part if type(own) is ProfileSummary]
        theta = torch.from_numpy(found[0].mle[0])
    return found
