r"""Direct likelihood estimation of counts in time: a categorical distribution at every step.

The probability of a series is :math:`p(x|\eta) = \prod_t p(x_t|x_{<t}, \eta)`, normalised exactly
and without noise. Causal convolutions with growing gaps (van den Oord et al. 2016,
arXiv:1609.03499) encode the counts before each step. A small network combines the encoding with an
embedding of η and gives the logits of all counts. The encoding does not depend on η: a series is
encoded once for all contexts, and its probability is smooth in the context.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bench.contracts import Features, FitContext, FitLog, Task, Work
from bench.errors import NotApplicable
from bench.nn.density_method import DensityMethod, PairedDensity
from bench.nn.flops import ENCODERS, SPLINES_GPU, operations
from bench.nn.network_method import Examples, NetworkSettings
from bench.nn.score_matching import LIGHT
from bench.nn.stacks import Stack
from bench.nn.training import Training

_SERIES = 16  # series per block of an evaluation


class DLECountsConfig(NetworkSettings):
    """Configuration of DLE of counts.

    Args:
        width: units of every layer.
        levels: causal convolutions; a step sees 2 ** levels counts before it.
        categories: counts that are told apart where the task names no largest count; greater ones
            share the last category, with a geometric tail.
        training: settings of the training.
    """

    width: int = Field(default=32, ge=1)
    levels: int = Field(default=3, ge=1, le=12)
    categories: int = Field(default=256, ge=2, le=10_000)
    training: Training = Training(
        learning_rate=1.6e-2, batch_size=256, epochs=12, steps=2000, clip=5.0
    )


class DLECounts(DensityMethod[Examples]):
    """Density estimation of series of counts with a causal categorical network."""

    name = "dle-counts"
    title = "Causal categorical network"
    citation = "van den Oord et al. (2016), arXiv:1609.03499"
    Config = DLECountsConfig
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tuned": {},
        "scores": {"scores": {}},
        "scores-light": {"scores": LIGHT},
    }
    search: ClassVar[Mapping[str, Sequence[Any]]] = {
        "width": (32, 64),
        "levels": (3, 5),
        "training.learning_rate": (2e-3, 4e-3, 8e-3),
        "training.batch_size": (64, 256),
    }
    config: DLECountsConfig

    def check(self, task: Task) -> None:
        super().check(task)
        if task.observation != "series" or not task.discrete or len(task.event_shape) != 1:
            raise NotApplicable(
                f"{self.name} takes series of counts, and observations of {task.name} are "
                f"{'counts' if task.discrete else 'numbers'} of kind {task.observation!r} and "
                f"shape {task.event_shape}"
            )

    def settings(self, task: Task) -> dict[str, Any]:
        settings = super().settings(task)
        unused = () if task.largest_count is None else ("categories",)
        return {name: value for name, value in settings.items() if name not in unused}

    def work(self, task: Task, budget: int) -> Work:
        own = self.calls(task, budget)
        rows = own - self.config.held_out(own)
        net = self.network(task, [torch.Generator()])
        counts = torch.zeros(1, 1, *task.event_shape)
        eta = torch.zeros(1, 1, len(task.space.context_index))
        forwards = operations(lambda: net(counts, eta))
        # A further context of the same series costs a head without an encoding.
        two = operations(lambda: net(counts[:, :, None], eta[:, None].expand(-1, -1, 2, -1)))
        components = len(task.component_names)
        settings = self.config.training
        return Work(
            steps=components * settings.steps_of(rows),
            rows=components * settings.epochs_of(rows) * rows,
            training=(3.0 if self.config.scores is None else 4.0) * forwards,
            evaluation=components * (two - forwards),
            cpu=ENCODERS,
            gpu=SPLINES_GPU,
        )

    def network(self, task: Task, generators: Sequence[torch.Generator]) -> Stack:
        return Stack.create(self._shape(task), generators)

    def _shape(self, task: Task) -> "CausalCategorical":
        largest = task.largest_count
        return CausalCategorical(
            categories=self.config.categories if largest is None else largest + 1,
            contexts=len(task.space.context_index),
            width=self.config.width,
            levels=self.config.levels,
            tail=largest is None,
        )

    def training(self, task: Task) -> Training:
        return self.config.training

    def examples(self, component: str, fit_context: FitContext) -> Examples:
        own, held_out, conditions = self.drawn(component, fit_context)
        rows = [own.x.to(fit_context.device), *conditions]
        return Examples([t[:, held_out:] for t in rows], [t[:, :held_out] for t in rows])

    def surrogate(
        self, fit_context: FitContext, examples: Examples, net: Stack, log: FitLog
    ) -> PairedDensity:
        return self._density(fit_context.task, fit_context.features, net, log)

    def restore_component(
        self, component: str, task: Task, features: Features, state: Mapping[str, Tensor]
    ) -> PairedDensity:
        net = Stack(self._shape(task), state)
        return self._density(task, features, net, FitLog(net.count))

    def _density(self, task: Task, features: Features, net: Stack, log: FitLog) -> PairedDensity:
        numbers = task.event_shape[0] * self._shape(task).categories
        return PairedDensity(net, features, log, _SERIES, numbers)


@dataclass(frozen=True)
class CausalCategorical:
    """Architecture of a causal network with categorical outputs.

    Args:
        categories: counts from 0 that have logits.
        contexts: features of a context.
        width: units of every layer.
        levels: causal convolutions.
        tail: whether counts beyond the last category are possible.
    """

    categories: int
    contexts: int
    width: int
    levels: int
    tail: bool

    def __call__(self) -> nn.Module:
        """Create the module of one member."""
        return _LogProbability(self)


class _LogProbability(nn.Module):
    """Log-probability of series x (n, T) in contexts (n, d); also (n, 1, T) in (1, J, d)."""

    def __init__(self, shape: CausalCategorical) -> None:
        super().__init__()
        width = shape.width
        self.shape = shape
        self.inputs = nn.Linear(4, width)
        self.past = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(shape.levels))
        self.encoding = nn.Linear(width, width)
        self.context = nn.Sequential(
            nn.Linear(shape.contexts, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.hidden = nn.Linear(width, width)
        self.logits = nn.Linear(width, shape.categories)

    def encode(self, x: Tensor) -> Tensor:
        """Encode the counts before every step, (…, T) to (…, T, width)."""
        before = functional.pad(x[..., :-1], (1, 0))
        first = functional.pad(torch.zeros_like(x[..., :-1]), (1, 0), value=1.0)
        y = self._describe(before, first)
        for level, layer in enumerate(self.past):
            gap = min(2**level, x.shape[-1])
            earlier = functional.pad(y, (0, 0, gap, 0))[..., : x.shape[-1], :]
            y = y + functional.silu(layer(torch.cat([y, earlier], -1)))
        encoded: Tensor = self.encoding(y)
        return encoded

    def _describe(self, before: Tensor, first: Tensor) -> Tensor:
        """Describe the count before a step and whether it is the first, (…) to (…, width)."""
        share = before / (self.shape.categories - 1)
        y = torch.stack([2 * share - 1, 2 * share.sqrt() - 1, (before == 0).to(share), first], -1)
        return functional.silu(self.inputs(y))

    def _logits(self, encoded: Tensor, context: Tensor) -> Tensor:
        y = functional.silu(encoded + context)
        logits: Tensor = self.logits(y + functional.silu(self.hidden(y)))
        return logits

    def inverse(self, uniform: Tensor, eta: Tensor) -> Tensor:
        """Draw series (n, T) step by step from uniform numbers (n, 2, T) in contexts (n, d)."""
        choice, excess = uniform[:, 0], uniform[:, 1]
        steps, context = choice.shape[1], self.context(eta)
        last = self.shape.categories - 1
        x = torch.zeros_like(choice)
        # Layers at earlier steps are kept: a step evaluates its own only.
        earlier: list[list[Tensor]] = [[] for _ in self.past]
        for t in range(steps):
            before = x[:, t - 1] if t else torch.zeros_like(x[:, 0])
            y = self._describe(before, torch.full_like(before, float(t == 0)))
            for level, layer in enumerate(self.past):
                gap = min(2**level, steps)
                back = earlier[level][t - gap] if t >= gap else torch.zeros_like(y)
                earlier[level].append(y)
                y = y + functional.silu(layer(torch.cat([y, back], -1)))
            below = self._logits(self.encoding(y), context).softmax(-1).cumsum(-1)
            count = (below <= choice[:, t, None]).sum(-1).clamp(max=last).to(x)
            if self.shape.tail:
                beyond = (-torch.log2(1 - excess[:, t])).floor()
                count = torch.where(count == last, count + beyond, count)
            x[:, t] = count
        return x

    def forward(self, x: Tensor, eta: Tensor) -> Tensor:
        logits = self._logits(self.encode(x), self.context(eta)[..., None, :])
        last = self.shape.categories - 1
        chosen = x.clamp(max=last).long()[..., None].expand(*logits.shape[:-1], 1)
        each = logits.gather(-1, chosen).squeeze(-1) - logits.logsumexp(-1)
        if self.shape.tail:  # the k-th count from the last category on has a share of 2⁻ᵏ in it
            each = each - math.log(2) * (x - last + 1).clamp_min(0)
        total: Tensor = each.sum(-1)
        return total
