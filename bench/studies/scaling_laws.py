"""Scaling laws: timed calls, and the sizes that they grow with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from bench.inference.likelihood import MixtureLikelihood
from bench.nn.networks import StackedMLP
from bench.nn.steps import GradientSteps
from bench.nn.training import Training, train
from bench.registry.registry import Registry
from bench.seeds import generator

_SIZES = (1, 2, 5, 10, 20, 50, 100)
_NODES = (25, 64, 121, 256, 529, 1225, 2500)
_SIDES = (4, 6, 8, 12, 16, 24, 32, 40)
_POPULATIONS = {"simulation": 10, "likelihood": 10, "score": 5}  # the smallest
Call = Callable[[], Any]


@dataclass(frozen=True)
class Law:
    """Call that is timed against a size.

    Args:
        name: what is timed.
        size: what it grows with.
        sizes: the sizes.
        make: prepares a call of one size.
    """

    name: str
    size: str
    sizes: Sequence[int]
    make: Callable[[int], Call]


def laws(registry: Registry) -> list[Law]:
    """List the laws, in the order of the table.

    Args:
        registry: where the tasks are from, `gaussians-near`, `sis` and `gp`.
    """

    def times(unit: int) -> tuple[int, ...]:
        return tuple(unit * n for n in _SIZES)

    near = partial(_likelihood, registry.task("gaussians-near"))
    network = "likelihood, classifier"
    return [
        Law(network, "events", times(250), lambda n: near(n, 17, 1)),
        Law(network, "nodes", _NODES, lambda n: near(500, round(n**0.5), 1)),
        Law(network, "bootstraps", times(40), lambda n: near(2000, 33, n)),
        Law(network, "members", _SIZES, lambda n: near(250, 17, 1, n)),
        Law("gradient step, classifier", "members", _SIZES, _step),
        Law("epoch, classifier", "training rows", times(2000), _epoch),
        *(
            Law(f"{what}, sis", "population", times(unit), partial(_outbreaks, registry, what))
            for what, unit in _POPULATIONS.items()
        ),
        *(
            Law(f"{what}, gp", "sites", [s * s for s in _SIDES], partial(_fields, registry, what))
            for what in _POPULATIONS
        ),
    ]


def _classifier(members: int) -> StackedMLP:
    seeds = [generator("scaling", m) for m in range(members)]
    net = StackedMLP.create((3, 120, 120, 120, 1), "silu", seeds)
    net.to(torch.device("cpu"))
    return net


def _likelihood(task: Any, events: int, nodes: int, bootstraps: int, members: int = 1) -> Call:
    """Prepare a classifier's likelihoods of resampled datasets on nodes × nodes parameters."""
    net = _classifier(members)
    random = generator("scaling", "events")
    x = torch.randn(events, 2, generator=random)
    counts = torch.poisson(torch.ones(bootstraps, events), generator=random)

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        pairs = [x[:, None].expand(-1, len(context), -1), context[None].expand(len(x), -1, -1)]
        inputs = torch.cat(pairs, -1).flatten(0, 1)
        signal = net(inputs.expand(members, -1, -1)).view(members, 1, len(x), len(context))
        return torch.cat([signal, torch.zeros_like(signal)], 1)

    inside = task.space.from_unit(torch.full((2,), 0.4, dtype=torch.float64))
    weighed = MixtureLikelihood(log_ratio, x, counts, task.space, task.weights, inside, members)
    axis = torch.linspace(0.2, 0.8, nodes, dtype=torch.float64)

    def call() -> None:
        with torch.no_grad():
            weighed.log_likelihood((axis, axis))

    return call


def _loss(net: StackedMLP) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(x: Tensor, label: Tensor) -> Tensor:
        logit = net(x).squeeze(-1)
        return binary_cross_entropy_with_logits(logit, label, reduction="none").mean(1)

    return loss


def _labelled(members: int, rows: int) -> tuple[Tensor, Tensor]:
    random = generator("scaling", "rows")
    x = torch.randn(members, rows, 3, generator=random)
    return x, (torch.rand(members, rows, generator=random) < 0.5).float()


def _step(members: int) -> Call:
    """Prepare one gradient step of a stack of classifiers."""
    net = _classifier(members)
    steps = GradientSteps(net.parameters(), _loss(net), 1e-4, record=False)
    return partial(steps, *_labelled(members, 256))


def _epoch(rows: int) -> Call:
    """Prepare one epoch of a classifier."""
    net, data = _classifier(1), _labelled(1, rows)
    held_out = tuple(tensor[:, :100] for tensor in data)
    settings = Training(epochs=1, steps=0, batch_size=1024, learning_rate=1e-4, schedule="constant")
    order = [generator("scaling", "order")]
    parameters, loss = net.parameters(), _loss(net)
    return lambda: train(parameters, loss, data, held_out, order, settings, lambda **_: None)


def _component(registry: Registry, task: str) -> Any:
    (component,) = registry.task(task).components("test").values()
    return component


def _outbreaks(registry: Registry, what: str, population: int) -> Call:
    """Prepare outbreaks of the epidemic of `sis` in another population."""
    kind = type(_component(registry, "sis"))
    context = [[1.0, 0.4], [0.8, 0.4], [1.0, 0.3], [0.7, 0.5]]
    return _exact(kind(population=population, infected=max(1, population // 10)), context, what)


def _fields(registry: Registry, what: str, sites: int) -> Call:
    """Prepare fields of the process of `gp` on another grid."""
    field = _component(registry, "gp")
    larger = type(field)(type(field.grid)(round(sites**0.5)))
    _ = larger.grid.blocks  # the tables of a grid are made once
    return _exact(larger, [[0.1, 0.2], [0.2, 0.2], [0.3, 0.2], [0.2, 0.5]], what)


def _exact(component: Any, contexts: Sequence[Sequence[float]], what: str) -> Call:
    """Prepare simulations, likelihoods or scores of ten observations at four contexts."""
    random = generator("scaling", what)
    context = torch.tensor(contexts, dtype=torch.float64)
    if what == "simulation":
        return partial(component.simulate, context, random)
    x = component.simulate(context[:1].expand(10, -1), random)
    function = component.log_prob if what == "likelihood" else component.score
    return partial(function, x[:, None], context)
