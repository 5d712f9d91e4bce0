"""Features: transformed, standardised inputs of networks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.contracts.parameters import ParameterSpace
from bench.contracts.task import Task, Transform


@dataclass(frozen=True)
class Features:
    r"""Declared transform and one standardisation, shared by all components and methods.

    :math:`y = (t(x) - m) / s` elementwise; contexts are scaled to :math:`[-1, 1]` on the scale of
    their parameter. A density q of y gives :math:`\log p(x) = \log q(y) + \log|dy/dx|`.

    Args:
        space: the task's parameter space.
        transform: the task's declared transform t.
        mean: m, of the event's shape.
        scale: s, of the event's shape.
    """

    space: ParameterSpace
    transform: Transform
    mean: Tensor
    scale: Tensor

    @classmethod
    def estimate(cls, task: Task, x: Tensor) -> "Features":
        r"""Estimate the standardisation from simulations of the evidence reference, (n, \*event).

        Features with zero spread are not scaled.
        """
        y = task.transform(x.double())
        scale = y.std(0)
        return cls(
            task.space, task.transform, y.mean(0), torch.where(scale > 0, scale, 1.0 + 0 * scale)
        )

    def __call__(self, x: Tensor) -> Tensor:
        r"""Standardise observations, (\*B, \*event) to the same shape, float32."""
        mean, scale = self.mean.to(x.device), self.scale.to(x.device)
        return ((self.transform(x.double()) - mean) / scale).float()

    def inverse(self, y: Tensor) -> Tensor:
        r"""Return the observations of standardised features (\*B, \*event), float32.

        The arithmetic is in float64.

        Raises:
            NotApplicable: if the transform has no inverse.
        """
        mean, scale = self.mean.to(y.device), self.scale.to(y.device)
        return self.transform.inverse(y.double() * scale + mean).float()

    def log_jacobian(self, x: Tensor) -> Tensor:
        r"""Return log abs(dy/dx), shape \*B, float64, the term that a density method adds."""
        jacobian = self.transform.log_jacobian(x.double()) - self.scale.to(x.device).log()
        return jacobian.flatten(x.dim() - self.mean.dim()).sum(-1) if self.mean.dim() else jacobian

    def context(self, context: Tensor) -> Tensor:
        r"""Scale contexts (\*B, d) to [−1, 1], float32."""
        return (2.0 * self._unit(context.double()) - 1.0).float()

    def score(self, score: Tensor, context: Tensor) -> Tensor:
        r"""Convert scores (\*B, d) to gradients with respect to scaled contexts, float32."""
        with torch.enable_grad():
            raw = context.detach().double().requires_grad_()
            (slope,) = torch.autograd.grad((2.0 * self._unit(raw)).sum(), raw)
        return (score.double() / slope).float()

    def _unit(self, context: Tensor) -> Tensor:
        return ParameterSpace(self.space.context, ()).to_unit(context)
