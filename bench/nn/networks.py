"""Stacked multilayer perceptrons: one network of the same architecture per member."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from bench.nn.stacks import MemberParameters

Activation = Literal["relu", "silu"]


class StackedMLP(MemberParameters):
    r"""Multilayer perceptrons of a block of members, evaluated together.

    Args:
        parameters: `weight0`, … (members, inputs, outputs) and `bias0`, … (members, 1, outputs).
        activation: nonlinearity between layers.

    Example:
        >>> net = StackedMLP.create((3, 8, 1), "silu", [torch.Generator().manual_seed(0)] * 2)
        >>> net(torch.zeros(2, 5, 3)).shape
        torch.Size([2, 5, 1])
    """

    def __init__(self, parameters: Mapping[str, Tensor], activation: Activation) -> None:
        super().__init__(parameters)
        self.activation = activation

    @classmethod
    def create(
        cls, sizes: Sequence[int], activation: Activation, generators: Sequence[torch.Generator]
    ) -> "StackedMLP":
        r"""Draw parameters with PyTorch's default, uniform in :math:`\pm 1/\sqrt{n_\text{in}}`.

        Args:
            sizes: widths from input to output.
            activation: nonlinearity between layers.
            generators: one CPU generator per member.
        """
        drawn = [[_linear(*layer, g) for layer in pairwise(sizes)] for g in generators]
        parameters = {
            f"{kind}{i}": torch.stack([tensors[part] for tensors in layer])
            for part, kind in enumerate(("weight", "bias"))
            for i, layer in enumerate(zip(*drawn, strict=True))
        }
        return cls(parameters, activation)

    @property
    def weights(self) -> list[Tensor]:
        """Weights of every layer, (members, inputs, outputs)."""
        return [self._parameters[f"weight{i}"] for i in range(len(self._parameters) // 2)]

    @property
    def biases(self) -> list[Tensor]:
        """Biases of every layer, (members, 1, outputs)."""
        return [self._parameters[f"bias{i}"] for i in range(len(self._parameters) // 2)]

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate (members, n, inputs) to (members, n, outputs)."""
        layers = zip(self.weights, self.biases, strict=True)
        x = _affine(x, *next(layers))
        for layer in layers:
            relu = self.activation == "relu"
            x = functional.relu(x, inplace=True) if relu else functional.silu(x)
            x = _affine(x, *layer)
        return x

    def with_slopes(self, x: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
        """Evaluate, and differentiate with respect to the last inputs, by forward accumulation.

        It takes one forward pass and, in training, one backward pass. The result equals that of two
        backward passes, which cost more if there are few inputs and many parameters.

        Args:
            x: (members, n, all inputs).
            inputs: number of last inputs to differentiate with respect to.

        Returns:
            Outputs (members, n, outputs) and slopes (members, inputs, n, outputs).
        """
        layers = zip(self.weights, self.biases, strict=True)
        weight, bias = next(layers)
        slopes = weight[:, -inputs:, None]  # the same for every row
        x = _affine(x, weight, bias)
        for weight, bias in layers:
            if self.activation == "relu":
                slope = (x > 0).to(x.dtype)
                x = functional.relu(x)
            else:
                gate = x.sigmoid()
                slope = gate * (1 + x * (1 - gate))
                x = x * gate
            slopes = slopes * slope[:, None]
            x = _affine(x, weight, bias)
            slopes = slopes @ weight[:, None]
        return x, slopes.expand(-1, -1, x.shape[1], -1)


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if len(weight) == 1:  # one member: a plain product is faster than a batched one
        return torch.addmm(bias[0], x[0], weight[0])[None]
    return torch.baddbmm(bias, x, weight)


EVALUATION_BLOCK = {"cpu": (512, 6), "cuda": (4096, 8)}
"""Events and contexts of a block of pairs: activations fit a CPU's cache, and fill a GPU."""


def evaluation_rows(device: torch.device) -> int:
    """Return the rows per network evaluation: activations fit a CPU's cache, and fill a GPU."""
    return 8192 if device.type == "cpu" else 1 << 15


def _linear(inner: int, outer: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    bound = 1 / math.sqrt(inner)
    weight = (2 * torch.rand(inner, outer, generator=generator) - 1) * bound
    bias = (2 * torch.rand(1, outer, generator=generator) - 1) * bound
    return weight, bias
