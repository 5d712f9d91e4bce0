"""Checks of densities and scores.

Each check returns a note with its measurement, or raises `Failed`. Significance levels are those
of a whole check, corrected for the number of comparisons.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from bench.contracts import HasLogProb, HasScore, Parameter, Task
from bench.errors import counted
from bench.registry.validate import one_line
from bench.testing.declared_checks import AT_CORNERS, REFERENCE, SEEDED, TRANSFORMED
from bench.testing.invariance import drifts
from bench.testing.model import at, corners, grid, inside, parts, parts_with, place, rng
from bench.testing.report import Failed, Skipped, expect, expect_tensor

DENSITY = "the component's log_prob"
SCORE = "the component's score"
_WEIGHTS = "bench.contracts.Task.weights"

LEVEL = 1e-3
"""Probability that a statistical check fails for a correct task."""
SCATTERED = {False: 1000, True: 10}
"""Number of random contexts with finite log-densities, by whether calls are expensive."""
SIMULATIONS = {True: 40_000, False: 1000}
"""Number of simulations compared with a density, by whether observations have few numbers."""
EXPENSIVE = {"simulator": 100, "normalisation": 50, "slopes": 8, "mean-score": 25}
"""Limits on simulations per check for expensive simulators; the checks are then less sensitive."""
_Function = Callable[[Tensor], Tensor]
_FEW = {"vector": 32, "series": 4, "field": 4}  # largest size of one with few numbers
_INTEGRATED = 3  # largest size of an observation for integration of the density
_LATTICE = 2  # largest number of parameters whose likelihood needs no gradients
_NODES = 8  # contexts at which the mean score is computed
_SLOPES = 24  # pairs of observations and contexts with compared scores
_SCORES = {True: 4000, False: 250}  # scores per mean, by whether numbers are few
_PROPOSALS = 3000  # proposals of importance sampling
_CENTRES, _WIDTH = 150, 0.5  # number of its kernels, and their width in standard deviations
_PLACES = 4  # contexts at which densities are integrated


def finite(task: Task) -> None:
    """Check that log-densities are finite for simulations, −inf for impossible x, never NaN."""
    for name, part in _known(task):
        for context in corners(task):
            n = AT_CORNERS[task.expensive]
            x = part.simulate(context.expand(n, -1), rng(task, name)).float()
            where = at(task, context)
            bad = int((~part.log_prob(x, context).isfinite()).sum())
            expect(
                not bad,
                f"finite log-densities of {name} simulated at {where}",
                f"{bad} of {len(x)} not finite",
                DENSITY,
            )
            strange = {"zeros": torch.zeros_like(x), "the negative of simulations": -x}
            strange |= {"distant values": 1e3 * x, "shifted values": x + 0.5}
            for what, other in strange.items():
                value = part.log_prob(other, context)
                expected = f"numbers or −inf as log-densities of {what}, of {name} at {where}"
                for came, found in (("NaN", value.isnan()), ("+inf", value.isposinf())):
                    expect(not found.any(), expected, came, f"{DENSITY}: impossible x have −inf")
        drawn = task.space.draw_context(SCATTERED[task.expensive], rng(task, "finite"))
        bad_at = ~part.log_prob(part.simulate(drawn, rng(task, name)).float(), drawn).isfinite()
        if bad_at.any():
            raise Failed(
                f"finite log-densities of {name} simulated at {at(task, drawn[bad_at][0])}",
                f"not finite there and at {int(bad_at.sum())} of {len(drawn)} random contexts",
                DENSITY,
            )


def broadcasting(task: Task) -> str:
    """Check that observations and contexts broadcast: all pairs agree with single pairs."""
    functions = 0
    for name, part in parts(task):
        context = inside(task, 5).float()
        x = torch.cat([part.simulate(c.expand(2, -1), rng(task, name)) for c in context]).float()
        rows = x.view(5, 2, 1, *task.event_shape)
        for function, has in (("log_prob", HasLogProb), ("score", HasScore)):
            if not isinstance(part, has):
                continue
            evaluate = getattr(part, function)
            rest = (context.shape[1],) if function == "score" else ()
            pairs = [evaluate(o[None], c[None])[0] for o in x for c in context]
            each = torch.stack(pairs).view(10, 5, *rest)
            one = torch.arange(5)
            for case, events, nodes, wanted in (
                ("all pairs", x[:, None], context[None], each),
                ("one to one", x[:5], context, each[one, one]),
                ("one context", x, context[:1], each[:, 0]),
                ("one observation", x[:1], context, each[0]),
                ("rows and columns", rows, context, each.view(5, 2, 5, *rest)),
            ):
                shapes = f"x {tuple(events.shape)} and context {tuple(nodes.shape)}"
                expected = f"{function} of {name} at {shapes} to be that of each pair"
                where = f"the component's {function}: x (*B, *event) and context (*B, d) broadcast"
                try:
                    came = evaluate(events, nodes)
                except Exception as error:
                    raise Failed(expected, one_line(error), where) from error
                expect(
                    came.shape == wanted.shape,
                    f"{expected}, {tuple(wanted.shape)}",
                    tuple(came.shape),
                    where,
                )
                apart = float((came - wanted).abs().max())
                expect(
                    torch.allclose(came.double(), wanted.double(), rtol=1e-5, atol=1e-6),
                    expected,
                    f"a difference of {apart:.2g} for {case}",
                    where,
                )
            functions += 1
    if not functions:
        raise Skipped("no component has a log_prob or a score")
    return counted(functions, "function")


def simulator(task: Task) -> str:
    """Check that simulations follow log_prob, with the test of `bench.testing.invariance`."""
    n = _number(task, "simulator", SIMULATIONS[_has_few_numbers(task)])
    found = []
    for name, part in _known(task):
        moved, accepted = drifts(task, part, n, rng(task, "simulator", name))
        expect(
            accepted,
            f"log-densities of {name} under which simulations can lie closer together",
            "none: no step of a Markov chain was ever accepted",
            f"{DENSITY}: it is far too narrow",
        )
        found += [(name, drift) for drift in moved]
    name, worst = min(found, key=lambda f: f[1].p_value)
    p = min(1.0, worst.p_value * len(found))
    wrong = "the context" if worst.move == "context" else "x"
    expect(
        p >= LEVEL,
        f"{name} that log_prob describes: its Markov chain moves nothing on average",
        f"{worst.statistic} moves by {worst.mean:+.3f} ± {worst.error:.3f} standard deviations "
        f"in steps of {worst.move} (p < {p:.1g} with all {len(found)} statistics)",
        f"the component's simulate and log_prob: how they depend on {wrong}",
    )
    return f"p ≥ {p:.2g}, {counted(len(found), 'statistic')} of {n:,} simulations"


def normalisation(task: Task) -> str:
    """Check that densities of few numbers integrate to one, by importance sampling.

    Proposals are heavy-tailed around simulations. A discrete observation of one number is summed.
    """
    size = math.prod(task.event_shape)
    known = _known(task)
    if size > _INTEGRATED or (task.discrete and size > 1):
        raise Skipped(f"integrals over {size} numbers are out of reach; a constant may be wrong")
    worst = 0.0
    for name, part in known:
        for context in inside(task, _PLACES).float():
            random = rng(task, "normalisation", name)
            centres = _number(task, "normalisation", _CENTRES)
            x = part.simulate(context.expand(centres, -1), random).double().view(-1, size)
            if task.discrete:
                low, high = x.min(), x.max()
                whole = torch.arange(2 * low - high - 10, 2 * high - low + 11, dtype=low.dtype)
                values = part.log_prob(whole.view(-1, *task.event_shape), context).exp()
                mean, error = float(values.sum()), 1e-3
            else:
                values = _weights(part, x, context, tuple(task.event_shape), random)
                mean = float(values.mean())
                error = float(values.std()) / math.sqrt(len(values)) + 1e-9
            worst = max(worst, abs(mean - 1))
            p = 2 * stats.norm.sf(abs(mean - 1) / error)
            expect(
                not p * len(known) * _PLACES < LEVEL,
                f"a density of {name} that integrates to 1 at {at(task, context)}",
                f"{mean:.4f} ± {error:.4f}",
                f"{DENSITY}: constants, and terms of the context",
            )
    return f"1 within {worst:.1g}"


def _weights(
    part: HasLogProb, x: Tensor, context: Tensor, event: tuple[int, ...], random: torch.Generator
) -> Tensor:
    """Return importance weights: density over Cauchy kernels at simulations x (n, size)."""
    scale = _WIDTH * x.std(0).clamp_min(1e-12)
    start = x[torch.randint(len(x), (_PROPOSALS,), generator=random)]
    uniform = torch.rand(start.shape, generator=random, dtype=torch.float64)
    proposed = start + scale * (math.pi * (uniform - 0.5)).tan()
    pull = (proposed[:, None] - x) / scale
    kernels = -(1 + pull.square()).log() - (math.pi * scale).log()
    log_proposal = kernels.sum(-1).logsumexp(1) - math.log(len(x))
    return (part.log_prob(proposed.view(-1, *event), context) - log_proposal).exp().nan_to_num(0.0)


def slopes(task: Task) -> str:
    """Check that scores are the slopes of log-densities, by central differences."""
    worst = 0.0
    for name, part in parts_with(task, "both a score and a log_prob", HasScore, HasLogProb):
        context = inside(task, _number(task, "slopes", _SLOPES))
        x = part.simulate(context.float(), rng(task, "slopes", name)).float()
        score = part.score(x, context).double()
        expect(
            score.shape == context.shape,
            f"scores {tuple(context.shape)}",
            tuple(score.shape),
            SCORE,
        )
        density, what = partial(part.log_prob, x), f"log_prob of {name}"
        worst = max(worst, _agree(density, context, score, task.space.context, what, SCORE))
    return f"within {worst:.0e} of their size"


def gradients(task: Task) -> str:
    """Check that PyTorch differentiates weights, rate and log-densities, also at the bounds."""
    space, worst = task.space, 0.0
    if len(space) <= _LATTICE and not task.has_auxiliary:
        raise Skipped(f"likelihoods of up to {_LATTICE} parameters need none")
    unit = torch.rand(_SLOPES, len(space), generator=rng(task, "gradients"), dtype=torch.float64)
    theta, bounds = space.from_unit(0.1 + 0.8 * unit), space.from_unit(grid(len(space)))
    functions: dict[str, _Function] = {
        f"the weight of {name}": partial(_weight, task, k)
        for k, name in enumerate(task.component_names)
    }
    if task.rate(theta) is not None:
        functions["the rate"] = partial(_rate, task)
    for called, function in functions.items():
        where = "bench.contracts.Task.rate" if called == "the rate" else _WEIGHTS
        what = (space.parameters, called, where)
        _gradient(function, bounds, *what)
        worst = max(worst, _agree(function, theta, _gradient(function, theta, *what), *what))
    for name, part in parts(task, HasLogProb):
        what = (space.context, f"log_prob of {name}", f"{DENSITY}: PyTorch alone, and no detach")
        context, bounds = inside(task, _number(task, "slopes", _SLOPES)), corners(task).double()
        x = part.simulate(bounds.float(), rng(task, "bounds", name)).float()
        _gradient(partial(part.log_prob, x), bounds, *what)
        x = part.simulate(context.float(), rng(task, "slopes", name)).float()
        density = partial(part.log_prob, x)
        worst = max(worst, _agree(density, context, _gradient(density, context, *what), *what))
    return f"within {worst:.0e} of their size"


def _weight(task: Task, k: int, theta: Tensor) -> Tensor:
    found, shape = task.weights(theta), (len(theta), len(task.component_names))
    expect_tensor(found, shape, f"weights at θ {tuple(theta.shape)} that requires grad", _WEIGHTS)
    return found[..., k]


def _rate(task: Task, theta: Tensor) -> Tensor:
    rate = task.rate(theta)
    assert rate is not None
    return rate


def _gradient(
    function: _Function, values: Tensor, parameters: Sequence[Parameter], what: str, where: str
) -> Tensor:
    """Return the gradient (n, k) of a function of parameters (n, k) by automatic differentiation.

    It is zero where the function does not depend on its argument.

    Raises:
        Failed: if the gradient is not finite somewhere.
    """
    leaf = values.clone().requires_grad_()
    value = function(leaf)
    expect_tensor(value, (len(values),), f"{what} at values that require grad", where)
    if not value.requires_grad:
        return torch.zeros_like(values)
    (gradient,) = torch.autograd.grad(value.sum(), leaf, materialize_grads=True)
    bad = ~gradient.isfinite().all(1)
    if bad.any():
        came = [round(g, 4) for g in gradient[bad][0].tolist()]
        at_place = place(parameters, values[bad][0])
        raise Failed(f"a finite gradient of {what} at {at_place}", str(came), where)
    return gradient


def _agree(
    function: _Function,
    values: Tensor,
    slopes: Tensor,
    parameters: Sequence[Parameter],
    what: str,
    where: str,
) -> float:
    """Compare slopes of a function with central differences.

    Args:
        function: of parameters (n, k), to (n,).
        values: the parameters, (n, k) float64.
        slopes: the slopes, (n, k) float64.
        parameters: the k parameters.
        what: the function, for messages.
        where: where to look.

    Returns:
        The largest difference, in units of the root mean square of the slopes in a parameter.

    Raises:
        Failed: if a difference exceeds its tolerance.
    """
    worst = 0.0
    for j, parameter in enumerate(parameters):
        wanted, error = _slope(function, values, j, 1e-3 * (parameter.high - parameter.low))
        scale = wanted.square().mean().sqrt()
        allowed = 1e-4 * scale + 1e-4 * wanted.abs() + 10 * error + 1e-9
        apart = (slopes[:, j] - wanted).abs()
        worst = max(worst, float((apart / (scale + 1e-12)).max()))
        i = int((apart - allowed).nan_to_num(torch.inf).argmax())
        expect(
            apart.isfinite().all() and (apart <= allowed).all(),
            f"∂ {what} / ∂ {parameter.name} = {float(wanted[i]):.6g} at "
            f"{place(parameters, values[i])}, by finite differences",
            f"{float(slopes[i, j]):.6g}",
            where,
        )
    return worst


def _slope(function: _Function, values: Tensor, j: int, step: float) -> tuple[Tensor, Tensor]:
    """Return slopes in the j-th parameter by fourth-order differences, and their errors."""

    def value(by: float) -> Tensor:
        moved = values.clone()
        moved[:, j] += by
        return function(moved).double()

    def difference(h: float) -> Tensor:
        return (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)

    fine = difference(step / 2)
    return fine, (fine - difference(step)).abs()


def mean_score(task: Task) -> str:
    """Check that scores have mean zero at every context, which compares them with the simulator."""
    scored = parts_with(task, "a score", HasScore)
    if not task.space.context_index:
        raise Skipped("no parameter changes the components")
    n = _number(task, "mean-score", _SCORES[_has_few_numbers(task)])
    found = []
    for name, part in scored:
        for context in inside(task, _NODES).float():
            x = part.simulate(context.expand(n, -1), rng(task, "mean", name)).float()
            score = part.score(x, context[None]).double()
            for j, parameter in enumerate(task.space.context):
                mean, spread = float(score[:, j].mean()), float(score[:, j].std())
                error = spread / math.sqrt(n)
                p = 2 * stats.t.sf(abs(mean) / error, n - 1) if error > 0 else float(mean == 0)
                found.append((float(p), name, parameter.name, context, mean, error))
    p, name, parameter_name, context, mean, error = min(found, key=lambda f: f[0])
    together = min(1.0, p * len(found))
    expect(
        together >= LEVEL,
        f"E[score] = 0 in {parameter_name} of {name} simulated at {at(task, context)}",
        f"{mean:.3g} ± {error:.2g} (p = {together:.1g} with all {len(found)} means)",
        f"{SCORE} and simulate",
    )
    return f"p = {together:.2g}, {counted(len(found), 'mean')} of {n:,}"


def most_calls(task: Task) -> int:
    """Return an upper bound on the simulator calls of all checks of an expensive task."""
    nodes, few, d = len(corners(task)), AT_CORNERS[True], len(task.space.context_index)
    each = 10 + 2 * few * nodes + (3 + 2 * d) * SEEDED[True] + TRANSFORMED[True]
    known = few * nodes + 10 + 3 * EXPENSIVE["simulator"] + _PLACES * EXPENSIVE["normalisation"]
    known += SCATTERED[True] + (nodes + EXPENSIVE["slopes"]) * (len(task.space) > _LATTICE)
    scored = EXPENSIVE["slopes"] + _NODES * EXPENSIVE["mean-score"]
    counts = len(parts(task)), len(parts(task, HasLogProb)), len(parts(task, HasScore))
    return REFERENCE[True] + counts[0] * each + counts[1] * known + counts[2] * scored


def _has_few_numbers(task: Task) -> bool:
    return math.prod(task.event_shape) <= _FEW[task.observation]


def _number(task: Task, check: str, usual: int) -> int:
    return min(usual, EXPENSIVE[check]) if task.expensive else usual


def _known(task: Task) -> list[tuple[str, Any]]:
    return parts_with(task, "a log_prob", HasLogProb)
