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
    """Protocol of a builder of one member, such as a frozen dataclass with a `__call__`.

    Equal architectures build modules that differ by their parameters only, which are drawn from
    PyTorch's global generator.
    """

    def __call__(self) -> nn.Module:
        """Create the module, with fresh parameters."""


class MemberParameters:
    """Trainable tensors of a block of members, by name; the leading axis of each is the members.

    Args:
        parameters: (members, …) each, in the order in which they train.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = dict(parameters)

    @property
    def members(self) -> int:
        """Number of members."""
        return len(next(iter(self._parameters.values())))

    @property
    def count(self) -> int:
        """Trainable parameters of one member."""
        return sum(p[0].numel() for p in self.parameters())

    def parameters(self) -> list[Tensor]:
        """Return the tensors to train."""
        return list(self._parameters.values())

    def state(self) -> dict[str, Tensor]:
        """Return the detached parameters by name, (members, …) each."""
        return {name: tensor.detach() for name, tensor in self._parameters.items()}

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Self:
        """Move the parameters, in place, and make them trainable leaves."""
        self._parameters = {
            name: tensor.detach().to(device, dtype).requires_grad_()
            for name, tensor in self._parameters.items()
        }
        return self


class Stack(MemberParameters):
    """One module per member of a block, in one object; nothing couples the members.

    The leading axis of parameters is the members, as `train` requires. One member is evaluated as
    the plain module. Several are evaluated through `torch.func.vmap`, or one after another if the
    module cannot be vectorised.

    Args:
        architecture: builds the module of one member.
        parameters: by the module's names, (members, …) each.
        vectorise: whether the module supports vmap; one that branches on data does not.
        compile_shape: rows of batches, of one member, for which the module is compiled. Batches of
            other sizes, and all that need gradients, run uncompiled: compiled gradients of spline
            flows were wrong by up to a fifth (PyTorch 2.13, CPU). The first compilation on a
            machine takes up to a minute, and needs a C++ compiler on a CPU. If it fails, only the
            speed changes.

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
        """Draw every member's parameters with the module's own initialisation.

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
        """Evaluate inputs (members, n, …), separate for each member, to (members, n, …)."""
        first = self.parameters()[0]
        kind: _Kind = (self.architecture, first.device, first.dtype)
        if self.members > 1 and self.vectorise:
            return vmap(partial(evaluate_with, template_of(*kind)))(self._parameters, *inputs)
        members = [
            self._alone(
                kind,
                {name: tensor[m] for name, tensor in self._parameters.items()},
                *(tensor[m] for tensor in inputs),
            )
            for m in range(self.members)
        ]
        return members[0][None] if len(members) == 1 else torch.stack(members)

    @torch.no_grad()
    def inverse(self, *inputs: Tensor) -> Tensor:
        """Evaluate the modules' method `inverse` on inputs (members, n, …) of each member.

        The arithmetic is in float64, because inverses of autoregressive networks accumulate
        rounding errors.

        Returns:
            (members, n, …) float64.
        """
        template = _Inverse(template_of(self.architecture, inputs[0].device, torch.float64))
        own = {f"module.{name}": value.double() for name, value in self._parameters.items()}
        return torch.stack(
            [
                evaluate_with(
                    template,
                    {name: value[m] for name, value in own.items()},
                    *(value[m].double() for value in inputs),
                )
                for m in range(self.members)
            ]
        )

    def _alone(self, kind: "_Kind", parameters: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        compiling = len(inputs[0]) == self.compile_shape and not torch.is_grad_enabled()
        if compiling and kind not in uncompilable:
            try:
                with warnings.catch_warnings():  # the user cannot act on warnings of the compiler
                    warnings.filterwarnings("ignore", module=r"torch\.")
                    compiled: Tensor = _compiled(*kind)(parameters, *inputs)
                return compiled
            except Exception as error:  # no compiler or an unsupported operator, for example
                uncompilable.add(kind)
                _log.info("not compiled: %s", str(error).partition("\n")[0])
        return evaluate_with(template_of(*kind), parameters, *inputs)


class _Inverse(nn.Module):
    """Module whose call is the method `inverse` of another module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        inverse: Callable[..., Tensor] = self.module.inverse  # type: ignore[assignment]
        return inverse(*inputs)


_Kind = tuple[Architecture, torch.device, torch.dtype]
uncompilable: set[_Kind] = set()


def evaluate_with(template: nn.Module, parameters: dict[str, Tensor], *inputs: Tensor) -> Tensor:
    """Evaluate a network with these parameters instead of its own."""
    out: Tensor = functional_call(template, parameters, inputs)
    return out


@cache
def template_of(architecture: Architecture, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return the module whose parameters are replaced at every call; members share its buffers."""
    with torch.random.fork_rng(devices=[]):
        return architecture().to(device, dtype)


@cache
def _compiled(
    architecture: Architecture, device: torch.device, dtype: torch.dtype
) -> Callable[..., Any]:
    # The shapes are static: with dynamic ones the generated code, and so the last bits of the
    # results, would depend on the order in which a worker meets them.
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.config.recompile_limit = 64  # architectures and batch sizes in one process
    torch._inductor.config.compile_threads = 1  # a worker does not start workers
    with suppress(ImportError):  # its default lock would outlive a worker
        import tqdm

        tqdm.tqdm.set_lock(threading.RLock())
    template = template_of(architecture, device, dtype)

    def evaluate(parameters: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        return evaluate_with(template, parameters, *inputs)

    return torch.compile(evaluate, dynamic=False)
