r"""Direct likelihood estimation (DLE): a conditional normalising flow learns :math:`p_k(x|\eta)`.

Each component has neural spline flows (Durkan et al. 2019, arXiv:1906.04032) with autoregressive
blocks (Papamakarios et al. 2017, arXiv:1705.07057), conditioned on an embedding of η, on zuko. They
are trained by maximum likelihood in standardised features; the density of x adds the logarithm of
the Jacobian.

Series and fields have too many features for splines: their blocks are affine (Papamakarios et al.
2017), and fields are represented by their cosine transform. Counts are made continuous by uniform
noise in their unit cells (Theis, van den Oord & Bethge 2016, arXiv:1511.01844). Their probability
is the density's mean over a cell, estimated from a few points.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from bench.contracts import (
    Draw,
    Features,
    FitContext,
    FitLog,
    Settings,
    Speed,
    Task,
    Work,
    equal_draws,
)
from bench.errors import NotApplicable
from bench.nn.coordinates import Coordinates, cell_noise
from bench.nn.density_method import SCALE, CoordinateExamples, CoordinateMethod
from bench.nn.flops import ENCODERS, SPLINES, SPLINES_GPU, operations
from bench.nn.flows import FlowShape, ZukoFlow
from bench.nn.network_method import NetworkSettings
from bench.nn.networks import EVALUATION_BLOCK, Activation, evaluation_rows
from bench.nn.score_matching import LIGHT
from bench.nn.stacks import Stack
from bench.nn.training import SEARCH, Training

_COMPILE_EVALUATION = 2_000_000  # pairs, whose evaluation takes about as long as compiling
_DIMENSIONS = {"vector": 1, "series": 1, "field": 2}  # dimensions of an observation
_OF_VECTORS = {"transforms", "bins", "hidden", "activation", "training"}  # of a configuration


class AffineFlow(Settings):
    """Settings of the flows of series and fields.

    Args:
        transforms: autoregressive blocks, affine in the feature that they transform.
        hidden: widths of the hidden layers of the networks that give shifts and scales.
        activation: nonlinearity of all networks.
        training: settings of the training.
    """

    transforms: int = Field(default=3, ge=1)
    hidden: tuple[int, ...] = Field(default=(64, 64), min_length=1)
    activation: Activation = "silu"
    training: Training = Training(learning_rate=3e-3, batch_size=256, epochs=12)


class DLEConfig(NetworkSettings):
    """Configuration of DLE.

    Args:
        transforms: autoregressive blocks; every other one takes the features in reverse.
        bins: bins of each spline, on [−5, 5] in standardised features; the identity beyond.
        hidden: widths of the hidden layers of the networks that give the splines' parameters.
        embedding: width of the layer that embeds the context.
        activation: nonlinearity of all networks.
        budget_share: share of the budget that is spent, equally on all components.
        training: settings of the training.
        affine: the flow of series and fields, which ignores the settings above; None to refuse
            series and fields.
        draws: points of a unit cell over which the density of counts is averaged.
    """

    transforms: int = Field(default=3, ge=1)
    bins: int = Field(default=8, ge=2)
    hidden: tuple[int, ...] = Field(default=(64, 64), min_length=1)
    embedding: int = Field(default=32, ge=1)
    activation: Activation = "silu"
    budget_share: float = Field(default=1.0, gt=0, le=1)
    training: Training = Training(learning_rate=5e-3, batch_size=512, epochs=12)
    affine: AffineFlow | None = AffineFlow()
    draws: int = Field(default=4, ge=1)


class DLE(CoordinateMethod):
    """Density estimation with a conditional neural spline flow, on zuko."""

    name = "dle"
    title = "Conditional spline flow"
    citation = "Durkan et al. (2019), arXiv:1906.04032"
    Config = DLEConfig
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tuned": {},
        "scores": {"scores": {}},
        "scores-light": {"scores": LIGHT},
        # The paper's flows use component simulations only: half of its classifiers' simulations.
        "published": {
            "transforms": 4,
            "activation": "relu",
            "budget_share": 0.5,
            "affine": None,
            "training": {
                "batch_size": 1024,
                "learning_rate": 1e-3,
                "schedule": "constant",
                "epochs": 10,
            },
        },
    }
    search: ClassVar[Mapping[str, Sequence[Any]]] = {
        "activation": ("relu", "silu"),
        **SEARCH,
    }
    config: DLEConfig
    Flow: ClassVar[type[FlowShape]] = ZukoFlow
    """Architecture class of the flow."""
    vectorise: ClassVar[bool] = True
    """Support of torch.func.vmap and CUDA graphs by the flow."""
    speed: ClassVar[Speed] = SPLINES
    gpu_speed: ClassVar[Speed] = SPLINES_GPU

    def check(self, task: Task) -> None:
        super().check(task)
        if len(task.event_shape) != _DIMENSIONS.get(task.observation):
            raise NotApplicable(
                f"{self.name} takes vectors, series and fields, and observations of {task.name} "
                f"are of kind {task.observation!r} and shape {task.event_shape}"
            )
        if task.observation != "vector" and self.config.affine is None:
            raise NotApplicable("this configuration is for vectors")

    def settings(self, task: Task) -> dict[str, Any]:
        settings = super().settings(task)
        unused = {"affine"} if task.observation == "vector" else _OF_VECTORS
        return {
            name: value
            for name, value in settings.items()
            if name not in unused and (name != "draws" or task.discrete)
        }

    def work(self, task: Task, budget: int) -> Work:
        names, shape = task.component_names, self.flow_shape(task)
        own = int(budget * self.config.budget_share) // len(names)
        rows = own - self.config.held_out(own)
        settings, flow = self.training(task), self.network(task, [torch.Generator()])
        one = torch.zeros(1, 1, shape.features), torch.zeros(1, 1, shape.contexts)
        forwards = operations(lambda: flow(*one))
        factor = 3.0 if self.config.scores is None else 5.0  # forward and backward passes
        points = self.config.draws if task.discrete else 1
        return Work(
            steps=len(names) * settings.steps_of(rows),
            rows=len(names) * settings.epochs_of(rows) * rows,
            training=factor * forwards,
            evaluation=len(names) * points * forwards,
            cpu=ENCODERS if shape.bins is None else self.speed,
            gpu=self.gpu_speed,
        )

    def draws(self, task: Task, budget: int) -> list[Draw]:
        return equal_draws(task, int(budget * self.config.budget_share))

    def _sizes(self, task: Task) -> DLEConfig | AffineFlow:
        """Return the settings that build and train the flow of a task's observations."""
        affine = self.config.affine
        return self.config if task.observation == "vector" or affine is None else affine

    def flow_shape(self, task: Task) -> FlowShape:
        sizes = self._sizes(task)
        return self.Flow(
            features=math.prod(task.event_shape),
            contexts=len(task.space.context_index),
            transforms=sizes.transforms,
            bins=sizes.bins if isinstance(sizes, DLEConfig) else None,
            hidden=sizes.hidden,
            embedding=self.config.embedding,
            activation=sizes.activation,
        )

    def network(self, task: Task, generators: Sequence[torch.Generator]) -> Stack:
        return Stack.create(self.flow_shape(task), generators, vectorise=self.vectorise)

    def training(self, task: Task) -> Training:
        return self._sizes(task).training

    @property
    def recordable(self) -> bool:
        return self.vectorise and super().recordable

    def calls(self, task: Task, budget: int) -> int:
        return super().calls(task, int(budget * self.config.budget_share))

    def surrogate(
        self, fit_context: FitContext, examples: CoordinateExamples, net: Stack, log: FitLog
    ) -> "ConditionalDensity":
        task, features = fit_context.task, fit_context.features
        return self._density(task, features, net, examples.coordinates, log)

    def restore_component(
        self, component: str, task: Task, features: Features, state: Mapping[str, Tensor]
    ) -> "ConditionalDensity":
        own = {name: value for name, value in state.items() if name != SCALE}
        flow = Stack(self.flow_shape(task), own, vectorise=self.vectorise)
        coordinates = Coordinates(task.observation, task.event_shape, state.get(SCALE))
        return self._density(task, features, flow, coordinates, FitLog(flow.count))

    def _density(
        self, task: Task, features: Features, flow: Stack, coordinates: Coordinates, log: FitLog
    ) -> "ConditionalDensity":
        noise = cell_noise(self.config.draws, task.event_shape) if task.discrete else None
        return ConditionalDensity(flow, features, coordinates, noise, log, task.largest_count)


class ConditionalDensity:
    """Trained flows of one component: log p̂(x|η) = log q(z(x)|η) + log |dz/dx|.

    For counts it is their probability: the density's mean over cells, at the same points for all.
    """

    def __init__(
        self,
        flow: Stack,
        features: Features,
        coordinates: Coordinates,
        noise: Tensor | None,
        log: FitLog,
        largest: int | None = None,
    ) -> None:
        self.flow = flow
        self.features = features
        self.coordinates = coordinates
        self.noise = noise
        self.log = log
        self.largest = largest
        self._evaluated = 0

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        return self._over_cells(self._log_density, x, context)

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        return self._over_cells(self._log_density_paired, x, context)

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Draw observations by the inverse flow of normal noise, as `HasSamples`.

        Counts are the integer part of the continuous observation. They follow the density's exact
        mean over cells, and those outside the possible range move to its bounds.
        """
        eta, members = self.features.context(context), self.flow.members
        shape = members, len(context), self.features.mean.numel()
        noise = torch.randn(shape, generator=generator).to(context.device)
        z = self.flow.inverse(noise, eta.expand(members, *eta.shape))
        x = self.features.inverse(self.coordinates.inverse(z))
        return x if self.noise is None else x.floor().clamp(0, self.largest)

    def _over_cells(
        self, log_density: Callable[[Tensor, Tensor], Tensor], x: Tensor, context: Tensor
    ) -> Tensor:
        """Average the density of counts over their cells."""
        if self.noise is None:
            return log_density(x, context)
        cells = [log_density(x + u, context) for u in self.noise.to(x.device)]
        return torch.logsumexp(torch.stack(cells), 0) - math.log(len(cells))

    def _log_density(self, x: Tensor, context: Tensor) -> Tensor:
        z, eta = self.coordinates(self.features(x)[None]), self.features.context(context)
        self._evaluated += len(x) * len(eta)
        # A few observations in many contexts share little, and would fill no block.
        many = 2 * len(x) >= EVALUATION_BLOCK[x.device.type][0]
        out = self._of_pairs(z, eta) if many else self._of_rows(z, eta)
        return out + self._log_jacobian(x)

    def _log_density_paired(self, x: Tensor, context: Tensor) -> Tensor:
        pairs = self.coordinates(self.features(x)[None]), self.features.context(context)
        self.flow.compile_shape = None  # blocks of other shapes are compiled
        out = self.flow(*(t.expand(self.flow.members, *t.shape[-2:]) for t in pairs))
        return out + self._log_jacobian(x)[..., 0]

    def _log_jacobian(self, x: Tensor) -> Tensor:
        """Return the term that a density of coordinates adds, (members or 1, n, 1)."""
        jacobian = self.features.log_jacobian(x).float()[:, None]
        return jacobian + self.coordinates.log_jacobian(x.device)

    def _compile_for(self, size: int) -> None:
        self.flow.compile_shape = size if self._evaluated > _COMPILE_EVALUATION else None

    def _of_rows(self, z: Tensor, eta: Tensor) -> Tensor:
        """Evaluate z (1, n, F) in contexts (J, d) pair by pair, (members, n, J)."""
        members, nodes, rows = self.flow.members, len(eta), z.shape[1] * len(eta)
        size = min(rows, evaluation_rows(z.device))
        self._compile_for(evaluation_rows(z.device))
        parts = []
        for start in range(0, rows, size):
            # The last batch is filled with its last row to the size of the others.
            index = torch.arange(start, start + size, device=z.device)
            index.clamp_(max=rows - 1)
            batch = z[:, index // nodes], eta[index % nodes]
            parts.append(self.flow(*(t.expand(members, -1, -1) for t in batch)))
        return torch.cat(parts, 1)[:, :rows].view(members, -1, nodes)

    def _of_pairs(self, z: Tensor, eta: Tensor) -> Tensor:
        """Evaluate as `_of_rows`, in blocks that share terms depending on the context alone."""
        events, contexts = EVALUATION_BLOCK[z.device.type]
        self._compile_for(events)
        near = self._blocks(eta[None, None], contexts)
        parts = [
            torch.cat([self.flow(some[:, :, None], others) for others in near], -1)
            for some in self._blocks(z, events)
        ]
        return torch.cat(parts, 1)[:, : z.shape[1], : len(eta)]

    def _blocks(self, tensor: Tensor, size: int) -> Sequence[Tensor]:
        """Split (1, …, n, F) into blocks for every member; a compiled flow gets full blocks."""
        missing = -tensor.shape[-2] % size
        if self.flow.compile_shape is not None and missing:
            last = tensor[..., -1:, :].expand(*tensor.shape[:-2], missing, -1)
            tensor = torch.cat([tensor, last], -2)
        blocks = torch.split(tensor.expand(self.flow.members, *tensor.shape[1:]), size, -2)
        # A compiled shape includes strides; copies make these independent of the cut.
        return [block.clone(memory_format=torch.contiguous_format) for block in blocks]

    def state(self) -> Mapping[str, Tensor]:
        scale = self.coordinates.scale
        return self.flow.state() | ({} if scale is None else {SCALE: scale})
