"""Exact posteriors of datasets: draws that all methods share, and surrogates evaluated at them."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts import BootstrapPlan, EventsOfSet, IndependentPlan, PosteriorDraws, Task
from bench.inference.datasets import likelihood_of
from bench.inference.draws import (
    TRUTH,
    Mixture,
    Modes,
    distinct,
    draw,
    effective_size,
    find_modes,
    log_mean,
    modes_at,
    whole,
)
from bench.inference.events import EventLikelihood
from bench.inference.lattice import BOX_DEPTH
from bench.inference.likelihood import ExactLikelihood
from bench.inference.maximum import Points, maximise
from bench.seeds import digest
from bench.storage.simulations import Arrays, Chunk, SimulationStore, simulations_key

AT_DRAWS = 64
"""Draws of a dataset at which surrogates are evaluated."""

_VERSION = 1  # of the draws; increase it when they change
_PROPOSALS = 256  # evaluations of a surrogate that measure its integral
_CLOSE = 0.7  # share of effective draws from which these measure the ratio of integrals
_NAMES = frozenset(
    ("unit", "value", "modes", "evidence", "evidence_size", "size", "source", "evaluations")
)


class Drawn(NamedTuple):
    """Stored draws from the exact posterior of one dataset.

    Args:
        arrays: draws `unit` (S, P) and the log-likelihoods there `value` (S,) and their `evidence`,
            relative to the maximum; `modes` (K, P); `size` and `source` as in `Posterior`.
        seed: seed of random numbers of this dataset, the same for all methods.
    """

    arrays: Arrays
    seed: int


def drawn(
    task: Task,
    plan: IndependentPlan | BootstrapPlan,
    events: EventsOfSet,
    simulations: SimulationStore,
) -> Drawn:
    """Draw from the exact posterior of a dataset, or read what an earlier job has drawn."""
    events_digest = hashlib.sha256(np.ascontiguousarray(events.x.numpy()).tobytes()).hexdigest()
    identity = ["posterior", _VERSION, task.name, task.version, dict(task.settings)]
    identity += [events_digest, events.theta.tolist()]
    if task.has_auxiliary:
        identity += [events.measured.tolist(), plan.observations, plan.multiple]
    chunk = Chunk(simulations_key(task, identity), 0, "evaluation")
    seed = int(digest(identity), 16)
    return Drawn(
        simulations.get(task, chunk, _NAMES, lambda: _draw(task, plan, events, seed)), seed
    )


def _draw(
    task: Task, plan: IndependentPlan | BootstrapPlan, events: EventsOfSet, seed: int
) -> Arrays:
    exact = likelihood_of(task, ExactLikelihood(task), plan, [events], torch.device("cpu"))

    def log_likelihood(unit: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = torch.zeros(len(unit), dtype=torch.int64)
        found: NDArray[np.float64] = exact.values(rows, torch.from_numpy(unit)[None])[0].numpy()
        return found

    def log_prior(unit: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = task.log_prior(torch.from_numpy(unit)).numpy()
        return found

    modes = find_modes(exact, task.space.box, log_prior=task.log_prior)
    truth = task.space.to_unit(events.theta).numpy()
    rng = np.random.default_rng(seed)
    found = draw(log_likelihood, modes, task.space.box.numpy(), rng, truth, log_prior)
    numbers = {
        "evidence": found.evidence - found.top,
        "evidence_size": found.evidence_size,
        "size": found.size,
        "evaluations": float(exact.cost[0]),
    }
    arrays = {name: torch.tensor([value]).double() for name, value in numbers.items()}
    arrays["source"] = torch.tensor([found.source])
    arrays["unit"] = torch.from_numpy(found.unit)
    arrays["value"] = torch.from_numpy(found.value - found.top).clamp_min(-BOX_DEPTH)
    arrays["modes"] = torch.from_numpy(modes.start)
    return arrays


def at_draws(
    task: Task,
    likelihood: EventLikelihood,
    maximum: Points,
    rows: Sequence[int],
    posteriors: Sequence[Drawn],
) -> list[PosteriorDraws]:
    """Evaluate a surrogate at draws from exact posteriors.

    The integral of its likelihood over the box, relative to the exact one, is the mean ratio of
    both at the draws (Zwanzig 1954). Where few draws carry this mean, the integral is measured by
    weighted proposals around the surrogate's own maxima.

    Args:
        task: the task.
        likelihood: the surrogate's log-likelihoods of D datasets.
        maximum: its maxima in the box, whose tracks are the datasets.
        rows: indices of the U datasets whose posteriors are given.
        posteriors: their draws.

    Returns:
        The evaluations, by member.
    """
    before = likelihood.cost.clone()
    index = torch.tensor(rows)
    unit = torch.stack([p.arrays["unit"] for p in posteriors])  # (U, S, P)
    exact = torch.stack([p.arrays["value"][:AT_DRAWS] for p in posteriors])
    known = {
        name: torch.cat([p.arrays[name] for p in posteriors])
        for name in ("evidence", "evidence_size", "size", "source", "evaluations")
    }
    members, count = likelihood.members, len(rows)
    points = unit[:, :AT_DRAWS].flatten(0, 1).expand(members, -1, -1)
    values = likelihood.values(index.repeat_interleave(AT_DRAWS), points)
    own = torch.unflatten(values, 1, (count, AT_DRAWS)) - maximum.value[:, index, None]
    own = own.nan_to_num(-BOX_DEPTH).clamp_min(-BOX_DEPTH)  # NaN where all is impossible

    difference = (own - exact).numpy()
    size = np.apply_along_axis(effective_size, -1, difference)
    log_ratio = np.apply_along_axis(log_mean, -1, difference)
    far = (size < _CLOSE * AT_DRAWS) | (known["source"] == TRUTH).numpy()
    if measured := np.flatnonzero(far.any(0)).tolist():
        chosen = [posteriors[row] for row in measured]
        integral = _integrals(task, likelihood, maximum, index[measured].tolist(), chosen)
        for place, row in enumerate(measured):
            found, found_size = (part[:, place] for part in integral)
            use = far[:, row]
            log_ratio[use, row] = (found - float(known["evidence"][row]))[use]
            least = np.minimum(found_size, float(known["evidence_size"][row]))
            size[use, row] = least[use]
    cost = (likelihood.cost - before)[index]
    theta = task.space.from_unit(unit).float().numpy()
    return [
        PosteriorDraws(
            theta=theta,
            exact=exact.numpy(),
            own=own[member].numpy(),
            log_ratio=log_ratio[member],
            log_ratio_size=size[member],
            size=known["size"].numpy(),
            source=known["source"].numpy(),
            evaluations=torch.stack([known["evaluations"], cost], -1).numpy(),
        )
        for member in range(members)
    ]


def _integrals(
    task: Task,
    likelihood: EventLikelihood,
    maximum: Points,
    rows: Sequence[int],
    posteriors: Sequence[Drawn],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure the integrals of a surrogate's likelihoods over the box, relative to its maxima.

    Returns:
        Their logarithms and effective sample sizes, (members, U) each.
    """
    box = task.space.box
    modes = _own_modes(likelihood, maximum, rows, posteriors, box)
    members = likelihood.members
    units, densities = [], []
    for row, posterior in enumerate(posteriors):
        for member in range(members):
            # Members share random numbers, so that a member alone has the same ones.
            rng = np.random.default_rng(posterior.seed)
            proposal = Mixture(modes[row][member], box.numpy(), rng)
            units.append(proposal.draw(_PROPOSALS, rng))
            densities.append(proposal.log_density(units[-1]))
    shape = len(rows), members, _PROPOSALS
    unit = torch.from_numpy(np.stack(units)).view(*shape, -1).transpose(0, 1).flatten(1, 2)
    index = torch.tensor(rows)
    values = likelihood.values(index.repeat_interleave(_PROPOSALS), unit)
    values = torch.unflatten(values, 1, (len(rows), -1)) - maximum.value[:, index, None]
    values = values + torch.unflatten(task.log_prior(unit), 1, (len(rows), -1))
    log_weight = values.numpy() - np.stack(densities).reshape(shape).swapaxes(0, 1)
    return (
        np.apply_along_axis(log_mean, -1, log_weight),
        np.apply_along_axis(effective_size, -1, log_weight),
    )


def _own_modes(
    likelihood: EventLikelihood,
    maximum: Points,
    rows: Sequence[int],
    posteriors: Sequence[Drawn],
    box: Tensor,
) -> list[list[Modes]]:
    """Return a surrogate's modes by dataset and member.

    They are its maximum and, where the exact posterior has several modes, those found from each.
    """
    several = [p.arrays["modes"] if len(p.arrays["modes"]) > 1 else None for p in posteriors]
    starts = [(row, modes) for row, modes in zip(rows, several, strict=True) if modes is not None]
    searched: dict[int, Points] = {}
    if starts:
        tracks = torch.cat([torch.full((len(modes),), row) for row, modes in starts])
        start = torch.cat([modes for _, modes in starts]).expand(likelihood.members, -1, -1)
        found = maximise(likelihood.of(tracks), start, box)
        searched = {row: found.of((tracks == row).nonzero().squeeze(-1)) for row, _ in starts}
    modes = []
    for row in rows:
        points = maximum.of(torch.tensor([row]))
        if row in searched:
            points = points.joined(searched[row])
        modes.append([_modes(points, member, box) for member in range(likelihood.members)])
    return modes


def _modes(points: Points, member: int, box: Tensor) -> Modes:
    kept = distinct(points, member)
    if not kept:
        return whole(box)
    at = (points.unit, points.value, points.score, points.curvature)
    return modes_at(*(t[member, kept] for t in at))
