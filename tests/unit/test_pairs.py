"""Log-ratios of pairs: the diagonal of all pairs, and gradients in the context, of all methods."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from seeded import fit_context, seeds
from torch import Tensor

from bench.contracts import (
    Component,
    Features,
    FitLog,
    HasPairs,
    Parameter,
    ParameterSpace,
    ReferenceKind,
    Split,
    Surrogate,
    Task,
    log_ratio_paired,
)
from bench.errors import NotApplicable
from bench.inference.likelihood import ExactLikelihood
from bench.nn.calibration import Calibration
from bench.nn.network_method import NetworkMethod
from bench.registry.registry import Registry
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store
from bench.testing.asymmetric import asymmetric
from bench.testing.model import contexts
from bench.testing.toy_tasks import toy_tasks
from bench.wrappers.calibrated import Calibrated
from bench.wrappers.ensemble import Ensemble

REGISTRY = Registry()
TASKS: dict[str, Task] = {task.name: task for task in [asymmetric, *toy_tasks()]}
MEMBERS = (0, 1)
STEP = 1e-5  # of a finite difference, unit coordinates


@dataclass(frozen=True)
class DoubleFeatures(Features):
    """Features in float64, so that finite differences resolve gradients."""

    def __call__(self, x: Tensor) -> Tensor:
        return (self.transform(x.double()) - self.mean) / self.scale

    def context(self, context: Tensor) -> Tensor:
        return 2.0 * self._unit(context.double()) - 1.0


def observations(task: Task, n: int = 12) -> Tensor:
    """Simulate observations of all components, (n, *event)."""
    rng = torch.Generator().manual_seed(1)
    at = task.space.draw_context(n, rng)
    parts = task.components("test").values()
    return torch.cat([c.simulate(at[k :: len(parts)], rng) for k, c in enumerate(parts)])


def places(task: Task, n: int, *, bounds: bool = False) -> Tensor:
    """Draw unit coordinates of contexts (n, d), inside the range or at its bounds."""
    rng = torch.Generator().manual_seed(2)
    unit = torch.rand(n, len(task.space.context_index), generator=rng, dtype=torch.float64)
    return unit.round() if bounds else 0.1 + 0.8 * unit


def untrained(name: str, task: Task, **settings: Any) -> Surrogate:
    """Return a method's surrogate with random parameters in float64, two members."""
    found = REGISTRY.method(name)
    method = found(found.Config.model_validate(settings))
    method.check(task)
    assert isinstance(method, NetworkMethod)
    x = observations(task)
    y = task.transform(x.double())
    features = DoubleFeatures(task.space, task.transform, y.mean(0), y.std(0))
    dimensions = len(task.space.context_index)
    state: dict[str, Tensor] = {}
    for component in task.component_names:
        own = dict(method.network(task, seeds(MEMBERS, component)).state())
        rng = torch.Generator().manual_seed(3)
        if method.family != "generative":
            terms = 17 if dimensions == 1 else 81
            own["normaliser"] = 0.1 * torch.randn(len(MEMBERS), terms, generator=rng)
        elif task.observation == "field":
            numbers = y[0].numel()
            own["coordinates.scale"] = 1 + torch.rand(len(MEMBERS), numbers, generator=rng)
        state |= {f"{component}/{key}": value.double() for key, value in own.items()}
    return method.restore(task, features, state)


def check_pairs(surrogate: Surrogate, task: Task, tolerance: float = 1e-6) -> None:
    """Compare pairs to the diagonal of all pairs, with the same contexts or members' own."""
    x = observations(task)
    at = contexts(task, places(task, len(x)))
    everything = surrogate.log_ratio(x, at)
    expected = everything.diagonal(dim1=2, dim2=3)
    paired = log_ratio_paired(surrogate, x, at)
    assert paired.shape == expected.shape
    torch.testing.assert_close(paired, expected, rtol=tolerance, atol=tolerance)
    members = len(expected)
    orders = [torch.arange(len(x)).roll(m) for m in range(members)]
    own = torch.stack([at[order] for order in orders])
    rows = torch.arange(len(x))
    expected = torch.stack([everything[m, :, rows, order] for m, order in enumerate(orders)])
    paired = log_ratio_paired(surrogate, x, own)
    torch.testing.assert_close(paired, expected, rtol=tolerance, atol=tolerance)


def check_gradients(
    surrogate: Surrogate, task: Task, step: float = STEP, tolerance: float = 1e-5
) -> None:
    """Compare gradients, per unit coordinate, to finite differences; one-sided at the bounds."""
    x = observations(task)
    index = list(task.space.context_index)
    for bounds in (False, True):
        unit = places(task, len(x), bounds=bounds)
        at = contexts(task, unit).requires_grad_()
        out = log_ratio_paired(surrogate, x, at)
        everything = torch.full((len(x), len(task.space)), 0.5, dtype=torch.float64)
        everything[:, index] = unit
        per_unit = task.space.slope(everything)[:, index]

        def values(place: Tensor) -> Tensor:
            with torch.no_grad():
                return log_ratio_paired(surrogate, x, contexts(task, place)).double()

        for k in range(out.shape[1]):
            for m in range(len(out)):
                (gradient,) = torch.autograd.grad(out[m, k].sum(), at, retain_graph=True)
                for j in range(unit.shape[1]):
                    h = torch.zeros_like(unit)
                    if bounds:  # inwards: the bounds are 0 and 1
                        h[:, j] = step * (1 - 2 * unit[:, j])
                        parts = [values(unit + i * h)[m, k] for i in range(3)]
                        slope = (-3 * parts[0] + 4 * parts[1] - parts[2]) / (2 * h[:, j])
                    else:
                        h[:, j] = step
                        slope = (values(unit + h)[m, k] - values(unit - h)[m, k]) / (2 * step)
                    scale = float(slope.abs().max())
                    came = gradient[:, j] * per_unit[:, j]
                    assert came.isfinite().all()
                    off = (came - slope).abs() / scale
                    assert scale > 1e-3
                    assert float(off.median()) < tolerance, (bounds, k, m, j, off)
                    assert float(off.max()) < 100 * tolerance, (bounds, k, m, j, off)


NETWORKS: Sequence[tuple[str, str, Mapping[str, Any]]] = [
    ("lre", "asymmetric", {"hidden": (16, 16)}),
    ("lre", "asymmetric", {"hidden": (16, 16), "activation": "relu"}),
    ("lre", "many-numbers", {"hidden": (16, 16)}),
    ("nler", "many-numbers", {"width": 4}),
    ("nler", "counts", {"width": 4}),
    ("dle", "asymmetric", {"hidden": (16, 16)}),
    ("dle", "many-numbers", {"hidden": (16, 16), "transforms": 2}),
    ("dle", "counts", {}),
    ("dle", "field", {}),
    ("dle-nflows", "many-numbers", {"hidden": (16, 16)}),
    ("dle-fields", "field", {}),
]


@pytest.mark.parametrize(("name", "task", "settings"), NETWORKS)
def test_networks(name: str, task: str, settings: Mapping[str, Any]) -> None:
    surrogate = untrained(name, TASKS[task], **settings)
    check_pairs(surrogate, TASKS[task])
    check_gradients(surrogate, TASKS[task])


def test_counts() -> None:
    """The causal network takes counts in float32."""
    task = TASKS["counts"]
    found = REGISTRY.method("dle-counts")
    method = found(found.Config(width=8))
    assert isinstance(method, NetworkMethod)
    net = method.network(task, seeds(MEMBERS))
    features = Features(task.space, task.transform, torch.zeros(12), torch.ones(12))
    state = {f"only/{name}": value for name, value in net.state().items()}
    surrogate = method.restore(task, features, state)
    check_pairs(surrogate, task, 1e-5)
    check_gradients(surrogate, task, step=1e-2, tolerance=1e-3)


@pytest.mark.parametrize("name", ["asymmetric", "many-numbers", "field"])
def test_exact_densities(name: str) -> None:
    """Contexts are not rounded to float32, in which these differences would be lost."""
    surrogate = ExactLikelihood(TASKS[name])
    check_pairs(surrogate, TASKS[name], 1e-12)
    check_gradients(surrogate, TASKS[name], tolerance=1e-6)


@pytest.mark.parametrize("name", ["gaussians-near", "higgs", "sis", "gp", "student-t"])
def test_exact_densities_of_the_tasks(name: str) -> None:
    task = REGISTRY.task(name)
    check_pairs(ExactLikelihood(task), task, 1e-9)
    check_gradients(ExactLikelihood(task), task)


def templates(task: Task) -> Surrogate:
    """Return templates of random probabilities in two bins per feature, members leading."""
    found = REGISTRY.method("histogram")
    d = len(task.space.context_index)
    rng = torch.Generator().manual_seed(4)
    bins = 2 ** task.event_shape[0]
    shape = (len(MEMBERS), len(task.component_names), (5, 15)[d - 1], bins)
    coefficients = 0.02 * torch.randn(shape, generator=rng)
    coefficients[:, :, 0] += 1 / bins
    state = {
        "edges": torch.zeros(len(MEMBERS), task.event_shape[0], 1),
        "coefficients": coefficients.double(),
        "floor": torch.full((*shape[:2], bins), 0.05 / bins, dtype=torch.float64),
    }
    numbers = torch.zeros(task.event_shape), torch.ones(task.event_shape)
    return found(found.Config()).restore(
        task, DoubleFeatures(task.space, task.transform, *numbers), state
    )


class WithoutPairs:
    """Surrogate that hides the pairs of another."""

    def __init__(self, surrogate: Surrogate) -> None:
        self.log_ratio = surrogate.log_ratio


@pytest.mark.parametrize("name", ["asymmetric", "many-numbers"])
def test_templates_and_their_forward_derivatives(name: str) -> None:
    surrogate = templates(TASKS[name])
    hidden: Any = WithoutPairs(surrogate)
    assert not isinstance(hidden, HasPairs)
    for found in (surrogate, hidden):
        check_pairs(found, TASKS[name], 1e-12)
        check_gradients(found, TASKS[name])


def trees(task: Task, degree: int | None) -> Surrogate:
    """Return boosted trees of random boxes with a calibration of three pieces."""
    found = REGISTRY.method("gradient-boosting")
    d, (numbers,) = len(task.space.context_index), task.event_shape
    rng = torch.Generator().manual_seed(5)
    state: dict[str, Tensor] = {}
    for name in task.component_names:
        shape = (len(MEMBERS), 200, numbers + d)
        lower = 3 * torch.rand(shape, generator=rng) - 2.5
        upper = lower + 3 * torch.rand(shape, generator=rng)
        value = 0.1 * torch.randn(shape[:2], generator=rng, dtype=torch.float64)
        nodes = torch.tensor([[-2.0, -0.5, 0.5, 2.0]] * len(MEMBERS), dtype=torch.float64)
        own = {"lower": lower, "upper": upper, "value": value, "nodes": nodes, "values": nodes**3}
        state |= {f"{name}/{key}": tensor for key, tensor in own.items()}
    x = observations(task)
    y = task.transform(x.double())
    features = Features(task.space, task.transform, y.mean(0), y.std(0))
    return found(found.Config(degree=degree)).restore(task, features, state)


@pytest.mark.parametrize("name", ["asymmetric", "many-numbers"])
def test_trees(name: str) -> None:
    """Smoothed trees have gradients, in float32; steps are refused."""
    surrogate = trees(TASKS[name], 4)
    check_pairs(surrogate, TASKS[name], 1e-4)
    check_gradients(surrogate, TASKS[name], step=3e-3, tolerance=1e-2)
    steps, context = trees(TASKS[name], None), contexts(TASKS[name], places(TASKS[name], 12))
    with pytest.raises(NotApplicable, match="step functions of the context"):
        log_ratio_paired(steps, observations(TASKS[name]), context)


def test_trees_refuse_more_than_two_parameters_unless_smoothed() -> None:
    found = REGISTRY.method("gradient-boosting")
    task = TASKS["many-numbers"]
    parameters = [*task.space.parameters, Parameter("third", 0.0, 1.0, "nuisance", (0.1, 0.9))]
    three = copy(task)
    three.space = ParameterSpace(parameters, task.space.names)
    found(found.Config()).check(task)
    found(found.Config(degree=4)).check(three)
    with pytest.raises(NotApplicable, match="only gradient-boosting:smooth"):
        found(found.Config()).check(three)


class Steps:
    """Surrogate that is a step function of the context, or leaves PyTorch."""

    log = FitLog()
    reference: ReferenceKind | None = None
    has_density = False

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        return (x.flatten(1).sum(1)[:, None] > context.sum(1)).double()[None, None]

    def state(self) -> None:
        return None


def test_steps_have_no_gradient() -> None:
    task = TASKS["many-numbers"]
    context = contexts(task, places(task, 12))
    values = log_ratio_paired(Steps(), observations(task), context)
    assert values.shape == (1, 1, 12)
    with pytest.raises(NotApplicable, match="log_ratio of Steps has no gradient in the context"):
        log_ratio_paired(Steps(), observations(task), context.requires_grad_())


def test_averages_and_calibrations() -> None:
    """They take pairs of what they contain, whether or not it evaluates pairs itself."""
    task = TASKS["many-numbers"]
    network = untrained("lre", task, hidden=(8,))
    two = Ensemble(Ensemble.Config.model_validate({"members": 2}))
    average = two.restore([network, templates(task)], {})
    check_pairs(average, task)
    check_gradients(average, task)
    nodes = torch.linspace(-8, 8, 6, dtype=torch.float64).repeat(len(MEMBERS), 1, 1)
    maps = Calibration(nodes, nodes + 0.05 * nodes**2 * nodes.sign())
    calibrated = Calibrated(Calibrated.Config()).restore([network], maps.state())
    check_pairs(calibrated, task)
    check_gradients(calibrated, task)


def test_equal_contexts_are_evaluated_together() -> None:
    """A dataset's events at one context take one call for each slope."""
    task = TASKS["many-numbers"]
    calls: list[tuple[int, int]] = []

    class Counting(Steps):
        def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
            calls.append((len(x), len(context)))
            distance = (x.sum(1)[:, None].double() - context.sum(1)).square()
            return torch.where(distance < 100, -distance, -torch.inf)[None, None]

    x = observations(task)
    context = contexts(task, places(task, 3)).repeat_interleave(4, 0).requires_grad_()
    out = log_ratio_paired(Counting(), x, context)
    assert calls == [(4, 1)] * 6
    (gradient,) = torch.autograd.grad(out.sum(), context)
    expected = 2 * (x.sum(1).double() - context.sum(1))
    torch.testing.assert_close(gradient, expected[:, None].expand(-1, 2))
    out = log_ratio_paired(Counting(), 1000 + x, context)
    assert out.isneginf().all()
    assert torch.autograd.grad(out.sum(), context)[0].tolist() == [[0.0, 0.0]] * 12


SBI: Sequence[tuple[str, Mapping[str, Any]]] = [
    ("sbi-nre", {}),
    ("sbi-nre", {"hidden": (16, 16)}),
    ("sbi-nle", {}),
    ("sbi-nle", {"ours": True}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), SBI)
def test_networks_of_sbi(name: str, settings: Mapping[str, Any]) -> None:
    """They are in float32."""
    pytest.importorskip("sbi")
    task = TASKS["many-numbers"]
    found = REGISTRY.method(name)
    method = found(found.Config.model_validate(settings))
    build = method.build(task)  # type: ignore[attr-defined]
    torch.manual_seed(0)
    nets = [build(torch.randn(50, 2), torch.randn(50, 7)) for _ in MEMBERS]
    states = [net.state_dict() for net in nets]
    prefix = "only/" if name == "sbi-nle" else ""
    state = {prefix + key: torch.stack([s[key] for s in states]) for key in states[0]}
    y = task.transform(observations(task).double())
    features = Features(task.space, task.transform, y.mean(0), y.std(0))
    surrogate = method.restore(task, features, state)
    check_pairs(surrogate, task, 1e-4)
    check_gradients(surrogate, task, step=2e-3, tolerance=2e-2)


class Shifted:
    """Normal observations around the context's three means, of which one is a logarithm."""

    size = None

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        return self._mean(context) + torch.randn(context.shape, generator=generator)

    def _mean(self, context: Tensor) -> Tensor:
        return torch.cat([context[..., :2], context[..., 2:].log()], -1)


class ThreeContexts(Task):
    name = "three-contexts"
    version = 1
    observations = 10
    event_shape = (3,)
    reference: ReferenceKind = "evidence"
    nominal = torch.tensor([0.0, 0.0, 1.0])
    space = ParameterSpace(
        [
            Parameter("a", -1.0, 1.0, "interest", (-0.5, 0.5)),
            Parameter("b", -1.0, 1.0, "nuisance", (-0.5, 0.5)),
            Parameter("c", 0.5, 2.0, "nuisance", (0.7, 1.4), scale="log"),
        ],
        context=["a", "b", "c"],
    )
    points = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)

    def components(self, split: Split) -> Mapping[str, Component]:
        return {"only": Shifted()}

    def weights(self, theta: Tensor) -> Tensor:
        return torch.ones_like(theta[..., :1])


def test_a_ratio_in_three_contexts(tmp_path: Path) -> None:
    """It is normalised over its reference between the fitted contexts, and has gradients."""
    task, store, calls = ThreeContexts(), Store(tmp_path), 2000
    found = REGISTRY.method("lre")
    method = found(found.Config(hidden=(8,), training={"epochs": 1, "steps": 0, "batch_size": 64}))
    method.check(task)
    features = features_of(task, store)
    bank = SimulationBank(task, store, calls, list(MEMBERS))
    surrogate = method.fit(fit_context(task, bank, features))
    at = contexts(task, places(task, 20))
    for member, x in enumerate(bank.draw("only", calls).x):
        means = surrogate.log_ratio(x, at.float())[member, 0].double().exp().mean(0)
        torch.testing.assert_close(means, torch.ones_like(means), rtol=0, atol=1e-4)
    state = {name: value.double() for name, value in (surrogate.state() or {}).items()}
    assert state["only/normaliser"].shape == (len(MEMBERS), 286)
    own = DoubleFeatures(task.space, task.transform, features.mean, features.scale)
    restored = method.restore(task, own, state)
    check_pairs(restored, task)
    check_gradients(restored, task)
    work = method.work(task, calls)
    assert work is not None
    assert work.pairs == calls * 2 * 286
