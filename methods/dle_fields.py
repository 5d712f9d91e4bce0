r"""Direct likelihood estimation of fields: Student-t conditionals of cosine coefficients.

A field's cosine coefficients :math:`z_1, \dots, z_F`, lowest frequencies first, have conditionals
:math:`p(z_k|z_{<k}, \eta)` that are Student-t distributions. Their mean is linear in earlier
coefficients of the same row or column of frequencies. The squared scale is

.. math:: s_k^2 \left(1 - \omega_k + \omega_k \frac{1}{k - 1} \sum_{j<k} r_j^2\right), \qquad
    r_j = (z_j - m_j) / s_j,

so that a field that began with large residuals is expected to go on with them. A multivariate
Student-t distribution with ν degrees of freedom has :math:`\omega_k = (k - 1)/(\nu + k - 1)` and
:math:`\nu + k - 1` degrees of freedom in its k-th conditional; a Gaussian one has
:math:`\omega_k = 0`.

Boundaries correlate the cosines of stationary fields along rows and columns of frequencies, and
reflections forbid correlations of odd with even ones. The mean therefore has fewer than q
instead of q² terms per coefficient of a q × q field.

Scales, shares ω, degrees of freedom and the mean's terms are functions of η and of the frequencies:
products of a network of η and one of the frequencies (Lu et al. 2021, arXiv:1910.03193), smooth in
both. They do not depend on the field, so that pairs of fields and contexts cost little.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.contracts import Features, FitContext, FitLog, Task, Work
from bench.errors import NotApplicable
from bench.nn.coordinates import Coordinates, frequencies
from bench.nn.density_method import SCALE, CoordinateExamples, CoordinateMethod, PairedDensity
from bench.nn.flops import ENCODERS, SPLINES_GPU, operations
from bench.nn.network_method import NetworkSettings
from bench.nn.score_matching import LIGHT
from bench.nn.stacks import Stack
from bench.nn.training import Training

_FIELDS = 32  # fields per block of an evaluation
_FREEDOM = 20.0  # degrees of freedom before training


class DLEFieldsConfig(NetworkSettings):
    """Configuration of DLE of fields.

    Args:
        width: units of the hidden layers of all networks.
        rank: products of functions of the context and of the frequencies.
        training: settings of the training.
    """

    width: int = Field(default=64, ge=1)
    rank: int = Field(default=32, ge=1)
    training: Training = Training(
        learning_rate=1e-2, batch_size=128, epochs=8, steps=3840, clip=20.0
    )


class DLEFields(CoordinateMethod):
    """Density estimation of fields with Student-t conditionals of cosine coefficients."""

    name = "dle-fields"
    title = "Student-t conditionals of cosines"
    citation = "Ahmed, Natarajan & Rao (1974); Lu et al. (2021), arXiv:1910.03193"
    Config = DLEFieldsConfig
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tuned": {},
        "scores": {"scores": {}},
        "scores-light": {"scores": LIGHT},
    }
    search: ClassVar[Mapping[str, Sequence[Any]]] = {
        "width": (32, 64),
        "rank": (16, 32),
        "training.learning_rate": (5e-3, 1e-2, 2e-2),
        "training.batch_size": (64, 256),
    }
    config: DLEFieldsConfig

    def check(self, task: Task) -> None:
        super().check(task)
        if task.observation != "field" or task.discrete or len(task.event_shape) != 2:
            raise NotApplicable(
                f"{self.name} takes fields of real numbers, and observations of {task.name} are "
                f"{'counts' if task.discrete else 'numbers'} of kind {task.observation!r} and "
                f"shape {task.event_shape}"
            )

    def work(self, task: Task, budget: int) -> Work:
        own = self.calls(task, budget)
        rows = own - self.config.held_out(own)
        settings, components = self.config.training, len(task.component_names)
        net, batch = self.network(task, [torch.Generator()]), settings.batch_of(rows)
        z = torch.zeros(1, batch, math.prod(task.event_shape))
        eta = torch.zeros(1, batch, len(task.space.context_index))
        # The networks of frequencies are evaluated once for all rows of a batch.
        forwards = operations(lambda: net(z, eta)) / batch
        return Work(
            steps=components * settings.steps_of(rows),
            rows=components * settings.epochs_of(rows) * rows,
            training=(3.0 if self.config.scores is None else 5.0) * forwards,
            evaluation=components * forwards / task.observations,
            cpu=ENCODERS,
            gpu=SPLINES_GPU,
        )

    def network(self, task: Task, generators: Sequence[torch.Generator]) -> Stack:
        return Stack.create(self._shape(task), generators)

    def _shape(self, task: Task) -> "CosineConditionals":
        rows, columns = task.event_shape
        contexts = len(task.space.context_index)
        return CosineConditionals(rows, columns, contexts, self.config.width, self.config.rank)

    def training(self, task: Task) -> Training:
        return self.config.training

    def surrogate(
        self, fit_context: FitContext, examples: CoordinateExamples, net: Stack, log: FitLog
    ) -> PairedDensity:
        task, features = fit_context.task, fit_context.features
        return self._density(task, features, net, log, examples.coordinates)

    def restore_component(
        self, component: str, task: Task, features: Features, state: Mapping[str, Tensor]
    ) -> PairedDensity:
        own = {name: value for name, value in state.items() if name != SCALE}
        net = Stack(self._shape(task), own)
        coordinates = Coordinates(task.observation, task.event_shape, state[SCALE])
        return self._density(task, features, net, FitLog(net.count), coordinates)

    def _density(
        self, task: Task, features: Features, net: Stack, log: FitLog, coordinates: Coordinates
    ) -> PairedDensity:
        sites = math.prod(task.event_shape)
        return PairedDensity(net, features, log, _FIELDS, sites, coordinates)


@dataclass(frozen=True)
class CosineConditionals:
    """Architecture of the conditionals of a field's cosine coefficients.

    Args:
        rows, columns: sites of a field.
        contexts: features of a context.
        width: units of the hidden layers.
        rank: products of functions of the context and of the frequencies.
    """

    rows: int
    columns: int
    contexts: int
    width: int
    rank: int

    def __call__(self) -> nn.Module:
        """Create the module of one member."""
        return _LogDensity(self)

    @cached_property
    def earlier(self) -> tuple[Tensor, Tensor]:
        """Earlier coefficients that enter the mean of each: indices and whether there, (F, S)."""
        frequency = frequencies(self.rows, self.columns).tolist()
        number = {(down, across): k for k, (down, across) in enumerate(frequency)}
        found = []
        for k, (down, across) in enumerate(frequency):
            line = [(i, across) for i in range(down % 2, self.rows, 2)]
            line += [(down, j) for j in range(across % 2, self.columns, 2)]
            found.append([number[place] for place in line if number[place] < k])
        most = max(1, *map(len, found))
        index = torch.tensor([row + [0] * (most - len(row)) for row in found])
        there = torch.tensor([[1.0] * len(row) + [0.0] * (most - len(row)) for row in found])
        return index, there

    def features(self) -> tuple[Tensor, Tensor]:
        """Describe each coefficient (F, 7), and the step to each earlier one (F, S, 4)."""
        frequency = frequencies(self.rows, self.columns).float()
        side = torch.tensor([self.rows, self.columns])
        relative = frequency / side
        number = torch.arange(len(frequency))[:, None] + 1.0
        own = torch.cat(
            [
                relative,
                (1 + frequency).log() / side.log().clamp_min(1),
                relative.square().sum(1, keepdim=True).sqrt(),
                number / len(number),
                number.log() / math.log(len(number) + 1),
            ],
            1,
        )
        steps = frequency[self.earlier[0]] - frequency[:, None]
        return own, torch.cat([steps / side, steps.abs() / (1 + steps.abs())], -1)


def log_gamma_step(x: Tensor) -> Tensor:
    """Return log Γ(x + 1/2) − log Γ(x) for x > 0, accurate to rounding for large x too.

    Differences of `lgamma` lose as many digits as x has. This one shifts x by the recurrence and
    uses Stirling's series (Abramowitz & Stegun 1964, 6.1.40).

    Example:
        >>> log_gamma_step(torch.tensor([0.5, 1e6]))
        tensor([-0.5724,  6.9078])
    """
    steps = sum(torch.log1p(-0.5 / (x + i + 0.5)) for i in range(4))
    y = x + 4
    inverse = 1 / y
    series = inverse * (-1 / 8 + inverse.square() * (1 / 192 - inverse.square() / 640))
    return 0.5 * y.log() + series + steps


def _perceptron(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Linear(width, outputs),
    )


class _LogDensity(nn.Module):
    """Log-density of cosines z (n, F) in contexts (n, d); also (n, 1, F) in (1, J, d)."""

    index: Tensor
    there: Tensor
    own: Tensor
    pairs: Tensor
    before: Tensor

    def __init__(self, shape: CosineConditionals) -> None:
        super().__init__()
        self.rank = shape.rank
        index, there = shape.earlier
        own, steps = shape.features()
        pairs = torch.cat([own[:, None].expand(-1, index.shape[1], -1), steps], -1)
        for name, values in (("index", index), ("there", there), ("own", own), ("pairs", pairs)):
            self.register_buffer(name, values)
        self.register_buffer("before", torch.arange(len(index)).float())
        self.context = _perceptron(shape.contexts, shape.width, shape.rank)
        self.conditional = _perceptron(own.shape[1], shape.width, 3 * shape.rank)
        self.mean = _perceptron(pairs.shape[-1], shape.width, shape.rank)

    def forward(self, z: Tensor, eta: Tensor) -> Tensor:
        of_context = self.context(eta) / math.sqrt(self.rank)
        scale, omega, nu = self._conditionals(of_context)
        residual = (z - self._mean(z, of_context)) * torch.exp(-scale)
        square = residual.square()
        seen = (square.cumsum(-1) - square) / self.before.clamp_min(1)
        spread = 1 + omega * (seen - 1)
        of_contexts = log_gamma_step(nu / 2) - 0.5 * (math.pi * nu).log() - scale
        each = 0.5 * spread.log() + 0.5 * (nu + 1) * torch.log1p(square / (nu * spread))
        total: Tensor = of_contexts.sum(-1) - each.sum(-1)
        return total

    def inverse(self, uniform: Tensor, eta: Tensor) -> Tensor:
        """Draw cosines (n, F) one by one from uniform numbers (n, 2, F) in contexts (n, d).

        A pair of uniform numbers gives a Student-t number by the polar method (Bailey 1994, Math.
        Comp. 62, 779).
        """
        of_context = self.context(eta) / math.sqrt(self.rank)
        scale, share, nu = self._conditionals(of_context)
        terms = self.mean(self.pairs) * self.there[..., None]  # (F, S, rank)
        radius = (nu * torch.expm1(-2 / nu * torch.log1p(-uniform[:, 0]))).sqrt()
        student = radius * torch.cos(2 * math.pi * uniform[:, 1])
        z, energy = torch.zeros_like(student), torch.zeros_like(student[:, 0])
        for k in range(z.shape[1]):
            seen = energy / self.before[k].clamp_min(1)
            residual = (1 + share[:, k] * (seen - 1)).sqrt() * student[:, k]
            energy = energy + residual.square()
            mean = (z[:, self.index[k]] * (of_context @ terms[k].T)).sum(-1)
            z[:, k] = mean + scale[:, k].exp() * residual
        return z

    def _conditionals(self, of_context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-scales, shares of earlier energy and degrees of freedom, (…, F) each."""
        by_frequency = self.conditional(self.own).unflatten(-1, (3, self.rank))
        scale, share, freedom = (of_context @ by_frequency[:, i].T for i in range(3))
        omega = torch.sigmoid(share) * (self.before > 0)
        return scale, omega, _FREEDOM * torch.exp(freedom)

    def _mean(self, z: Tensor, of_context: Tensor) -> Tensor:
        """Return the conditional means of z given earlier coefficients."""
        terms = self.mean(self.pairs) * self.there[..., None]  # (F, S, rank)
        weights = torch.einsum("...r,fsr->...fs", of_context, terms)
        earlier = z[..., self.index]
        if z.dim() == 3:  # pairs: products of matrices for each coefficient
            return torch.einsum("nfs,jfs->njf", earlier[:, 0], weights[0])
        return (earlier * weights).sum(-1)
