"""Checks of surrogates.

Each check returns a note with its measurement, or raises `Failed` or `Inaccurate`. `Failed` is a
breach of the contract. `Inaccurate` concerns numbers that depend on the quality of training with a
few thousand simulations and a few hundred steps.
"""

import math

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from bench.contracts import HasPairs, Surrogate, log_ratio_paired
from bench.errors import NotApplicable, counted
from bench.registry.validate import one_line
from bench.testing.asymmetric import asymmetric
from bench.testing.method_under_test import EVENTS, MethodUnderTest, log_ratio, rng
from bench.testing.model import at, contexts, corners
from bench.testing.report import Failed, Inaccurate, Skipped, expect, expect_tensor

RATIO = "the surrogate's log_ratio"
PAIRS = "the surrogate's log_ratio_paired"
RESTORE = "the surrogate's state and the method's restore"

_ROUNDING = 3e-4  # tolerance of a log-ratio, in units of the standard deviation
_STEP = 2e-3  # of finite differences, unit coordinates: few kinks, little rounding
_GRADIENT = 0.1  # largest error of most gradients, relative to their root mean square
_INTERCEPT, _SLOPE = 0.7, (0.6, 1.6)  # limits of calibrated log-odds
_EXCESS = 0.15  # largest excess of their log-loss over the exact one, in nats
_LEARNT = 0.15  # largest loss of information on the context, relative to exact
_MASS = 0.1  # largest deviation of a density's integral from 1
_REACH, _FINE = 30.0, 1.5  # extent of the integration nodes, and of their fine part
_MIXED = ("expected device", "same device", "two devices")  # messages about mixed devices


def shapes(of: MethodUnderTest) -> None:
    """Check that log-ratios have shape (members, components, events, contexts)."""
    task, (x, context) = of.harness.task, of.probe()
    for events, nodes in (
        (x, context),
        (x[:1], context),
        (x[:5], context[:1]),
        (x[:1], context[:1]),
        (torch.zeros(1, *task.event_shape), task.nominal[None]),  # a run begins with this call
    ):
        wanted = (of.members, len(task.component_names), len(events), len(nodes))
        out = log_ratio(of.surrogate, events, nodes)
        came = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        expect(
            came == wanted,
            f"(members, components, events, contexts) = {wanted} of x {tuple(events.shape)} "
            f"and context {tuple(nodes.shape)}",
            came,
            RATIO,
        )


def dtype(of: MethodUnderTest) -> None:
    """Check that log-ratios are float32 or float64 and the state can be saved."""
    out = log_ratio(of.surrogate, *of.probe())
    expect(
        out.dtype in (torch.float32, torch.float64),
        "log-ratios in float32 or float64",
        out.dtype,
        RATIO,
    )
    for name, value in (of.surrogate.state() or {}).items():
        expect(
            isinstance(value, Tensor),
            "a state of tensors",
            f"{name!r} as {type(value).__name__}",
            RESTORE,
        )
        expect(
            not value.is_complex() and value.dtype != torch.bfloat16,
            "a state in real numpy dtypes",
            f"{name!r} in {value.dtype}",
            RESTORE,
        )


def device(of: MethodUnderTest) -> str:
    """Check that a surrogate works on the device of its state: a GPU, or the meta device.

    PyTorch's meta device, used without a GPU, has shapes and devices only. Code that mixes devices
    fails there too. Code that depends on values cannot be checked.
    """
    if of.type.oracle:
        raise Skipped("the exact likelihood works where the task does")
    harness, surrogate, (x, context) = of.harness, of.surrogate, of.probe()
    name = "cuda" if torch.cuda.is_available() else "meta"
    if name == "cuda":
        surrogate = harness.fit((0,), of.budget(harness.task), device=name).surrogate
    state = {key: value.to(name) for key, value in (surrogate.state() or {}).items()}
    where = f"{RATIO}: what it makes it must make with device=x.device"
    try:
        out = log_ratio(harness.restore(state), x.to(name), context.to(name))
    except Exception as error:
        if name == "meta" and not any(words in str(error) for words in _MIXED):
            raise Skipped("it looks at values, so that only a GPU can tell") from error
        raise Failed("arithmetic on the device of the state", one_line(error), where) from error
    expect(
        out.device.type == name,
        f"log-ratios on {name}, where the state is",
        f"on {out.device}",
        where,
    )
    return "" if name == "cuda" else "on PyTorch's meta device, for want of a GPU"


def batching(of: MethodUnderTest) -> None:
    """Check that log-ratios do not depend on the batching of events and contexts."""
    surrogate, (x, context) = of.surrogate, of.probe()
    whole = log_ratio(surrogate, x, context)
    rows = [log_ratio(surrogate, part, context) for part in torch.split(x, 5)]
    columns = [log_ratio(surrogate, x, part) for part in torch.split(context, 2)]
    for what, parts in (("events", torch.cat(rows, 2)), ("contexts", torch.cat(columns, 3))):
        _same(
            parts,
            whole,
            f"log_ratio of all {what} to be that of their parts",
            f"{RATIO}: what it says of one must not depend on the others",
        )


def order(of: MethodUnderTest) -> None:
    """Check that log-ratios have the order of events and contexts."""
    surrogate, (x, context) = of.surrogate, of.probe()
    rows = torch.randperm(len(x), generator=rng("rows"))
    columns = torch.randperm(len(context), generator=rng("columns"))
    _same(
        log_ratio(surrogate, x[rows], context[columns]),
        log_ratio(surrogate, x, context)[:, :, rows][..., columns],
        "events and contexts in another order to have their log-ratios in that order",
        f"{RATIO}: sort nothing, or sort it back",
    )


def pairs(of: MethodUnderTest) -> str:
    """Check that log-ratios of pairs agree with those of all, and have the right gradients.

    Gradients are compared to finite differences inside the training range, and at its bounds
    inwards. Three quarters of them must agree, because networks may have kinks.
    """
    surrogate, (x, _) = of.surrogate, of.probe()
    task, (components, n) = of.harness.task, (len(of.harness.task.component_names), len(x))
    d = len(task.space.context_index)
    inside = 0.1 + 0.8 * torch.rand(n, d, generator=rng("pairs"), dtype=torch.float64)
    node = contexts(task, inside).float()
    try:
        log_ratio_paired(surrogate, x[:1], node[:1].requires_grad_())
    except NotApplicable as reason:
        raise Skipped(str(reason)) from reason
    if not _pairs_itself(surrogate):
        raise Skipped("it has no log_ratio_paired; log_ratio can be differentiated forwards")
    everything = log_ratio(surrogate, x, node)
    order = [torch.arange(n).roll(member) for member in range(of.members)]
    for what, given, rows in (
        ("contexts", node, order[:1] * of.members),
        ("contexts of each member", torch.stack([node[own] for own in order]), order),
    ):
        came = _paired(surrogate, x, given)
        shape = (of.members, components, n)
        expect_tensor(came, shape, "log-ratios (members, components, pairs)", PAIRS)
        expect(
            came.dtype in (torch.float32, torch.float64),
            f"log-ratios in float32 or float64 of x {tuple(x.shape)} and {what} "
            f"{tuple(given.shape)}",
            str(came.dtype),
            PAIRS,
        )
        wanted = torch.stack(
            [v[:, torch.arange(n), r] for v, r in zip(everything, rows, strict=True)]
        )
        _same(came, wanted, f"log_ratio_paired with {what} to be the pairs of log_ratio", PAIRS)
    errors = [_gradient_error(of, x, unit) for unit in (inside, inside.round())]
    return f"gradients within {max(errors):.1g} of finite differences"


def _pairs_itself(surrogate: Surrogate) -> bool:
    """Return whether a surrogate, or one of its components' surrogates, has log_ratio_paired."""
    parts = getattr(surrogate, "parts", None)
    found = parts.values() if isinstance(parts, dict) else [surrogate]
    return any(isinstance(part, HasPairs) for part in found)


@torch.no_grad()
def _paired(surrogate: Surrogate, x: Tensor, context: Tensor) -> Tensor:
    return log_ratio_paired(surrogate, x, context)


def _gradient_error(of: MethodUnderTest, x: Tensor, unit: Tensor) -> float:
    """Compare gradients at unit coordinates (n, d), inside or at the bounds, to differences.

    Returns:
        The upper quartile of their differences, relative to the root mean square of slopes.
    """
    task, surrogate = of.harness.task, of.surrogate
    index = list(task.space.context_index)
    everything = torch.full((len(unit), len(task.space)), 0.5, dtype=torch.float64)
    everything[:, index] = unit
    context = contexts(task, unit).requires_grad_()
    out = log_ratio_paired(surrogate, x, context)
    where = f"{PAIRS}: no detach, no no_grad; no operations whose derivative is infinite"
    expect(out.requires_grad, "log-ratios that are differentiable", "no gradient", where)
    (gradient,) = torch.autograd.grad(out.sum(), context, allow_unused=True)
    expect(gradient is not None, "log-ratios that depend on the context", "no gradient", where)
    bad = int((~gradient.isfinite()).any(-1).sum())
    expect(
        not bad,
        "finite gradients over the whole parameter range",
        f"{bad} of {len(unit)} that are NaN or infinite, as at {at(task, context[0])}",
        where,
    )
    slopes = gradient * task.space.slope(everything)[:, index]

    def values(place: Tensor) -> Tensor:
        return _paired(surrogate, x, contexts(task, place)).double().sum((0, 1))

    rounding = (
        float(out.detach().abs().max()) * torch.finfo(out.dtype).eps * out[:, :, 0].numel() / _STEP
    )
    worst = 0.0
    for j in range(unit.shape[1]):
        inwards = torch.zeros_like(unit)
        inwards[:, j] = torch.where(unit[:, j] < 0.5, _STEP, -_STEP)
        if ((unit == 0) | (unit == 1)).all():
            first, second, third = (values(unit + i * inwards) for i in range(3))
            change = 4 * second - 3 * first - third
        else:
            change = values(unit + inwards) - values(unit - inwards)
        expected = change / (2 * inwards[:, j])
        size = float(expected.square().mean().sqrt())
        error = float((slopes[:, j] - expected).abs().quantile(0.75))
        expect(
            error <= _GRADIENT * size + rounding,
            f"gradients in {task.space.context[j].name} to agree with finite differences, of "
            f"root mean square {size:.2g}",
            f"differences of {error:.2g} for a quarter of them",
            where,
        )
        worst = max(worst, error / size if size else 0.0)
    return worst


def state(of: MethodUnderTest) -> None:
    """Check that every member is restored from its rows of the state."""
    harness, surrogate, probe = of.harness, of.surrogate, of.probe()
    stored = harness.stored(surrogate)
    expect(stored is not None or of.type.oracle, "a state", "None, which is for oracles", RESTORE)
    for name, value in (stored or {}).items():
        expect(
            value.shape[:1] == (of.members,),
            f"every tensor of the state to lead with {counted(of.members, 'member')}",
            f"{name!r} of shape {tuple(value.shape)}",
            RESTORE,
        )
    whole = log_ratio(surrogate, *probe)
    for i in range(of.members):
        wanted = whole[i : i + 1]
        restored = harness.restore({k: v[i : i + 1] for k, v in (stored or {}).items()})
        came = log_ratio(restored, *probe)
        expect(
            came.shape == wanted.shape,
            f"log-ratios {tuple(wanted.shape)} of one member's state",
            tuple(came.shape),
            RESTORE,
        )
        _same(came, wanted, f"member {i} to be restored as it was", RESTORE)
        for name in ("reference", "has_density"):
            was, now = getattr(surrogate, name), getattr(restored, name)
            expect(was == now, f"{name} = {was!r}, as before", repr(now), RESTORE)


def finite(of: MethodUnderTest) -> None:
    """Check that log-ratios are finite for all simulations, including those at the bounds."""
    task, surrogate = of.harness.task, of.surrogate
    contexts = corners(task)
    missed: list[str] = []
    for k, (name, component) in enumerate(task.components("test").items()):
        for j, node in enumerate(contexts):
            x = component.simulate(node.expand(50, -1), rng("finite", k, j)).float()
            out = log_ratio(surrogate, x, contexts)
            here = at(task, node)
            bad = int((out.isnan() | out.isposinf()).sum())
            expect(
                not bad,
                "log-ratios that are finite or −inf over the whole parameter range",
                f"{bad} that are NaN or +inf, of {name} simulated at {here}",
                RATIO,
            )
            # Simulations may be impossible at other contexts, but never at their own.
            if impossible := int(out[:, k, :, j].isneginf().sum()):
                missed.append(f"{impossible} of {name} at {here}")
    if missed:
        raise Inaccurate(
            "log-ratios of what a component simulates are finite at its own context",
            f"−inf, {missed[0]}" + (f", and at {len(missed) - 1} more" if missed[1:] else ""),
            "how the method learns: it takes what can be observed for impossible",
        )


def shared_term(of: MethodUnderTest) -> str:
    """Check that the term in x is the same for both components of the asymmetric task.

    Differences of log-ratios are then log-odds. Calibrated ones (Platt 1999) have intercept 0,
    slope 1 and the log-loss of the exact ones. Large deviations mean a different term, which is a
    breach, or an inaccurate method, which is a warning. It is a breach if each component by itself
    is accurate in the context, where the term cancels. A density has no such term, and `density`
    checks it.
    """
    surrogate, contexts, events = of.trained()
    label = torch.cat([torch.full((len(x),), 1.0 - k) for k, x in enumerate(events)])
    x = torch.cat(events)
    ratio = log_ratio(surrogate, x, contexts)[0].double().nan_to_num()
    own = torch.arange(len(contexts)).repeat_interleave(EVENTS)
    node = own.repeat(len(events))
    odds = (ratio[0] - ratio[1]).gather(1, node[:, None])[:, 0].clamp(-20, 20)
    intercept, slope = _platt(odds, label)
    densities = [c.log_prob(x[:, None], contexts) for c in asymmetric.components("test").values()]
    exact = (densities[0] - densities[1]).gather(1, node[:, None])[:, 0]
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    excess = float(entropy(odds, label.double()) - entropy(exact, label.double()))
    came = f"intercept {intercept:+.2f}, slope {slope:.2f}, log-loss {excess:+.3f}"
    common = abs(intercept) <= _INTERCEPT and excess <= _EXCESS
    if common and _SLOPE[0] <= slope <= _SLOPE[1]:
        return came
    near = f"intercept 0 ± {_INTERCEPT}, log-loss up to {_EXCESS} nats above the exact one's"
    lost = _lost(ratio, torch.stack(densities), own)
    if not (common or surrogate.has_density) and lost <= _LEARNT:
        raise Failed(
            "log_ratio of signal less that of background to be their log-odds on the asymmetric "
            f"task, where each is accurate in the context ({lost:.0%} of the information lost): "
            f"{near}",
            came,
            f"{RATIO}: its term in x must be common to all components: one denominator, one "
            "standardisation (features), no class sizes left over",
        )
    also = "" if surrogate.has_density else "; then a term in x that components do not share"
    raise Inaccurate(
        f"log-odds of signal against background on the asymmetric task have {near}, slope "
        f"{_SLOPE[0]} to {_SLOPE[1]}",
        came,
        f"how the method learns: model, simulations, length of training{also}",
    )


def density(of: MethodUnderTest) -> str:
    """Check that a surrogate with has_density integrates to one, on the asymmetric task."""
    surrogate, contexts, _ = of.trained()
    if not surrogate.has_density:
        raise Skipped("it does not say that it is a density")
    # Nodes are fine near simulations and coarse far away, because a density may be too wide.
    t = torch.linspace(-1, 1, 181, dtype=torch.float64) * math.asinh(_REACH / _FINE)
    spacing = _FINE * t.cosh() * t.diff()[0]
    y = torch.cartesian_prod(*[_FINE * t.sinh()] * 2)  # x₁ and log x₂
    x = torch.stack([y[:, 0], y[:, 1].exp()], -1)
    parts = [log_ratio(surrogate, rows, contexts)[0] for rows in torch.split(x.float(), 4096)]
    out = torch.cat(parts, 1).double() + y[:, 1, None]
    cell = torch.cartesian_prod(spacing, spacing).prod(1)
    mass = (out.exp() * cell[:, None]).sum(1).flatten()
    worst = float(mass[(mass - 1).abs().argmax()])
    expect(
        abs(worst - 1) < _MASS,
        f"a density whose integral is 1 within {_MASS}, as has_density says",
        f"{worst:.3g}",
        f"{RATIO}: add features.log_jacobian(x) to densities of features, or say has_density "
        "= False",
    )
    return f"integral {worst:.3f}"


def inputs(of: MethodUnderTest) -> None:
    """Check that arguments are not changed in place."""
    (x, context), stored = of.probe(), of.harness.stored(of.surrogate) or {}
    given = {"x": x, "context": context, **{f"state {k!r}": v for k, v in stored.items()}}
    before = {name: value.clone() for name, value in given.items()}
    log_ratio(of.harness.restore(stored), x, context)
    for name, value in given.items():
        expect(
            torch.equal(value, before[name]),
            "arguments that are left as they are",
            f"another {name}",
            RATIO,
        )


def _platt(odds: Tensor, label: Tensor) -> tuple[float, float]:
    """Return intercept and slope of the logistic regression of labels on log-odds, (n,) each."""
    values, sign = odds.numpy(), 2 * label.numpy() - 1
    loss = lambda w: np.logaddexp(0, -sign * (w[0] + w[1] * values)).mean()  # noqa: E731
    intercept, slope = minimize(loss, [0.0, 1.0]).x
    return float(intercept), float(slope)


def _lost(ratio: Tensor, exact: Tensor, own: Tensor) -> float:
    """Return the share of the exact information on the context that single components lose.

    Any term in x cancels here, so that only inaccurate numbers lose information.

    Args:
        ratio: log-ratios, (components, events of all components, contexts).
        exact: log-densities, of the same shape.
        own: index of the context of each event of one component.
    """
    loss = torch.nn.functional.nll_loss
    lost = known = 0.0
    for k in range(len(ratio)):
        rows = slice(k * len(own), (k + 1) * len(own))
        found, best = (loss(v[k, rows].log_softmax(-1), own) for v in (ratio, exact))
        lost += float(found - best)
        known += math.log(ratio.shape[-1]) - float(best)
    return lost / known


def _same(came: Tensor, wanted: Tensor, expected: str, where: str) -> None:
    finite = wanted.isfinite()
    expect(
        torch.equal(came[~finite], wanted[~finite]),
        expected,
        "infinite numbers in other places",
        where,
    )
    apart = (came - wanted)[finite].double().abs()
    allowed = _ROUNDING * wanted[finite].double().std() + 1e-6
    if len(apart):
        most = float(apart.max())
        expect(most <= allowed, expected, f"a difference of {most:.2g}", where)
