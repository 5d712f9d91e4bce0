"""Samples of surrogates follow the surrogates' own densities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from bench.methods.dle_counts import CausalCategorical
from bench.methods.histogram import Histogram, Templates
from bench.tasks.linear_gaussian import linear_gaussian
from bench.tasks.sis import SIS, Outbreak
from scipy.stats import chi2, kstest
from seeded import fit_context, seeds
from torch import Tensor

from bench.contracts import (
    Features,
    FitLog,
    HasSamples,
    Surrogate,
    Task,
    Wrapped,
    log_ratio_paired,
    sample,
)
from bench.contracts.sampling import BLOCK
from bench.errors import NotApplicable
from bench.library.evaluation import _Members
from bench.library.fitting import fit
from bench.nn.network_method import NetworkMethod
from bench.nn.stacks import Stack
from bench.registry.registry import Registry
from bench.stages.members import _Joined
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store
from bench.testing.asymmetric import asymmetric
from bench.testing.toy_tasks import toy_tasks
from bench.wrappers.ensemble import Ensemble
from bench.wrappers.neyman import NeymanSurrogate

REGISTRY = Registry()
TOYS: dict[str, Task] = {task.name: task for task in toy_tasks()}
EXPONENTIAL = REGISTRY.task("exponential")
MEMBERS = (0, 1)
SAMPLES = 2000
FLOWS = ["dle", "dle-nflows"]
SMALL = {"transforms": 2, "hidden": (16, 16), "embedding": 8}


class SmallCounts(SIS):
    """Task with two counts in a population of eight."""

    event_shape = (2,)
    observation = "vector"

    def __init__(self) -> None:
        super().__init__("small-counts")
        self._outbreak = Outbreak(population=8, infected=3, times=2)
        self.largest_count = 8


def rng(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def at(context: Sequence[float], n: int = SAMPLES) -> Tensor:
    """Repeat a context, (n, d)."""
    return torch.tensor(context).expand(n, -1)


def simulated(task: Task, n: int = 200) -> Tensor:
    """Simulate observations of all components, (components · n, *event)."""
    context, generator = task.space.draw_context(n, rng(1)), rng(2)
    return torch.cat([c.simulate(context, generator) for c in task.components("test").values()])


def shaken(
    name: str,
    task: Task,
    *,
    factor: float = 1.4,
    what: int = 0,
    apart: float = 0.0,
    **settings: Any,
) -> Surrogate:
    """Return a method's surrogate with large random parameters, two members.

    Args:
        name: the method.
        task: the task.
        factor: factor of the initial parameters, which moves densities away from simple ones.
        what: number of the parameters' changes.
        apart: standard deviation of the changes, relative to each parameter.
        settings: settings of the method.
    """
    found = REGISTRY.method(name)
    method = found(found.Config.model_validate(settings))
    method.check(task)
    assert isinstance(method, NetworkMethod)
    features = Features.estimate(task, simulated(task))
    state: dict[str, Tensor] = {}
    for component in task.component_names:
        own = dict(method.network(task, seeds(MEMBERS, component)).state())
        change = rng(what)
        for key, value in own.items():
            noise = torch.randn(value.shape, generator=change)
            of_context = "embedding" in key or key.startswith("context")
            more = 4.0 if of_context and key.endswith("weight") else 1.0
            own[key] = factor * more * value * (1 + apart * noise)
        if task.observation == "field":
            own["coordinates.scale"] = 0.5 + torch.rand(len(MEMBERS), 36, generator=rng(3))
        state |= {f"{component}/{key}": value for key, value in own.items()}
    return method.restore(task, features, state)


def distribution(
    log_density: Callable[[Tensor], Tensor], low: float, high: float, n: int = 4000
) -> Callable[[Tensor], Tensor]:
    """Integrate a density of positive numbers, (n,) to (n,), in their logarithm, and normalise."""
    y = torch.linspace(low, high, n, dtype=torch.float64)
    density = (log_density(y.exp()[:, None].float()).double() + y).exp()
    mass = torch.cat([torch.zeros(1), torch.cumulative_trapezoid(density, y)])

    def cumulative(x: Any) -> Any:
        place = (torch.as_tensor(x).double().log().clamp(low, high) - low) / (high - low) * (n - 1)
        left = place.long().clamp_max(n - 2)
        value = torch.lerp(mass[left], mass[left + 1], place - left)
        return (value / mass[-1]).numpy()

    return cumulative


def probability(counts: Tensor, expected: Tensor) -> float:
    """Return the p-value of counts in cells; cells that expect under 8 are one, with the rest."""
    total = counts.sum()
    keep = total * expected > 8
    n = torch.cat([counts[keep], (total - counts[keep].sum())[None]]).double()
    mean = total * torch.cat([expected[keep], (1 - expected[keep].sum()).clamp_min(1e-9)[None]])
    if mean[-1] < 8:  # a rest that is too small
        n, mean = n[:-1], mean[:-1]
    return float(chi2.sf(((n - mean).square() / mean).sum(), len(n) - 1))


def of_cells(index: Tensor, expected: Tensor) -> float:
    return probability(torch.bincount(index, minlength=len(expected)).double(), expected.double())


@pytest.mark.parametrize("name", FLOWS)
def test_one_number_follows_the_integrated_density(name: str) -> None:
    surrogate = shaken(name, EXPONENTIAL, **SMALL)
    x = sample(surrogate, at([0.5]), rng())
    assert x.shape == (2, 1, SAMPLES, 1)
    assert x.dtype == torch.float32
    assert (x > 0).all()
    for member in MEMBERS:
        for context, own in ((0.5, True), (4.0, False)):
            cdf = distribution(
                lambda x, m=member, c=context: surrogate.log_ratio(x, at([c], 1))[m, 0, :, 0],
                -14,
                10,
            )
            found = kstest(x[member, 0, :, 0], cdf).pvalue
            assert (found > 1e-3) if own else (found < 1e-4)


@pytest.mark.parametrize("name", FLOWS)
def test_two_numbers_follow_the_density_in_cells(name: str) -> None:
    """Cells cover (x₁, log x₂), six by six."""
    surrogate = shaken(name, asymmetric, **SMALL)
    x = sample(surrogate, at([0.7]), rng())
    fine, cells, half = 256, 6, 8.0
    axis = (torch.arange(fine, dtype=torch.float64) + 0.5) * (2 * half / fine) - half
    nodes = torch.cartesian_prod(axis, axis)
    events = torch.stack([nodes[:, 0], nodes[:, 1].exp()], -1).float()
    with torch.no_grad():
        table = surrogate.log_ratio(events, torch.tensor([[0.7], [1.8]]))
    mass = (table.double() + nodes[:, 1, None]).exp() * (2 * half / fine) ** 2
    y = torch.stack([x[..., 0], x[..., 1].log()], -1).double()
    for member, component in ((0, 0), (1, 1)):
        # The cells hold about equal shares of each number, and begin between nodes.
        edges = y[member, component].quantile(torch.linspace(0, 1, cells + 1).double()[1:-1], 0).T
        edges = (edges * fine / (2 * half)).round() * (2 * half / fine)

        def cell(y: Tensor, edges: Tensor = edges) -> Tensor:
            first, second = (
                torch.searchsorted(e, v.contiguous())
                for e, v in zip(edges.contiguous(), y.T, strict=True)
            )
            return first * cells + second

        index = cell(nodes)
        expected = torch.zeros(2, cells**2).double()
        expected.index_add_(1, index, mass[member, component].T)
        assert expected.sum(1) == pytest.approx([1, 1], abs=0.03)
        expected = expected / expected.sum(1, keepdim=True)
        own, other = (of_cells(cell(y[member, component]), e) for e in expected)
        assert own > 1e-3
        assert other < 1e-4


@pytest.mark.parametrize(
    ("name", "task", "settings"),
    [
        ("dle", TOYS["many-numbers"], SMALL),
        ("dle", TOYS["field"], {"affine": {"transforms": 2, "hidden": (16,)}}),
        ("dle-nflows", TOYS["many-numbers"], SMALL),
        ("dle-fields", TOYS["field"], {"width": 16, "rank": 8}),
    ],
)
def test_mean_ratio_of_neighbouring_densities_is_one(
    name: str, task: Task, settings: dict[str, Any]
) -> None:
    """The mean of q(x|η′) / q(x|η) is one for samples of η, not for those of others."""
    surrogate = shaken(name, task, factor=1.0, **settings)
    here, near, far = [0.0, 1.0], [0.05, 1.02], [1.0, 0.6]

    def pull(context: Sequence[float]) -> Tensor:
        """Return deviations from one in standard errors, (members, components)."""
        x = sample(surrogate, at(context), rng())
        found = torch.zeros(x.shape[:2])
        for m in range(x.shape[0]):
            for k in range(x.shape[1]):
                with torch.no_grad():
                    own, other = (log_ratio_paired(surrogate, x[m, k], at(c)) for c in (here, near))
                ratio = (other - own)[m, k].double().exp()
                found[m, k] = (ratio.mean() - 1) / ratio.std() * math.sqrt(len(ratio))
        return found

    assert pull(here).abs().max() < 4
    assert pull(far).abs().max() > 8


@torch.no_grad()
def test_each_cosine_of_a_field_follows_its_density_given_all_others() -> None:
    """The distribution function of one coefficient, the others fixed, is uniform in samples."""
    surrogate = shaken("dle-fields", TOYS["field"], factor=1.0, width=16, rank=8)
    (part,) = surrogate.parts.values()  # type: ignore[attr-defined]
    n = 250
    z = part.coordinates(part.features(part.sample(at([0.2, 0.9], n), rng())))
    grid = 0.3 * torch.linspace(-6, 6, 121).sinh()  # to ±60, fine near 0

    def smallest(context: Sequence[float]) -> float:
        """Return the smallest p-value of four coefficients of both members."""
        eta = (
            part.features.context(at(context, n))[:, None].expand(2, n, len(grid), -1).flatten(1, 2)
        )
        found = []
        for k in (0, 1, 17, 35):
            rows = z[:, :, None].repeat(1, 1, len(grid), 1)
            rows[..., k] += grid
            values = part.net(rows.flatten(1, 2), eta).unflatten(1, (n, len(grid))).double()
            density = (values - values.amax(-1, keepdim=True)).exp()
            mass = torch.cumulative_trapezoid(density, grid.double(), dim=-1)
            place = mass[..., len(grid) // 2 - 1] / mass[..., -1]  # at the sample
            found += [kstest(own, "uniform").pvalue for own in place]
        return min(found)

    assert smallest([0.2, 0.9]) > 1e-3
    assert smallest([-0.9, 1.9]) < 1e-4


def test_series_follow_their_probabilities_and_their_tail() -> None:
    """All series of three counts up to ten, of which two and more share the last category."""
    shape = CausalCategorical(categories=3, contexts=1, width=8, levels=2, tail=True)
    stack = Stack.create(shape, seeds(MEMBERS))
    for value in stack.parameters():
        value.mul_(2.0)
    n, steps = 6000, 3
    eta = torch.full((2, n, 1), 0.4)
    x = stack.inverse(torch.rand(2, n, 2, steps, generator=rng(), dtype=torch.float64), eta)
    counts = torch.arange(11.0)
    every = torch.cartesian_prod(*[counts] * steps).expand(2, -1, -1)
    for context, own in ((0.4, True), (-1.0, False)):
        expected = stack(every, torch.full((2, every.shape[1], 1), context)).exp().detach()
        assert expected.sum(1) == pytest.approx([1, 1], abs=0.01)
        for m in MEMBERS:
            inside = x[m][(x[m] < 11).all(1)].long()
            index = inside @ torch.tensor([121, 11, 1])
            found = of_cells(index, expected[m] / expected[m].sum())
            assert (found > 1e-3) if own else (found < 1e-4)


def test_counts_of_a_task_are_whole_and_bounded() -> None:
    task = REGISTRY.task("sis")
    x = sample(shaken("dle-counts", task, width=8), at([1.0, 0.4], 50), rng())
    assert x.shape == (2, 1, 50, 40)
    assert torch.equal(x, x.round())
    assert 0 <= x.min() < x.max() <= task.largest_count


def test_flows_of_counts_follow_the_mass_of_cells() -> None:
    """Counts at the bounds also hold the mass beyond, so that they are left out."""
    task = SmallCounts()
    surrogate = shaken("dle", task, draws=64, **SMALL)
    x = sample(surrogate, at([1.0, 0.4]), rng())
    assert torch.equal(x, x.round())
    assert 0 <= x.min() < x.max() <= 8
    every = torch.cartesian_prod(*[torch.arange(1.0, 8.0)] * 2)
    with torch.no_grad():
        mass = surrogate.log_ratio(every, torch.tensor([[1.0, 0.4], [0.3, 1.1]]))[:, 0].exp()
    for m in MEMBERS:
        inner = ((x[m, 0] > 0) & (x[m, 0] < 8)).all(1)
        index = ((x[m, 0, :, 0] - 1) * 7 + x[m, 0, :, 1] - 1)[inner].long()
        counts = torch.bincount(index, minlength=49).double()
        counts = torch.cat([counts, (~inner).sum()[None]])
        own, other = (
            probability(counts, torch.cat([e, (1 - e.sum())[None]]).double()) for e in mass[m].T
        )
        assert own > 1e-3
        assert other < 1e-4


@pytest.mark.parametrize("task", [asymmetric, linear_gaussian(3)], ids=lambda task: task.name)
def test_templates_draw_the_probabilities_of_their_bins(task: Task, tmp_path: Path) -> None:
    store, method = Store(tmp_path), Histogram(Histogram.Config(bins=5, per_bin=1.0))
    bank = SimulationBank(task, store, 40_000, [0, 1])
    surrogate = method.fit(fit_context(task, bank, features_of(task, store)))
    assert isinstance(surrogate, Templates)
    low, high = (
        task.space.context_of(task.space.from_unit(torch.full((1, len(task.space)), u).double()))
        for u in (0.2, 0.8)
    )
    x = sample(surrogate, low.float().expand(SAMPLES, -1), rng())
    assert x.shape == (2, len(task.component_names), SAMPLES, *task.event_shape)
    y = surrogate.features(x)
    assert y.abs().max() < 20
    for member in MEMBERS:
        for component in range(x.shape[1]):
            index = surrogate._bins(x[member, component])[member]
            for context, own in ((low, True), (high, False)):
                table = surrogate._table(context.float(), "jc,mkcb->mkbj")
                found = of_cells(index, table[member, component, :, 0].exp())
                assert (found > 1e-3) if own else (found < 1e-4)


def test_templates_of_summaries_draw_no_samples() -> None:
    zeros = {name: torch.zeros(1, 1, 1) for name in ("edges", "coefficients", "floor")}
    task = REGISTRY.task("sis")
    surrogate = Templates(task, Features.estimate(task, simulated(task)), zeros, FitLog())
    with pytest.raises(NotApplicable, match="bins of counts"):
        sample(surrogate, at([1.0, 0.4], 2), rng())


def average() -> tuple[list[Surrogate], Surrogate]:
    """Return three flows, and the average of their log-densities."""
    parts = [shaken("dle", EXPONENTIAL, what=i, apart=0.4, **SMALL) for i in range(3)]
    return parts, Ensemble(Ensemble.Config(members=3)).restore(parts, {})


def test_averages_follow_their_normalised_density() -> None:
    parts, surrogate = average()
    x = sample(surrogate, at([0.5]), rng())
    assert x.shape == (2, 1, SAMPLES, 1)
    others = [sample(part, at([0.5]), rng()) for part in parts]
    for member in MEMBERS:
        cdf = distribution(
            lambda x, m=member: surrogate.log_ratio(x, at([0.5], 1))[m, 0, :, 0], -14, 10
        )
        assert kstest(x[member, 0, :, 0], cdf).pvalue > 1e-3
        assert min(kstest(other[member, 0, :, 0], cdf).pvalue for other in others) < 1e-4


def test_averages_draw_for_every_component_and_context() -> None:
    """The first number follows the average of two components in two contexts."""
    parts = [shaken("dle", asymmetric, what=i, apart=0.2, **SMALL) for i in range(2)]
    surrogate = Wrapped(parts, lambda a, b: 0.7 * a + 0.3 * b)
    context = torch.tensor([[0.6], [1.7]]).repeat(200, 1)
    x = sample(surrogate, context, rng())
    assert x.shape == (2, 2, 400, 2)
    first, second = (sample(surrogate, c, rng(1)) for c in (context[::2], context[1::2]))
    for m in MEMBERS:
        for k in range(2):
            rows = x[m, k, :, 1]
            assert kstest(rows[::2], first[m, k, :, 1]).pvalue > 1e-3
            assert kstest(rows[1::2], second[m, k, :, 1]).pvalue > 1e-3
    assert kstest(first[0, 0, :, 1], second[0, 0, :, 1]).pvalue < 1e-4
    assert kstest(first[0, 0, :, 1], first[0, 1, :, 1]).pvalue < 1e-4


def test_samples_depend_on_the_generator_and_whole_blocks_alone() -> None:
    surrogate = shaken("dle", EXPONENTIAL, **SMALL)
    context = EXPONENTIAL.space.draw_context(2 * BLOCK + 3, rng())
    whole = sample(surrogate, context, rng())
    assert torch.equal(whole, sample(surrogate, context, rng()))
    assert torch.equal(whole[:, :, : 2 * BLOCK], sample(surrogate, context[: 2 * BLOCK], rng()))
    assert not torch.equal(whole, sample(surrogate, context, rng(1)))
    assert not torch.equal(whole[0], whole[1])
    assert sample(surrogate, context[:0], rng()).shape == (2, 1, 0, 1)
    assert not whole.requires_grad


def test_members_that_are_joined_chosen_or_corrected_sample() -> None:
    surrogate = shaken("dle", EXPONENTIAL, **SMALL)
    context = at([0.5], 9)
    whole = sample(surrogate, context, rng())
    one = _Members(surrogate, torch.tensor([1]))
    assert torch.equal(sample(one, context, rng()), whole[1:])
    joined = sample(_Joined([one, one]), context, rng())
    assert torch.equal(joined[:1], whole[1:])
    assert not torch.equal(joined[0], joined[1])
    corrected = NeymanSurrogate.__new__(NeymanSurrogate)
    Wrapped.__init__(corrected, [surrogate], lambda log_ratio: log_ratio)
    assert torch.equal(sample(corrected, context, rng()), whole)


def test_a_fitted_surrogate_samples() -> None:
    fitted = fit("exponential", "exact", quiet=True)
    x = sample(fitted, at([2.0]), rng())
    assert x.shape == (1, 1, SAMPLES, 1)
    assert kstest(x[0, 0, :, 0], "expon", (0, 0.5)).pvalue > 1e-3
    with pytest.raises(Exception, match="context has shape"):
        fitted.sample(torch.zeros(3), rng())


def test_what_cannot_sample_says_so() -> None:
    ratio = shaken_ratio()
    with pytest.raises(NotApplicable, match="draws no samples"):
        sample(ratio, at([0.5], 2), rng())
    with pytest.raises(NotApplicable, match="normalised density"):
        sample(Wrapped([ratio], lambda log_ratio: log_ratio), at([0.5], 2), rng())
    with pytest.raises(NotApplicable, match="int draws no samples"):
        sample(3, at([0.5], 2), rng())
    assert not isinstance(ratio.parts["decay"], HasSamples)  # type: ignore[attr-defined]


def shaken_ratio() -> Surrogate:
    """Return a classifier's surrogate, which knows ratios alone."""
    method = REGISTRY.method("lre")(REGISTRY.method("lre").Config())
    assert isinstance(method, NetworkMethod)
    state = dict(method.network(EXPONENTIAL, seeds(MEMBERS)).state())
    state["normaliser"] = torch.zeros(2, 17)
    features = Features.estimate(EXPONENTIAL, simulated(EXPONENTIAL))
    return method.restore(EXPONENTIAL, features, {f"decay/{k}": v for k, v in state.items()})
