r"""Draws from a posterior of any number of parameters, within the box.

The posterior of a dataset is :math:`p(\theta | x) \propto \pi(\theta) L(\theta)` in unit
coordinates of the box. Proposals are normal distributions around its modes, in several widths, and
truncated to the box. Their elements are drawn one after another (Geweke 1991; Keane 1994), so that
no proposal is rejected and its density is known. Proposals are weighted by the posterior and
resampled. Where few of them have all the weight, they are moved to the posterior in steps: tempered
sequential Monte Carlo (Neal 2001; Del Moral, Doucet & Jasra 2006).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg, special
from scipy.stats import qmc
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from bench.inference.events import EventLikelihood
from bench.inference.maximum import Points, is_definite, maximise

Array = NDArray[np.float64]
Log = Callable[[Array], Array]
"""Maps points (n, P) to the logarithm of a density or a likelihood, (n,)."""

DRAWS = 256
"""Draws of every posterior."""

IMPORTANCE, TEMPERED, TRUTH = range(3)
"""Sources of draws: weighted proposals, sequential Monte Carlo, the generating parameters."""

_ENOUGH = 2 * DRAWS  # effective sample size at which no more proposals are made
_LEAST = 400  # effective sample size that suffices after the last of them
_ROUND, _ROUNDS = 1024, 10  # proposals at a time, and how often
_SCAN, _NEIGHBOURS = 512, 10  # points among which searches for modes start
_STARTS = 24  # most searches
_SCALES = {1.0: 0.4, 1.3: 0.3, 1.8: 0.2, 3.0: 0.1}  # shares of widths: they imitate a t
_PROBE = 0.2  # half the finite difference of gradients, in standard deviations at fixed others
_DEEP = 12.0  # nats by which a mode may have less probability than the first
_ROUNDING = 1e-8  # least eigenvalue of a precision whose diagonal is 1
_PILOT = 64  # draws that measure how much of a normal distribution is within the box
_PARTICLES = 1024
_KEPT = 0.8  # share of particles that stays effective in a step of the temperature
_MOVES = 10  # moves of a particle at each temperature
_STEPS = 60  # most temperatures
_FAMILIES = 100  # least effective number of proposals from which particles descend
_MOVED = 0.1  # least share of moves accepted at the end


class Modes(NamedTuple):
    """Modes of one posterior and the normal distributions around them, in unit coordinates.

    Args:
        centre: means of the normal distributions, (K, P); outside the box where the posterior is
            highest at its edge.
        precision: their inverse covariances, (K, P, P).
        height: logarithms of the posterior at the means, by parabolas, (K,).
        start: the maxima themselves, (K, P).
    """

    centre: Array
    precision: Array
    height: Array
    start: Array


class Posterior(NamedTuple):
    """Draws from one posterior.

    Args:
        unit: draws in unit coordinates, (S, P).
        value: log-likelihoods there, (S,).
        size: effective sample size; of sequential Monte Carlo, the effective number of proposals
            from which the draws descend.
        source: how they were made: IMPORTANCE, TEMPERED or TRUTH.
        evidence: estimated logarithm of the integral of prior and likelihood over the box.
        evidence_size: effective sample size of this estimate.
        top: highest log-likelihood among modes and proposals.
    """

    unit: Array
    value: Array
    size: float
    source: int
    evidence: float
    evidence_size: float
    top: float


def draw(
    log_likelihood: Log,
    modes: Modes,
    box: Array,
    rng: np.random.Generator,
    truth: Array,
    log_prior: Log | None = None,
    draws: int = DRAWS,
) -> Posterior:
    """Draw from a posterior within a box.

    Args:
        log_likelihood: maps points (n, P) in unit coordinates to log-likelihoods, (n,).
        modes: modes of the posterior.
        box: lower and upper bounds, (2, P).
        rng: generator of random numbers.
        truth: generating parameters, (P,), one exact draw, which is repeated if all else fails.
        log_prior: maps points likewise to log-densities; None for a uniform prior.
        draws: number S of draws.
    """
    proposal = Mixture(modes, box, rng)
    prior = _uniform if log_prior is None else log_prior
    unit, value, log_weight, size = np.empty((0, box.shape[1])), np.empty(0), np.empty(0), 0.0
    for _ in range(_ROUNDS):
        new = proposal.draw(_ROUND, rng)
        found = log_likelihood(new)
        weight = found + prior(new) - proposal.log_density(new)
        unit, value = np.concatenate([unit, new]), np.concatenate([value, found])
        log_weight = np.append(log_weight, weight)
        size = effective_size(log_weight)
        if size >= _ENOUGH:
            break
    top = max(float(value.max()), float(log_likelihood(modes.start).max()))
    known = log_mean(log_weight), size
    if size >= _LEAST:
        rows = resample(log_weight, draws, rng)
        return Posterior(unit[rows], value[rows], size, IMPORTANCE, *known, top)

    def log_target(unit: Array) -> Array:
        return log_likelihood(unit) + prior(unit)

    by_steps = _tempered(log_target, proposal, unit, log_weight, rng) if size else None
    if by_steps is not None:
        particles, size = by_steps
        chosen = particles[rng.permutation(len(particles))[:draws]]
        return Posterior(chosen, log_likelihood(chosen), size, TEMPERED, *known, top)
    repeated = np.repeat(truth[None], draws, 0)
    value = np.repeat(log_likelihood(truth[None]), draws)
    return Posterior(repeated, value, 1.0, TRUTH, *known, max(top, float(value[0])))


def log_mean(logs: Array) -> float:
    """Return the logarithm of the mean of numbers that are given by their logarithms."""
    return float(special.logsumexp(logs)) - math.log(len(logs))


def _uniform(unit: Array) -> Array:
    """Return the log-density of a uniform prior, up to a constant, (n,)."""
    return np.zeros(len(unit))


def effective_size(log_weight: Array) -> float:
    """Return (Σ w)² / Σ w² of weights, the effective sample size (Kong 1992); 0 without weight.

    Example:
        >>> effective_size(np.zeros(10)), effective_size(np.array([0.0, -np.inf]))
        (10.0, 1.0)
    """
    top = log_weight.max()
    if not np.isfinite(top):
        return 0.0
    weight = np.exp(log_weight - top)
    return float(weight.sum() ** 2 / np.square(weight).sum())


def resample(log_weight: Array, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Resample rows in proportion to weights, systematically (Kitagawa 1996), in random order."""
    weight = np.exp(log_weight - log_weight.max()).cumsum()
    at = (np.arange(n) + rng.random()) / n * weight[-1]
    rows = np.searchsorted(weight, at, side="right").clip(max=len(weight) - 1)
    return rng.permutation(rows)


def find_modes(
    likelihood: EventLikelihood,
    box: Tensor,
    starts: Tensor | None = None,
    log_prior: Callable[[Tensor], Tensor] | None = None,
    dataset: int = 0,
) -> Modes:
    """Find the modes of one dataset's posterior within the box, for a likelihood of one member.

    Args:
        likelihood: the log-likelihoods.
        box: lower and upper bounds, (2, P) unit coordinates.
        starts: starts of the searches, (n, P) unit coordinates; if None, points of a Sobol sequence
            in the box that are higher than their neighbours (Rinnooy Kan & Timmer 1987).
        log_prior: maps points (P,) to the log-density of the prior, twice differentiable; uniform
            if None.
        dataset: index of the dataset.
    """
    if starts is None:
        starts = _starts(likelihood, box, dataset)
    maxima = maximise(likelihood.of(torch.full((len(starts),), dataset)), starts[None], box)
    kept = distinct(maxima, 0)
    if not kept:
        return whole(box)
    points, precision, score, height = (
        t[0, kept] for t in (maxima.unit, maxima.curvature, maxima.score, maxima.value)
    )
    measured = _information(likelihood, points, precision, dataset)
    precision = torch.where(is_definite(measured)[:, None, None], measured, precision)
    if log_prior is not None:
        height = height + torch.stack([log_prior(u) for u in points])
        score = score + torch.stack(
            [jacobian(log_prior, u) for u in points]  # type: ignore[no-untyped-call]
        )
        precision = precision - torch.stack(
            [hessian(log_prior, u) for u in points]  # type: ignore[no-untyped-call]
        )
    return modes_at(points, height, score, precision)


def _starts(likelihood: EventLikelihood, box: Tensor, dataset: int) -> Tensor:
    """Return points of a scan that are higher than their neighbours, (n, P): the highest ones."""
    scan = torch.from_numpy(qmc.Sobol(box.shape[1], seed=0).random(_SCAN))
    points = box[0] + (box[1] - box[0]) * scan
    value = likelihood.values(torch.full((_SCAN,), dataset), points[None])[0]
    nearest = torch.cdist(scan, scan).topk(_NEIGHBOURS + 1, largest=False).indices  # and itself
    peaks = (value[:, None] >= value[nearest]).all(-1).nonzero().squeeze(-1)
    return points[peaks[value[peaks].argsort(descending=True)[:_STARTS]]]


def modes_at(points: Tensor, height: Tensor, score: Tensor, precision: Tensor) -> Modes:
    """Return modes from values, gradients and curvatures of a log-posterior at points.

    Args:
        points: in unit coordinates, (K, P).
        height: log-posterior, (K,).
        score: its gradients, (K, P).
        precision: its negative second derivatives, (K, P, P).
    """
    # Where the maximum is at the edge of the box, the parabola's is outside.
    pull = torch.linalg.solve(precision, score)
    top = height + 0.5 * (score * pull).sum(-1)
    return Modes(*(t.numpy() for t in (points + pull, precision, top, points)))


def whole(box: Tensor) -> Modes:
    """Return a normal distribution as wide as the box, where no maximum is finite."""
    centre = box.mean(0, keepdim=True)
    precision = torch.diag_embed(12 / (box[1:] - box[:1]).square())
    return modes_at(centre, torch.zeros(1).double(), torch.zeros_like(centre), precision)


def distinct(maxima: Points, member: int) -> list[int]:
    """Return the tracks whose maxima are finite and differ, the highest first."""
    unit, curvature, value = maxima.unit[member], maxima.curvature[member], maxima.value[member]
    kept: list[int] = []
    for track in value.argsort(descending=True).tolist():
        if not bool(value[track].isfinite()):
            continue
        offset = unit[kept] - unit[track]
        if bool((((offset @ curvature[track]) * offset).sum(-1) > 1).all()):
            kept.append(track)
    return kept


def _information(
    likelihood: EventLikelihood, points: Tensor, curvature: Tensor, dataset: int
) -> Tensor:
    """Return negative second derivatives at points (K, P), by differences of gradients."""
    parameters = points.shape[-1]
    shift = torch.diag_embed(_PROBE * curvature.diagonal(dim1=-2, dim2=-1).rsqrt())
    ends = torch.stack([points[:, None] - shift, points[:, None] + shift]).clamp(0, 1)
    rows = torch.full((ends[..., 0].numel(),), dataset)
    score = likelihood(rows, ends.reshape(1, -1, parameters)).score.view_as(ends)
    length = (ends[1] - ends[0]).diagonal(dim1=-2, dim2=-1)
    found = (score[0] - score[1]) / length[..., None]
    return 0.5 * (found + found.mT)


class Mixture:
    """Mixture of normal distributions around modes in several widths, truncated to a box.

    Args:
        modes: the modes.
        box: lower and upper bounds, (2, P).
        rng: generator of random numbers.
    """

    def __init__(self, modes: Modes, box: Array, rng: np.random.Generator) -> None:
        self.modes = [
            Truncated(centre, precision, box)
            for centre, precision in zip(modes.centre, modes.precision, strict=True)
        ]
        mass = np.array(
            [
                height - mode.log_root + mode.log_inside(_PILOT, rng)
                for height, mode in zip(modes.height, self.modes, strict=True)
            ]
        )
        mass -= mass.max()
        self.modes = [mode for mode, m in zip(self.modes, mass, strict=True) if m > -_DEEP]
        # Square roots, because masses are estimates.
        self.share = special.softmax(0.5 * mass[mass > -_DEEP])

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n points, (n, P)."""
        share = np.outer(self.share, list(_SCALES.values())).flatten()
        counts = np.diff(np.floor(n * np.append(0, share.cumsum()) + rng.random()).clip(max=n))
        counts[-1] += n - counts.sum()
        each = iter(counts.astype(int))
        return np.concatenate(
            [mode.draw(next(each), scale, rng)[0] for mode in self.modes for scale in _SCALES]
        )

    def log_density(self, unit: Array) -> Array:
        """Return the log-density at points (n, P) in the box, (n,)."""
        parts = [
            mode.log_density(unit, scale) + math.log(share * width)
            for mode, share in zip(self.modes, self.share, strict=True)
            for scale, width in _SCALES.items()
        ]
        total: Array = special.logsumexp(parts, axis=0)
        return total


class Truncated:
    """Normal distribution within a box.

    Args:
        centre: mean before truncation, (P,).
        precision: inverse covariance before truncation, (P, P).
        box: lower and upper bounds, (2, P).
    """

    def __init__(self, centre: Array, precision: Array, box: Array) -> None:
        self.centre = centre
        self.bounds = box - centre
        self.root: Array = np.linalg.cholesky(_inverse(precision)).astype(np.float64)
        self.log_root = -float(np.log(self.root.diagonal()).sum())
        """Logarithm of the density's factor, minus the determinant of the root."""

    def draw(self, n: int, scale: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw n points, (n, P), and return the logarithms of the masses of their elements, (n,).

        An element is a truncated normal given the elements before it.
        """
        z = np.zeros((n, len(self.centre)))
        log_mass = np.zeros(n)
        for j, row in enumerate(self.root):
            low, high = (b[j] / (scale * row[j]) - z @ row / row[j] for b in self.bounds)
            z[:, j], mass = _truncated(low, high, rng.random(n))
            log_mass += mass
        unit = self.centre + scale * z @ self.root.T
        return unit.clip(self.centre + self.bounds[0], self.centre + self.bounds[1]), log_mass

    def log_inside(self, n: int, rng: np.random.Generator) -> float:
        """Estimate the logarithm of the mass within the box from n draws."""
        return float(special.logsumexp(self.draw(n, 1.0, rng)[1])) - math.log(n)

    def log_density(self, unit: Array, scale: float) -> Array:
        """Return the log-density of draws at points (n, P) in the box, (n,)."""
        residual = (unit - self.centre) / scale
        z = linalg.solve_triangular(self.root, residual.T, lower=True).T
        width = self.root.diagonal()
        before = residual / width - z
        low, high = (b / (scale * width) - before for b in self.bounds)
        _, log_mass = _truncated(low, high, None)
        one = -0.5 * np.square(z) - 0.5 * math.log(2 * math.pi) - math.log(scale) - log_mass
        total: Array = one.sum(-1) + self.log_root
        return total


def _inverse(precision: Array) -> Array:
    """Return the covariance of a precision, made positive definite within rounding."""
    scale = np.sqrt(np.maximum(precision.diagonal(), 1e-12))
    values, vectors = np.linalg.eigh(precision / np.outer(scale, scale))
    covariance = (vectors / np.maximum(values, _ROUNDING)) @ vectors.T
    return np.asarray(0.5 * (covariance + covariance.T) / np.outer(scale, scale))


def _truncated(low: Array, high: Array, share: Array | None) -> tuple[Array, Array]:
    """Return quantiles of a standard normal between bounds, and the log-mass between them."""
    flip = low > 0  # the lower tail is computed without loss of digits
    first, last = np.where(flip, -high, low), np.where(flip, -low, high)
    below, above = special.log_ndtr(first), special.log_ndtr(last)
    log_mass = above + np.log(-np.expm1(np.minimum(below - above, -1e-300)))
    if share is None:
        return log_mass, log_mass
    z = special.ndtri_exp(np.logaddexp(below, np.log(share) + log_mass).clip(max=0))
    z = z.clip(first, last)
    return np.where(flip, -z, z), log_mass


def _tempered(
    log_target: Log, proposal: Mixture, unit: Array, log_weight: Array, rng: np.random.Generator
) -> tuple[Array, float] | None:
    """Move proposals to a target in steps; return particles and their effective families.

    None if too few proposals have descendants, or too few moves are accepted at the end.
    """
    log_ratio, family, power = log_weight, np.arange(len(unit)), 0.0
    scale, accepted = 1.0, 0.0
    roots = np.stack([mode.root for mode in proposal.modes])
    for _ in range(_STEPS):
        step = _next(log_ratio, 1 - power)
        power = min(power + step, 1.0)
        chosen = resample(step * log_ratio, _PARTICLES, rng)
        unit, log_ratio, family = unit[chosen], log_ratio[chosen], family[chosen]
        value = proposal.log_density(unit)
        for _ in range(_MOVES):
            # The mode is chosen independently of the particle, so that moves are symmetric.
            mode = rng.choice(len(roots), size=len(unit), p=proposal.share)
            noise = rng.standard_normal(unit.shape) * 2.4 * scale / math.sqrt(unit.shape[1])
            trial = unit + np.einsum("npq,nq->np", roots[mode], noise)
            low, high = proposal.modes[0].centre + proposal.modes[0].bounds
            inside = ((trial >= low) & (trial <= high)).all(-1)
            new, ratio = np.full(len(unit), -np.inf), np.full(len(unit), -np.inf)
            if inside.any():
                new[inside] = proposal.log_density(trial[inside])
                ratio[inside] = log_target(trial[inside]) - new[inside]
            gain = np.where(inside, new + power * ratio - value - power * log_ratio, -np.inf)
            moved = np.log(rng.random(len(unit))) < gain
            unit = np.where(moved[:, None], trial, unit)
            value, log_ratio = np.where(moved, new, value), np.where(moved, ratio, log_ratio)
            accepted = float(moved.mean())
            scale *= math.exp(accepted - 0.25)
        if power == 1:
            break
    _, counts = np.unique(family, return_counts=True)
    families = len(unit) ** 2 / float(np.square(counts).sum())
    sound = power == 1 and families >= _FAMILIES and accepted >= _MOVED
    return (unit, families) if sound else None


def _next(log_ratio: Array, rest: float) -> float:
    """Return the step in temperature that leaves enough particles effective."""
    if effective_size(rest * log_ratio) >= _KEPT * _PARTICLES:
        return rest
    low, high = 0.0, rest
    for _ in range(30):
        middle = 0.5 * (low + high)
        enough = effective_size(middle * log_ratio) >= _KEPT * _PARTICLES
        low, high = (middle, high) if enough else (low, middle)
    return max(low, 1e-6)
