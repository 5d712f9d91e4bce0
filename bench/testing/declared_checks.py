"""Checks of a task's declarations and simulations.

Each check returns a note, or raises `Failed`.
"""

import math
from typing import get_args

import torch
from torch import Tensor

from bench.contracts import (
    Component,
    Features,
    FiniteComponent,
    HasLogProb,
    Observation,
    ReferenceKind,
    Split,
    StoredTask,
    Task,
)
from bench.contracts.stored import StoredComponent
from bench.errors import NotApplicable, PluginError, counted
from bench.inference.auxiliary import expected_number
from bench.registry.validate import check as check_contract
from bench.testing.guard import guarded
from bench.testing.model import at, corners, grid, parts, rng, sides
from bench.testing.report import Failed, expect, expect_tensor

CONTRACT = "bench.contracts.Task"
RATE = f"{CONTRACT}.rate"
SIMULATE = "the component's simulate"
SPACE = "the task's space, points and nominal"

# Numbers of simulations, by whether simulator calls are expensive.
AT_CORNERS = {False: 200, True: 10}
SEEDED = {False: 50, True: 5}
TRANSFORMED = {False: 200, True: 10}
_STORED = 10_000
REFERENCE = {False: 4000, True: 500}
_OUTSIDE = 0.2  # largest share of a component's simulations outside the range of the reference
# Limit on the mean log-ratio of a component's density to the reference's, up to three dimensions.
_NATS = 20.0
_EVIDENCE = 300  # contexts that estimate the density of the evidence


def contract(task: Task) -> None:
    """Check that the task passes the registry's checks and its names are consistent."""
    try:
        check_contract("tasks", task.name, task)
    except PluginError as error:
        raise Failed("a task that keeps the contract", str(error), CONTRACT) from error
    names = task.component_names
    for split in get_args(Split):
        found, where = task.components(split), f"{CONTRACT}.components"
        expect(
            tuple(found) == names,
            f"components {names} in split {split!r} as in 'test'",
            tuple(found),
            where,
        )
        for name, part in found.items():
            expect(
                name and name.isprintable() and "/" not in name,
                "names of components in printable characters other than /",
                repr(name),
                where,
            )
            expect(
                part.size is None or isinstance(part, FiniteComponent | StoredComponent),
                f"a method `block` of {name}, whose size is {part.size}",
                "none",
                "bench.contracts.FiniteComponent",
            )
    for what, value, known in (
        ("observation", task.observation, get_args(Observation)),
        ("reference", task.reference, get_args(ReferenceKind)),
    ):
        expect(value in known, f"{what} {' or '.join(map(repr, known))}", repr(value), CONTRACT)


def bounds(task: Task) -> str:
    """Check that evaluation points and the nominal context are in the training range."""
    low, high = (
        torch.tensor([getattr(p, side) for p in task.space.parameters], dtype=torch.float64)
        for side in ("low", "high")
    )
    index = list(task.space.context_index)
    sides = "[" + ", ".join(f"{p.name} {p.low} to {p.high}" for p in task.space.parameters) + "]"
    for what, values, lower, upper in (
        ("evaluation points", task.points, low, high),
        ("the nominal context", task.nominal[None], low[index], high[index]),
    ):
        # Contexts are float32 and may differ from a bound by one unit in the last place.
        slack = 1e-6 * (upper - lower)
        bad = values[~((values >= lower - slack) & (values <= upper + slack)).all(1)].tolist()
        expect(not bad, f"{what} within {sides}", next(iter(bad), None), SPACE)
    expect(
        len(torch.unique(task.points, dim=0)) == len(task.points),
        "evaluation points that differ",
        "one twice",
        SPACE,
    )
    return counted(len(task.points), "point")


def weights(task: Task) -> None:
    """Check that weights are (*B, K), not negative, and sum to one in the parameter space."""
    unit = torch.rand(64, len(task.space), generator=rng(task, "weights"), dtype=torch.float64)
    theta = task.space.from_unit(torch.cat([unit, grid(len(task.space))]))
    where = f"{CONTRACT}.weights"
    for given in (theta, theta[:6].view(2, 3, -1), theta[0]):
        out = task.weights(given)
        wanted = (*given.shape[:-1], len(task.component_names))
        expect_tensor(out, wanted, f"weights at θ of shape {tuple(given.shape)}", where)
        bad = ~((out >= 0).all(-1) & ((out.sum(-1) - 1).abs() < 1e-6))
        if bad.any():
            came = f"{[round(v, 6) for v in out[bad][0].tolist()]} at {given[bad][0].tolist()}"
            raise Failed("weights that are at least 0 and sum to 1", came, where)


def rate(task: Task) -> str:
    """Check that the expected number of observations is (*B), positive and finite."""
    unit = torch.rand(64, len(task.space), generator=rng(task, "rate"), dtype=torch.float64)
    theta = task.space.from_unit(torch.cat([unit, grid(len(task.space))]))
    for given in (theta, theta[:6].view(2, 3, -1), theta[0]):
        try:
            found = expected_number(task, given)
        except PluginError as error:
            raise Failed("a rate that is positive and finite", str(error), RATE) from error
        if found is None:
            return "M observations in every dataset"
    found = expected_number(task, task.points.double())
    assert found is not None
    low, high = found.aminmax()
    return f"{low:.0f} to {high:.0f} observations at the evaluation points"


def parameters(task: Task) -> str:
    """Check that every parameter changes the weights, the rate or the density of a component."""
    space, n = task.space, SEEDED[task.expensive]
    unit = torch.rand(n, len(space), generator=rng(task, "parameters"), dtype=torch.float64)
    for j, parameter in enumerate(space.parameters):
        # The likelihood may be the same at both bounds, as in a parameter whose sign has no effect.
        low, other = (space.from_unit(unit.index_fill(1, torch.tensor(j), u)) for u in (0.0, 0.7))
        depends = [_depends(task, name, part, low, other) for name, part in parts(task)]
        depends.append(not torch.allclose(task.weights(low), task.weights(other), rtol=1e-9))
        fewer, more = task.rate(low), task.rate(other)
        if fewer is not None and more is not None:
            depends.append(not torch.allclose(fewer, more, rtol=1e-9))
        if not any(depends):
            raise Failed(
                "a likelihood that depends on every parameter",
                f"parameter {parameter.name!r} changes neither the weights, nor the rate, nor the "
                "density of any component",
                f"{SPACE}: remove the parameter, or let weights or components depend on it",
            )
    return counted(len(space), "parameter")


def _depends(task: Task, name: str, part: Component, low: Tensor, high: Tensor) -> bool:
    """Return whether simulations or densities of a component differ between parameters."""
    one, other = (task.space.context_of(theta).float() for theta in (low, high))
    if torch.equal(one, other):
        return False
    x = part.simulate(one, rng(task, name)).float()
    if not torch.allclose(x, part.simulate(other, rng(task, name)).float(), rtol=1e-6):
        return True
    return isinstance(part, HasLogProb) and not torch.allclose(
        part.log_prob(x, one), part.log_prob(x, other), rtol=1e-9
    )


def simulations(task: Task) -> str:
    """Check that simulations have the event's shape and are finite in the training range."""
    for name, part in parts(task):
        for batch in ((3,), (2, 3), (1,)):
            context = task.nominal.expand(*batch, -1)
            x = part.simulate(context, rng(task, name))
            wanted = (*batch, *task.event_shape)
            came = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            expect(
                came == wanted,
                f"{name} of shape {wanted} at contexts {tuple(context.shape)}",
                came,
                SIMULATE,
            )
            expect(x.is_floating_point(), f"{name} in floating point", x.dtype, SIMULATE)
        for context in corners(task):
            n = AT_CORNERS[task.expensive]
            x = part.simulate(context.expand(n, -1), rng(task, name)).float()
            bad = int((~x.isfinite()).sum())
            expect(not bad, f"finite {name} at {at(task, context)}", f"{bad} not finite", SIMULATE)
            if task.discrete and not torch.equal(x, x.round()):
                expected = f"whole numbers of {name}, as `discrete` says"
                raise Failed(expected, f"{float(x[x != x.round()][0]):.6g}", SIMULATE)
            if (most := task.largest_count) is not None and not ((x >= 0) & (x <= most)).all():
                expected = f"{name} from 0 to {most}, as `largest_count` says"
                raise Failed(expected, f"from {float(x.min()):g} to {float(x.max()):g}", SIMULATE)
    return f"at {len(corners(task))} contexts, bounds included"


def seeds(task: Task) -> None:
    """Check that simulations depend on the generator alone and keep shared process state."""
    for name, part in parts(task):
        context = task.space.draw_context(SEEDED[task.expensive], rng(task, "seeds"))
        with guarded():
            torch.manual_seed(0)
            first = part.simulate(context, rng(task, 1))
            torch.manual_seed(1)
            with guarded() as changed:
                second = part.simulate(context, rng(task, 1))
        for what, how in changed.items():
            raise Failed(f"{what} to be left alone", how, f"{SIMULATE}: draw with its generator")
        same, where = torch.equal(first, second), f"{SIMULATE}: draw with its generator"
        expect(same, f"the same {name} of the same generator", "others", where)
        differ = not torch.equal(first, part.simulate(context, rng(task, 2)))
        expected, where = f"other {name} of another generator", f"{SIMULATE}: draw with it"
        expect(differ, expected, "the same to the last bit", where)


def transform(task: Task) -> None:
    """Check that the feature transform is elementwise and its log-Jacobian is its slope."""
    where = "the task's transform"
    for name, part in parts(task):
        if isinstance(task, StoredTask):
            x = task.stored.x.flatten(0, 1)[:_STORED].double()
        else:
            context = task.space.draw_context(TRANSFORMED[task.expensive], rng(task, "transform"))
            x = part.simulate(context, rng(task, name)).double()
        y, log_jacobian = task.transform(x), task.transform.log_jacobian(x)
        for what, value in (("features", y), ("a log-Jacobian", log_jacobian)):
            expect(
                value.shape == x.shape,
                f"{what} of {name} of shape {tuple(x.shape)}",
                tuple(value.shape),
                where,
            )
            bad = int((~value.isfinite()).sum())
            expect(not bad, f"finite {what} of {name}", f"{bad} not finite", where)
        step = 1e-6 * (x.abs() + 1e-3)
        slope = (task.transform(x + step) - task.transform(x - step)) / (2 * step)
        by_slope = slope.abs().log()
        apart = (by_slope - log_jacobian).abs().nan_to_num(torch.inf)
        wanted, came, place = (v.flatten()[apart.argmax()] for v in (by_slope, log_jacobian, x))
        expect(
            apart.max() < 1e-4,
            f"log |dy/dx| = {float(wanted):.6g} of {name} at x = {float(place):.4g}",
            f"{float(came):.6g}",
            f"{where}: log_jacobian",
        )
        standardised = Features.estimate(task, x)(x.float())
        expect(
            standardised.isfinite().all(),
            f"finite standardised features of {name}",
            "others",
            where,
        )
        try:
            back = task.transform.inverse(y)
        except NotApplicable:
            continue
        lost = ((back - x).abs() / step).nan_to_num(torch.inf).max()
        expect(
            back.shape == x.shape and lost < 1,
            f"the observations of {name} from inverse(transform(x))",
            "others",
            f"{where}: inverse",
        )


def references(task: Task) -> str:
    """Check that the reference covers the components, so that ratios can be learned."""
    random = rng(task, "reference")
    shown = parts(task)
    each = REFERENCE[task.expensive] // len(shown)
    if task.reference == "fixed":
        context = task.nominal.expand(each, -1)
    else:
        context = task.space.draw_context(each, random)
    x = torch.cat([part.simulate(context, random) for _, part in shown]).double().flatten(1)
    low, high = x.min(0).values, x.max(0).values
    known = len(parts(task, HasLogProb)) == len(shown)
    where = f"{CONTRACT}.reference: 'evidence' follows the components over the training range"
    worst = 0.0
    limit = _NATS * max(1.0, len(task.space.context_index) / 3)  # information on d parameters
    for name, part in shown:
        for node in sides(task):
            own = part.simulate(node.expand(AT_CORNERS[task.expensive], -1), random).float()
            flat = own.double().flatten(1)
            outside = float(((flat < low) | (flat > high)).double().mean(0).max())
            here = f"{name} at {at(task, node)}"
            expect(
                outside <= _OUTSIDE,
                f"a {task.reference} reference that covers {here}",
                f"{outside:.0%} outside all its simulations",
                where,
            )
            if known:
                nats = _divergence(task, part, own[:50], node, context[:_EVIDENCE])
                worst = max(worst, nats)
                expect(
                    nats < limit,
                    f"a {task.reference} reference within {limit:.3g} nats of {here}",
                    f"{nats:.3g} nats",
                    where,
                )
    return f"{task.reference}, " + (f"within {worst:.2g} nats" if known else "by range alone")


def _divergence(task: Task, part: HasLogProb, x: Tensor, node: Tensor, contexts: Tensor) -> float:
    r"""Estimate the Kullback-Leibler divergence from the reference to a component, in nats.

    Args:
        task: the task.
        part: the component.
        x: simulations of the component, (n, \*event).
        node: context of the simulations, (d,).
        contexts: contexts that approximate the evidence, (m, d).
    """
    contexts = task.nominal[None] if task.reference == "fixed" else contexts
    densities = [c.log_prob(x[:, None], contexts[None]) for _, c in parts(task)]
    reference = torch.cat(densities, 1).logsumexp(1) - math.log(len(densities) * len(contexts))
    return float((part.log_prob(x, node[None]) - reference).mean())
