"""Stacks of modules: any PyTorch module, once per member, trained and evaluated together."""

import logging
import threading
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

_log = logging.getLogger(__name__)


class Architecture(Hashable, Protocol):
    """What builds one member: a frozen dataclass, say, with a `__call__`.

    Equal architectures build equal modules but for the parameters, which are drawn from PyTorch's
    global generator.
    """

    def __call__(self) -> nn.Module:
        """Creates the module, with fresh parameters."""


class MemberParameters:
    """Trainable tensors of a block of members, by name; each leads with the members' axis.

    Args:
        parameters: (members, …) each, in the order in which they train.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = dict(parameters)

    @property
    def members(self) -> int:
        """How many members there are."""
        return len(next(iter(self._parameters.values())))

    @property
    def count(self) -> int:
        """Trainable parameters of one member."""
        return sum(p[0].numel() for p in self.parameters())

    def parameters(self) -> list[Tensor]:
        """The tensors to train."""
        return list(self._parameters.values())

    def state(self) -> dict[str, Tensor]:
        """All parameters by name, detached, members leading."""
        return {name: tensor.detach() for name, tensor in self._parameters.items()}

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Self:
        """Moves the parameters, in place, and makes them trainable leaves."""
        self._parameters = {
            name: tensor.detach().to(device, dtype).requires_grad_()
            for name, tensor in self._parameters.items()
        }
        return self


class Stack(MemberParameters):
    """A module for each member of a block, in one object; nothing couples the members.

    Parameters lead with the members' axis, as `train` wants them. One member is evaluated as the
    plain module that it is; several go through `torch.func.vmap`, or one after another where a
    module cannot be vectorised.

    Args:
        architecture: builds the module of one member.
        parameters: by the module's names, (members, …) each.
        vectorise: whether the module survives vmap; one that branches on data does not.
        compile_shape: rows of the batches, of one member, that are worth compiling for; batches of
            other sizes, and all that need gradients, run as they are: compiled gradients of spline
            flows were wrong by up to a fifth (PyTorch 2.13, CPU). Compiling takes the better part
            of a minute the first time on a machine, and needs a C++ compiler on CPU; where it
            fails, nothing changes but the speed.

    Example:
        >>> stack = Stack.create(partial(nn.Linear, 3, 2), [torch.Generator().manual_seed(0)] * 4)
        >>> stack(torch.zeros(4, 5, 3)).shape
        torch.Size([4, 5, 2])
    """

    def __init__(
        self,
        architecture: Architecture,
        parameters: Mapping[str, Tensor],
        *,
        vectorise: bool = True,
        compile_shape: int | None = None,
    ) -> None:
        super().__init__(parameters)
        self.architecture = architecture
        self.vectorise = vectorise
        self.compile_shape = compile_shape

    @classmethod
    def create(
        cls,
        architecture: Architecture,
        generators: Sequence[torch.Generator],
        *,
        vectorise: bool = True,
    ) -> "Stack":
        """Draws every member's parameters as the module itself draws them.

        Args:
            architecture: builds the module of one member.
            generators: one CPU generator per member, which seeds its initialisation.
            vectorise: as in `Stack`.
        """
        drawn: list[dict[str, Tensor]] = []
        for generator in generators:
            seed = int(torch.randint(2**63 - 1, (), generator=generator))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                drawn.append(dict(architecture().named_parameters()))
        stacked = {name: torch.stack([d[name].detach() for d in drawn]) for name in drawn[0]}
        return cls(architecture, stacked, vectorise=vectorise)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Evaluates inputs (members, n, …), each member its own, to (members, n, …)."""
        first = self.parameters()[0]
        kind: _Kind = (self.architecture, first.device, first.dtype)
        if self.members > 1 and self.vectorise:
            return vmap(partial(_evaluate, _template(*kind)))(self._parameters, *inputs)
        members = [
            self._alone(
                kind,
                {name: tensor[m] for name, tensor in self._parameters.items()},
                *(tensor[m] for tensor in inputs),
            )
            for m in range(self.members)
        ]
        return members[0][None] if len(members) == 1 else torch.stack(members)

    def _alone(self, kind: "_Kind", parameters: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        compiling = len(inputs[0]) == self.compile_shape and not torch.is_grad_enabled()
        if compiling and kind not in _uncompilable:
            try:
                with warnings.catch_warnings():  # what the compiler cannot do is not the user's
                    warnings.filterwarnings("ignore", module=r"torch\.")
                    compiled: Tensor = _compiled(*kind)(parameters, *inputs)
                return compiled
            except Exception as error:  # no compiler, an operator it does not know, …
                _uncompilable.add(kind)
                _log.info("not compiled: %s", str(error).partition("\n")[0])
        return _evaluate(_template(*kind), parameters, *inputs)


_Kind = tuple[Architecture, torch.device, torch.dtype]
_uncompilable: set[_Kind] = set()


def _evaluate(template: nn.Module, parameters: dict[str, Tensor], *inputs: Tensor) -> Tensor:
    out: Tensor = functional_call(template, parameters, inputs)
    return out


@cache
def _template(architecture: Architecture, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The module whose parameters are replaced at every call; its buffers are every member's."""
    with torch.random.fork_rng(devices=[]):
        return architecture().to(device, dtype)


@cache
def _compiled(
    architecture: Architecture, device: torch.device, dtype: torch.dtype
) -> Callable[..., Any]:
    # The shapes are static: with dynamic ones the code that is generated, and so the last bits of
    # the results, would depend on the order in which a worker meets them.
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.config.recompile_limit = 64  # architectures and batch sizes in one process
    torch._inductor.config.compile_threads = 1  # a worker does not start workers
    with suppress(ImportError):  # PyTorch's progress bars; their own lock would outlive a worker
        import tqdm

        tqdm.tqdm.set_lock(threading.RLock())
    template = _template(architecture, device, dtype)

    def evaluate(parameters: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        return _evaluate(template, parameters, *inputs)

    return torch.compile(evaluate, dynamic=False)
