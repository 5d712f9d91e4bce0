"""Gradient steps; on CUDA they are recorded once and replayed, which avoids launching each kernel.

A step of a small network consists of a hundred kernels of a few microseconds each, and one of a
flow of a thousand. The CPU cannot launch them as fast as they run. A CUDA graph launches them all
at once.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_log = logging.getLogger(__name__)
_WARM_UP = 3
"""Steps before a graph is recorded; libraries allocate their memory in the first ones."""


class GradientSteps:
    """Gradient steps of Adam (Kingma & Ba 2015, arXiv:1412.6980), one per call.

    Args:
        parameters: tensors to train, members leading, all on one device.
        loss: `loss(*batch)` returns the mean loss of each member, (members,).
        rate: (peak) learning rate.
        cycle: steps of one cycle of the learning rate (Smith & Topin 2018, arXiv:1708.07120); 0
            for a constant rate.
        clip: largest norm of a member's gradient; 0 for no limit.
        record: whether a step on CUDA may be recorded; the loss must not depend on the values of
            tensors in its control flow.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        loss: Callable[..., Tensor],
        rate: float,
        *,
        cycle: int = 0,
        clip: float = 0.0,
        record: bool = True,
    ) -> None:
        self._parameters = list(parameters)
        self._loss = loss
        self._clip = clip
        first = self._parameters[0]
        self._record = record and first.is_cuda
        # A graph reads the learning rate from memory; a number would be frozen when recorded.
        lr = torch.tensor(rate, device=first.device) if self._record else rate
        self._optimiser = torch.optim.Adam(
            self._parameters, lr=lr, fused=True, capturable=self._record
        )
        self._scheduler = (
            torch.optim.lr_scheduler.OneCycleLR(
                self._optimiser, rate, total_steps=cycle, cycle_momentum=False
            )
            if cycle
            else None
        )
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: list[Tensor] = []
        self._steps = 0
        self.total = torch.zeros(len(first), device=first.device)
        """Sum of the losses of all steps, (members,); may be set to zero, in place."""

    def __call__(self, *batch: Tensor) -> None:
        """Take a step; all batches must have the same shape."""
        if self._record and self._graph is None and self._steps == _WARM_UP:
            self._capture(batch)
        if self._graph is not None:
            for static, tensor in zip(self._batch, batch, strict=True):
                static.copy_(tensor)
            self._graph.replay()
        elif self._record:
            # A recorded step must not have run on the default stream before.
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._step(*batch)
            torch.cuda.current_stream().wait_stream(stream)
        else:
            self._step(*batch)
        self._steps += 1
        if self._scheduler is not None:
            self._scheduler.step()

    def _step(self, *batch: Tensor) -> None:
        losses = self._loss(*batch)
        self._optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        if self._clip:
            _clip(self._parameters, self._clip)
        self._optimiser.step()
        self.total += losses.detach()

    def _capture(self, batch: Sequence[Tensor]) -> None:
        self._batch = [tensor.clone() for tensor in batch]
        self._optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        device = self._parameters[0].device
        generator = torch.cuda.default_generators[device.index or 0]
        before = generator.clone_state()
        try:
            with torch.cuda.graph(graph):
                self._step(*self._batch)
        except RuntimeError as error:  # an operator that needs values on the CPU, for example
            self._record = False
            generator.graphsafe_set_state(before)  # otherwise it would stay in recording mode
            _log.info("not recorded: %s", str(error).partition("\n")[0])
        else:
            self._graph = graph


def _clip(parameters: Sequence[Tensor], limit: float) -> None:
    """Scale each member's gradient down to a norm of at most `limit`."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
    factor = (limit / norm.clamp_min(1e-12)).clamp_max(1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))
