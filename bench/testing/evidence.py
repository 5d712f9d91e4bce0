"""Evidence of exact surrogates, for the checks of diagnostics.

Observations x are normal with unit variance. The mean of the first feature is linear in the context
and depends on the component. The reference is the standard normal distribution. Likelihoods of
datasets are Gaussian, and their parameters are uniform in a box.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from bench.contracts import (
    BoxSummary,
    BoxWindow,
    Datasets,
    Evidence,
    HeldOut,
    HeldOutPrediction,
    LikelihoodPrediction,
    ProfileSummary,
    Ratios,
    Samples,
    Weights,
)
from bench.contracts.diagnostic import Array, Part
from bench.inference.box import BOX_NODES, ROOTS
from bench.inference.lattice import BOX_DEPTH

_SLOPE = 0.4  # of the mean in each context parameter, and between components
_SIGMA = 0.05  # standard deviation of estimates, in units of the box
_TRAININGS = 0.2  # deviations of networks of one training, in standard deviations of estimates
_ROWS = (150, 130)  # of two samples
_WEIGHTED = (400, 1600)  # simulations and reference observations
_OBSERVATIONS = 2000  # of the reference, with log-ratios
_TOYS = 60
_NETWORKS = 3

Rng = np.random.Generator


class Case(NamedTuple):
    """Evidence of one form.

    Args:
        what: its form, in words.
        part: name of the part.
        make: function of a generator that returns the part.
    """

    what: str
    part: Part
    make: Callable[[Rng], Any]


def evidence(case: Case, seed: int) -> Evidence:
    """Return evidence of an exact surrogate; seeds have independent evidence."""
    made, own = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    parts: dict[str, Any] = {case.part: case.make(made)}
    return Evidence(own, **parts)


def _mean(context: Array, component: Array) -> Array:
    """Return means of the first feature from contexts (…, d) and numbers of components (…)."""
    return np.asarray(_SLOPE * (context.sum(-1) + component))


def _log_ratio(x: Array, mean: Array) -> Array:
    return np.asarray(mean * x - mean**2 / 2)


def _rows(rng: Rng, n: int, components: int, simulated: bool = True) -> tuple[Array, Array]:
    """Return rows of simulations or of the reference, (n, F), and the log-ratios of both, (n,)."""
    context = rng.uniform(-1, 1, (n, 1))
    component = np.arange(n) % components
    mean = _mean(context, component)
    x = rng.standard_normal((n, 2))
    if simulated:
        x[:, 0] += mean
    columns = [x, context, component[:, None]] if components > 1 else [x, context]
    return np.concatenate(columns, 1).astype(np.float64), _log_ratio(x[:, 0], mean)


def _samples(rng: Rng, components: int) -> Samples:
    first, second = (_rows(rng, n, components)[0] for n in _ROWS)
    return Samples(first, second)


def _weights(rng: Rng, components: int, density: bool = False) -> Weights:
    simulated, _ = _rows(rng, _WEIGHTED[0], components)
    reference, log_weight = _rows(rng, _WEIGHTED[1], components, density)
    return Weights(simulated, reference, np.zeros(len(reference)) if density else log_weight)


def _ratios(rng: Rng, components: int, parameters: int) -> Ratios:
    context = rng.uniform(-1, 1, (16, parameters))
    x = rng.standard_normal((_OBSERVATIONS, 1))
    every = [_log_ratio(x, _mean(context, np.asarray(k))) for k in range(components)]
    return Ratios(context, np.stack(every))


def _losses(rng: Rng, density: bool) -> HeldOutPrediction:
    components, n = ("signal", "background"), 50
    context = rng.uniform(-1, 1, (20, 1))
    mean = np.stack([_mean(context, np.asarray(k)) for k in range(2)])[..., None]  # (K, C, 1)
    x = mean + rng.standard_normal((2, len(context), n))
    reference = _log_ratio(rng.standard_normal(x.shape), mean)
    normal = -(x**2) / 2 - np.log(2 * np.pi) / 2
    values = HeldOut(
        context,
        _log_ratio(x, mean) + (normal if density else 0),
        np.zeros_like(reference) if density else reference,
        _SLOPE * (x - mean)[..., None],
        np.array(density),
        np.array(not density),
    )
    return HeldOutPrediction(components, ("mu",), values)


def _toys(rng: Rng, parameters: int) -> LikelihoodPrediction:
    """Return likelihoods of datasets; the box is the middle third of the parameter space."""
    theta = rng.uniform(size=(_TOYS, parameters))
    mle = theta + _SIGMA * rng.standard_normal(theta.shape)
    reported = tuple(range(parameters)) if parameters < 3 else (0, 2)
    return _likelihoods(theta, mle, reported)


def _likelihoods(theta: Array, mle: Array, reported: tuple[int, ...]) -> LikelihoodPrediction:
    n, parameters = theta.shape
    own = mle[:, list(reported)]
    flags = np.zeros(own.shape, dtype=bool)
    curves = ProfileSummary(
        mle=mle,
        lower=own - _SIGMA,
        upper=own + _SIGMA,
        cut_lower=flags,
        cut_upper=flags,
        disconnected=flags,
        log_ratio_truth=-(((theta - mle) / _SIGMA) ** 2).sum(-1) / 2,
        unresolved=flags[:, 0],
        information=np.full((n, parameters, parameters), np.nan),
        evaluations=np.full((n, 3), np.nan),
    )
    low, high = np.full(parameters, -1.0), np.full(parameters, 2.0)
    return LikelihoodPrediction(
        names=tuple("abc"[:parameters]),
        low=low,
        high=high,
        log_scale=np.zeros(parameters, dtype=bool),
        reported=reported,
        datasets=Datasets(theta, np.full(n, -1), np.arange(n), np.arange(n)),
        curves=curves,
        box=_box(theta, mle, reported),
        box_window=_window(mle, 3.0) if parameters < 3 else None,
        constraint_width=np.full(parameters, np.nan),
    )


def _box(theta: Array, mle: Array, reported: tuple[int, ...]) -> BoxSummary:
    """Return summaries of the likelihoods inside the box, which is the unit cube."""
    best = mle.clip(0, 1)
    fall = ((theta - mle) ** 2 - (best - mle) ** 2) / _SIGMA**2  # of twice the log-likelihood
    outside = np.abs(best - mle)[..., None]
    half = np.sqrt((_SIGMA * np.array(ROOTS)) ** 2 + outside**2)  # (D, P, T)
    ends = [(mle[..., None] + sign * half).clip(0, 1)[:, list(reported)] for sign in (-1, 1)]
    return BoxSummary(
        mle=best,
        lower=ends[0],
        upper=ends[1],
        statistic=fall[:, list(reported)].clip(0, 2 * BOX_DEPTH),
        log_ratio_truth=-fall.sum(-1) / 2,
        unresolved=np.zeros(len(mle), dtype=bool),
        region_factor=np.ones(len(mle)),
    )


def _window(mle: Array, length: float) -> BoxWindow:
    """Return likelihoods of one or two parameters at nodes; a space of this length has the box."""
    reach = np.sqrt(2 * BOX_DEPTH) * _SIGMA
    low, high = (mle - reach).clip(0, 1), (mle + reach).clip(0, 1)
    step = (high - low) / (BOX_NODES - 1)
    nodes = low[..., None] + step[..., None] * np.arange(BOX_NODES)
    falls = -(((nodes - mle[..., None]) / _SIGMA) ** 2) / 2
    falls -= falls.max(-1, keepdims=True)
    joint = falls[:, 0] if mle.shape[1] == 1 else falls[:, 0, :, None] + falls[:, 1, None]
    return BoxWindow((low + 1) / length, step / length, joint.clip(-BOX_DEPTH).astype(np.float32))


def _members(rng: Rng, parameters: int) -> list[LikelihoodPrediction]:
    exact = _toys(rng, parameters)
    return [
        replace(
            _likelihoods(
                exact.datasets.theta,
                exact.curves.mle + _TRAININGS * _SIGMA * rng.standard_normal((_TOYS, parameters)),
                exact.reported,
            ),
            datasets=exact.datasets,
        )
        for _ in range(_NETWORKS)
    ]


def _of(part: Part, forms: Mapping[str, Callable[[Rng], Any]]) -> tuple[Case, ...]:
    return tuple(Case(what, part, make) for what, make in forms.items())


CASES: Mapping[Part, tuple[Case, ...]] = {
    "samples": _of(
        "samples",
        {
            "two components": partial(_samples, components=2),
            "one component": partial(_samples, components=1),
        },
    ),
    "weights": _of(
        "weights",
        {
            "two components": partial(_weights, components=2),
            "one component": partial(_weights, components=1),
            "draws of a density": partial(_weights, components=2, density=True),
        },
    ),
    "ratios": _of(
        "ratios",
        {
            "two components, two parameters": partial(_ratios, components=2, parameters=2),
            "one component, one parameter": partial(_ratios, components=1, parameters=1),
        },
    ),
    "losses": _of(
        "losses",
        {
            "log-ratios": partial(_losses, density=False),
            "log-densities": partial(_losses, density=True),
        },
    ),
    "toys": _of(
        "toys",
        {
            "two parameters": partial(_toys, parameters=2),
            "one parameter": partial(_toys, parameters=1),
            "three parameters, without a lattice": partial(_toys, parameters=3),
        },
    ),
    "members": _of(
        "members",
        {
            "two parameters": partial(_members, parameters=2),
            "three parameters, without a lattice": partial(_members, parameters=3),
        },
    ),
}
"""Forms of each part of the evidence."""
