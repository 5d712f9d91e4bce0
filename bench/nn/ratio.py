"""Networks of pairs (x, η): an optional encoder of x, and a head that also takes η."""

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from bench.contracts import Features, Task
from bench.nn.encoders import Encoder
from bench.nn.flops import operations
from bench.nn.networks import Activation, StackedMLP, evaluation_rows
from bench.nn.stacks import Stack

_ENCODER = "encoder."


class RatioNetwork:
    """Log-odds of pairs of observations and contexts, for each member of a block.

    The context enters after the encoder, so an observation is encoded once for all contexts.

    Args:
        encoder: maps features (members, n, features) to (members, n, width); None if the head takes
            the features themselves.
        head: maps encoded features and a context, concatenated, to one number.
        contexts: number of context parameters.
    """

    def __init__(self, encoder: Stack | None, head: StackedMLP, contexts: int) -> None:
        self.encoder = encoder
        self.head = head
        self.contexts = contexts

    @classmethod
    def create(
        cls,
        encoder: Encoder | None,
        features: int,
        contexts: int,
        hidden: Sequence[int],
        activation: Activation,
        generators: Sequence[torch.Generator],
    ) -> "RatioNetwork":
        """Draw every member's parameters from its own generator.

        Args:
            encoder: builds the encoder; None if the head takes the features themselves.
            features: number of features of an observation.
            contexts: number of context parameters.
            hidden: widths of the head's hidden layers.
            activation: the head's nonlinearity.
            generators: one CPU generator per member.
        """
        encoding = None if encoder is None else Stack.create(encoder, generators)
        inputs = (features if encoder is None else encoder.outputs) + contexts
        head = StackedMLP.create((inputs, *hidden, 1), activation, generators)
        return cls(encoding, head, contexts)

    @classmethod
    def from_state(
        cls,
        encoder: Encoder | None,
        contexts: int,
        activation: Activation,
        state: Mapping[str, Tensor],
    ) -> "RatioNetwork":
        """Rebuild the networks from `state`; encoder and contexts as in `create`."""
        own = {k.removeprefix(_ENCODER): v for k, v in state.items() if k.startswith(_ENCODER)}
        head = {k: v for k, v in state.items() if not k.startswith(_ENCODER)}
        encoding = None if encoder is None else Stack(encoder, own)
        return cls(encoding, StackedMLP(head, activation), contexts)

    def state(self) -> dict[str, Tensor]:
        """Return all parameters by name, detached, members leading."""
        encoder = {} if self.encoder is None else self.encoder.state()
        return self.head.state() | {_ENCODER + name: value for name, value in encoder.items()}

    def parameters(self) -> list[Tensor]:
        """Return the tensors to train."""
        return [*(self.encoder.parameters() if self.encoder else []), *self.head.parameters()]

    def to(self, device: torch.device) -> "RatioNetwork":
        """Move the parameters, in place, and make them trainable leaves."""
        if self.encoder is not None:
            self.encoder.to(device)
        self.head.to(device)
        return self

    @property
    def count(self) -> int:
        """Trainable parameters of one member."""
        return self.head.count + (self.encoder.count if self.encoder else 0)

    def encode(self, y: Tensor) -> Tensor:
        """Encode flattened features (members, n, features) as (members, n, width) for the head."""
        if self.encoder is None:
            return y
        rows = evaluation_rows(y.device) // 8
        return torch.cat([self.encoder(part) for part in torch.split(y, rows, dim=1)], 1)

    def encoding(self, y: Tensor) -> Tensor:
        """Encode as `encode` does, but all rows at once, for training batches."""
        return y if self.encoder is None else self.encoder(y)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return log-odds (members, n) of concatenated features and contexts, (members, n, …)."""
        y, eta = inputs.tensor_split([inputs.shape[-1] - self.contexts], -1)
        return self.decide(self.encoding(y), eta)

    def decide(self, encoded: Tensor, eta: Tensor) -> Tensor:
        """Return log-odds (members, n) of encoded observations (members, n, width) at contexts."""
        return self.head(torch.cat([encoded, eta], -1)).squeeze(-1)

    def operations(self, features: int) -> tuple[float, float]:
        """Count the operations of encoding an observation, and of the head for each context."""
        first = self.head.weights[0]
        one, encoded = (first.new_zeros(1, 1, n) for n in (features, first.shape[1]))
        head = operations(lambda: self.head(encoded))
        return (0.0 if self.encoder is None else operations(lambda: self.encoding(one))), head

    def pairwise(self, encoded: Tensor, eta: Tensor) -> Tensor:
        """Return log-odds (members, n, J) of all pairs of encoded observations and contexts."""
        members, nodes = len(encoded), len(eta)
        step = max(1, evaluation_rows(eta.device) // nodes)
        parts = []
        for events in torch.split(encoded, step, dim=1):
            inputs = torch.cat(
                [
                    events[:, :, None].expand(-1, -1, nodes, -1),
                    eta[None, None].expand(members, events.shape[1], -1, -1),
                ],
                -1,
            ).flatten(1, 2)
            parts.append(self.head(inputs).view(members, -1, nodes))
        return torch.cat(parts, 1)


def seen(task: Task, features: Features, x: Tensor) -> Tensor:
    r"""Return summaries, if the task has any, or features of x (\*B, \*event), (\*B, numbers)."""
    summaries = task.summaries(x.double())
    return flat(features(x), task.event_shape) if summaries is None else summaries.float()


def flat(y: Tensor, event_shape: tuple[int, ...]) -> Tensor:
    r"""Flatten features (…, \*event) to vectors (…, features)."""
    return y.reshape(*y.shape[: y.dim() - len(event_shape)], prod(event_shape))
