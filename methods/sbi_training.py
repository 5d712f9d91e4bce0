"""Trainers of the sbi package (Boelts et al. 2024, arXiv:2411.17337), adapted to the suite's rules.

They draw from PyTorch's global generator, print, warn and write to a folder of logs. Here they draw
from a member's own generator, and produce only the network and its losses.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import accumulate
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.contracts import Features, FitContext, FitLog, Settings, Task, TrainingCurve
from bench.errors import BudgetExceeded

Build = Callable[[Tensor, Tensor], nn.Module]
"""Function that creates a network from examples of parameters and observations.

The examples determine shapes and standardisations.
"""

REQUIRES = {"sbi": "nlbench[peers]"}
_FEWEST = 20  # simulations, two of which validate


class SbiTraining(Settings):
    """Settings of sbi's training, with sbi's names and defaults.

    Args:
        training_batch_size: rows of a batch.
        learning_rate: constant learning rate of Adam.
        validation_fraction: share of the simulations held out for stopping, drawn at random.
        stop_after_epochs: epochs without a better validation loss after which training stops.
        epochs: passes over the training data, at most; None for no limit.
        clip_max_norm: largest norm of the gradient; None for no limit.
    """

    training_batch_size: int = Field(default=200, ge=2)
    learning_rate: float = Field(default=5e-4, gt=0)
    validation_fraction: float = Field(default=0.1, ge=0.1, le=0.5)
    stop_after_epochs: int = Field(default=20, ge=1)
    epochs: int | None = Field(default=None, ge=2)
    clip_max_norm: float | None = Field(default=5.0, gt=0)


@contextmanager
def quiet(generator: torch.Generator) -> Iterator[None]:
    """Hold PyTorch's CPU generator at a generator's state; suppress output and warnings."""
    with (
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
        redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        torch.set_rng_state(generator.get_state())
        yield


def train(
    trainer: str,
    build: Build,
    theta: Tensor,
    x: Tensor,
    settings: SbiTraining,
    fit_context: FitContext,
    component: str = "",
    *,
    mean: bool = False,
) -> tuple[list[nn.Module], list[TrainingCurve]]:
    """Train every member's network with one of sbi's trainers and restore its best epoch.

    Args:
        trainer: name of a class of sbi.inference.
        build: creates the network.
        theta: parameters of the pairs, (members, n, parameters).
        x: observations, (members, n, numbers).
        settings: settings of the training.
        fit_context: generators, device and progress.
        component: component of the network; empty if it serves all.
        mean: whether the trainer's loss is a batch's mean, which sbi divides by its rows again.

    Raises:
        BudgetExceeded: if there are too few simulations to train and validate.
    """
    n = x.shape[1]
    if n < _FEWEST:
        raise BudgetExceeded(f"sbi needs {_FEWEST} simulations to train and validate, not {n}")
    nets, curves = [], []
    for i, generator in enumerate(fit_context.generators(f"{component} sbi".lstrip())):
        net, summary = train_network(
            trainer, build, theta[i], x[i], settings, generator, fit_context.device
        )
        curves.append(_curve(summary, n, settings, mean))
        nets.append(net)
        epochs, best = len(curves[-1].validation_loss), min(curves[-1].validation_loss)
        fit_context.report(stage=component or "ratio", epoch=epochs, epochs=epochs, loss=best)
    return nets, curves


def train_network(
    trainer: str,
    build: Build,
    theta: Tensor,
    x: Tensor,
    settings: SbiTraining,
    generator: torch.Generator,
    device: torch.device,
) -> tuple[nn.Module, Mapping[str, Any]]:
    """Train one member's network with its own generator; return it and sbi's summary."""
    with quiet(generator):
        import sbi.inference

        inference = getattr(sbi.inference, trainer)(
            None,
            build,
            device=str(device),
            tracker=_Nowhere(),
            show_progress_bars=False,
        )
        inference.append_simulations(theta, x)
        options = settings.model_dump(exclude={"epochs"})
        if settings.epochs is not None:  # sbi makes one pass more than this
            options["max_num_epochs"] = settings.epochs - 1
        return inference.train(**options), inference.summary


def _curve(
    summary: Mapping[str, Any], simulations: int, settings: SbiTraining, mean: bool
) -> TrainingCurve:
    """Convert sbi's summary of a training on a number of simulations to a training curve."""
    held_out = simulations - int((1 - settings.validation_fraction) * simulations)
    rows = [min(settings.training_batch_size, n) for n in (simulations - held_out, held_out)]
    training, validation = (
        [loss * (factor if mean else 1) for loss in summary[name]]
        for name, factor in zip(("training_loss", "validation_loss"), rows, strict=True)
    )
    best = min(range(len(validation)), key=validation.__getitem__)
    times = list(accumulate(summary["epoch_durations_sec"]))
    steps = len(validation) * ((simulations - held_out) // rows[0])
    return TrainingCurve(training, validation, best + 1, steps, times[-1], times[best])


class _Nowhere:
    """Tracker of sbi that discards everything; the default one writes to ./sbi-logs."""

    log_dir = None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def rebuild(
    build: Build, parameters: int, numbers: int, state: Mapping[str, Tensor]
) -> list[nn.Module]:
    """Rebuild every member's network from `SbiNetworks.state`, on the state's device."""
    first = next(iter(state.values()))
    nets = []
    for member in range(len(first)):
        with quiet(torch.Generator().manual_seed(0)):  # its random parameters are replaced
            net = build(torch.randn(8, parameters), torch.randn(8, numbers))
        net.load_state_dict({name: values[member] for name, values in state.items()})
        nets.append(net.to(first.device).eval())
    return nets


class SbiNetworks:
    """Trained networks of sbi, one per member; subclasses evaluate them.

    Args:
        task: the task.
        features: the task's.
        nets: the networks.
        curves: training curve of each member; empty if restored.
        label: label of the curves.
    """

    def __init__(
        self,
        task: Task,
        features: Features,
        nets: Sequence[Any],
        curves: Sequence[TrainingCurve] = (),
        label: str = "",
    ) -> None:
        self.task = task
        self.features = features
        self.nets = [net.eval().requires_grad_(False) for net in nets]
        parameters = sum(p.numel() for p in nets[0].parameters())
        self.log = FitLog(parameters, [{label: curve} for curve in curves])

    def state(self) -> dict[str, Tensor]:
        """Return parameters and standardisations by name, members leading."""
        states = [net.state_dict() for net in self.nets]
        return {name: torch.stack([s[name].detach() for s in states]) for name in states[0]}


def in_blocks(
    evaluate: Callable[[Tensor, Tensor], Tensor], x: Tensor, theta: Tensor, rows: int
) -> Tensor:
    """Evaluate all pairs of observations (n, …) and parameters (J, …) in blocks, (n, J).

    Args:
        evaluate: maps equal numbers of observations and parameters, row by row, to (rows,).
        x: observations.
        theta: parameters.
        rows: approximate number of rows of a block.
    """
    nodes = len(theta)
    parts = []
    for block in torch.split(x, max(1, rows // nodes)):
        pairs = block.repeat_interleave(nodes, 0), theta.repeat(len(block), 1)
        parts.append(evaluate(*pairs).view(len(block), nodes))
    return torch.cat(parts)
