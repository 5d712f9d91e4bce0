"""Stacked multilayer perceptrons: the same architecture once per member, in one module."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Activation = Literal["relu", "silu"]


class StackedMLP:
    r"""A multilayer perceptron for each member of a block, evaluated together.

    Parameters lead with the members' axis; nothing couples the members. Weights are drawn as
    PyTorch's own linear layers draw them, uniform in :math:`\pm 1/\sqrt{n_\text{in}}`, each member
    from its own generator.

    Args:
        sizes: widths from input to output.
        activation: nonlinearity between layers.
        generators: one CPU generator per member.

    Example:
        >>> net = StackedMLP((3, 8, 1), "silu", [torch.Generator().manual_seed(0)] * 2)
        >>> net(torch.zeros(2, 5, 3)).shape
        torch.Size([2, 5, 1])
    """

    def __init__(
        self, sizes: Sequence[int], activation: Activation, generators: Sequence[torch.Generator]
    ) -> None:
        self.sizes = tuple(sizes)
        self.activation = activation
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        drawn = [
            [
                torch.cat([weight.flatten(), bias])
                for weight, bias in (
                    _linear(inner, outer, generator) for inner, outer in pairwise(sizes)
                )
            ]
            for generator in generators
        ]
        for layer, (inner, outer) in enumerate(pairwise(sizes)):
            flat = torch.stack([member[layer] for member in drawn])
            self.weights.append(flat[:, : inner * outer].reshape(-1, inner, outer).contiguous())
            self.biases.append(flat[:, inner * outer :].reshape(-1, 1, outer).contiguous())

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], activation: Activation) -> "StackedMLP":
        """Rebuilds from `state`."""
        net = cls.__new__(cls)
        layers = len(state) // 2
        net.weights = [state[f"weight{i}"] for i in range(layers)]
        net.biases = [state[f"bias{i}"] for i in range(layers)]
        net.sizes = (net.weights[0].shape[1], *(w.shape[2] for w in net.weights))
        net.activation = activation
        return net

    def state(self) -> dict[str, Tensor]:
        """All parameters by name, detached, members leading."""
        named = {f"weight{i}": w for i, w in enumerate(self.weights)}
        named |= {f"bias{i}": b for i, b in enumerate(self.biases)}
        return {name: tensor.detach() for name, tensor in named.items()}

    def parameters(self) -> list[Tensor]:
        """The tensors to train."""
        return [*self.weights, *self.biases]

    def to(self, device: torch.device) -> "StackedMLP":
        """Moves the parameters, in place, and makes them trainable leaves."""
        self.weights = [w.detach().to(device).requires_grad_() for w in self.weights]
        self.biases = [b.detach().to(device).requires_grad_() for b in self.biases]
        return self

    @property
    def count(self) -> int:
        """Trainable parameters of one member."""
        return sum(p[0].numel() for p in self.parameters())

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluates (members, n, inputs) to (members, n, outputs)."""
        last = len(self.weights) - 1
        for i in range(last + 1):
            x = self._affine(i, x)
            if i < last:
                x = (
                    functional.relu(x, inplace=True)
                    if self.activation == "relu"
                    else functional.silu(x)
                )
        return x

    def with_slopes(self, x: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
        """Evaluates, and differentiates in the last inputs, by forward accumulation.

        One pass forward and, in training, one backward: what differentiating backward twice gives,
        at a lower cost where there are few inputs and many parameters.

        Args:
            x: (members, n, all inputs).
            inputs: how many of the last inputs.

        Returns:
            Outputs (members, n, outputs) and slopes (members, inputs, n, outputs).
        """
        last = len(self.weights) - 1
        slopes = self.weights[0][:, -inputs:, None]  # at every row the same
        for i in range(last + 1):
            x = self._affine(i, x)
            if i > 0:
                slopes = slopes @ self.weights[i][:, None]
            if i < last:
                if self.activation == "relu":
                    slope = (x > 0).to(x.dtype)
                    x = functional.relu(x)
                else:
                    gate = x.sigmoid()
                    slope = gate * (1 + x * (1 - gate))
                    x = x * gate
                slopes = slopes * slope[:, None]
        return x, slopes.expand(-1, -1, x.shape[1], -1)

    def _affine(self, layer: int, x: Tensor) -> Tensor:
        weight, bias = self.weights[layer], self.biases[layer]
        if len(weight) == 1:  # one member: a plain product is faster than a batched one
            return torch.addmm(bias[0], x[0], weight[0])[None]
        return torch.baddbmm(bias, x, weight)


EVALUATION_BLOCK = {"cpu": (512, 6), "cuda": (4096, 8)}
"""Events and contexts of a block of pairs: activations stay in cache on a CPU, and fill a GPU."""


def evaluation_rows(device: torch.device) -> int:
    """Rows of a network evaluation: activations stay in cache on a CPU, and fill a GPU."""
    return 8192 if device.type == "cpu" else 1 << 15


def _linear(inner: int, outer: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    bound = 1 / math.sqrt(inner)
    weight = (2 * torch.rand(inner, outer, generator=generator) - 1) * bound
    bias = (2 * torch.rand(outer, generator=generator) - 1) * bound
    return weight, bias
