"""Log-ratios of pairs, observation i at context i, with derivatives in the context."""

import warnings
from typing import Protocol, runtime_checkable

import torch
import torch.autograd.forward_ad as forward_mode
from torch import Tensor

from bench.errors import NotApplicable


@runtime_checkable
class HasPairs(Protocol):
    """Surrogate that evaluates pairs itself: optional, and faster than `log_ratio_paired` without.

    Its arguments and result are those of that function. It uses differentiable operations of
    PyTorch, without `detach` and `no_grad`, and raises NotApplicable if its log-ratio is a step
    function of the context.
    """

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the log-ratio of observation i at context i, for every i."""


class _HasRatio(Protocol):
    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor: ...


def log_ratio_paired(surrogate: HasPairs | _HasRatio, x: Tensor, context: Tensor) -> Tensor:
    r"""Evaluate any surrogate's log-ratio of observation i at context i.

    The result is differentiable in the context, once. A surrogate without a `log_ratio_paired`
    evaluates its `log_ratio` for each run of equal contexts, and is differentiated forwards in
    every parameter of the context.

    Args:
        surrogate: of all components, or of one.
        x: raw observations, (n, \*event). The caller splits many pairs: for the backward pass, all
            intermediate results are kept.
        context: raw contexts, (n, d), or (members, n, d) if they differ by member; float32 or
            float64.

    Returns:
        (members, components, n), float32 or float64; (members, n) of one component's surrogate.

    Raises:
        NotApplicable: if the log-ratio is not differentiable in the context.
    """
    if isinstance(surrogate, HasPairs):
        return surrogate.log_ratio_paired(x, context)
    with torch.no_grad():
        contexts = context if context.dim() == 3 else context[None]
        rows = contexts.transpose(0, 1)  # (n, 1 or members, d)
        starts = ((rows[1:] != rows[:-1]).flatten(1).any(1).nonzero().flatten() + 1).tolist()
        runs = list(zip(x.tensor_split(starts), (rows[i] for i in (0, *starts)), strict=True))
        if not context.requires_grad or not context.shape[-1]:
            return torch.cat([_ratios(surrogate, some, own) for some, own in runs], -1)
        parts = [_with_slopes(surrogate, some, own) for some, own in runs]
        values = torch.cat([part[0] for part in parts], -1)
        slopes = torch.cat([part[1] for part in parts], -2)
    change = context - context.detach()  # zero, with the derivative of the context
    if context.dim() == 3 and values.dim() == 3:
        change = change[:, None]
    return values + (slopes * change).sum(-1).to(values.dtype)


def _ratios(surrogate: _HasRatio, x: Tensor, context: Tensor) -> Tensor:
    """Evaluate observations at a context (1, d), or at each member's own (members, d).

    Returns:
        (members, [components,] n).
    """
    out = surrogate.log_ratio(x, context)
    return out[..., 0] if len(context) == 1 else out.diagonal(dim1=0, dim2=-1).movedim(-1, 0)


def _with_slopes(surrogate: _HasRatio, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate as `_ratios`, and differentiate: (members, [components,] n) and (…, n, d)."""
    name, slopes = f"log_ratio of {type(surrogate).__name__}", []
    for direction in torch.eye(context.shape[-1], dtype=context.dtype, device=context.device):
        with forward_mode.dual_level(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own, at its first use
            moving = forward_mode.make_dual(context, direction.expand_as(context))  # type: ignore[no-untyped-call]
            try:
                values, slope = forward_mode.unpack_dual(_ratios(surrogate, x, moving))  # type: ignore[no-untyped-call]
            except NotImplementedError as error:  # of operations without a forward derivative
                raise NotApplicable(
                    f"{name} has no forward derivative, and no log_ratio_paired: "
                    + str(error).partition("\n")[0]
                ) from error
        if slope is None:
            raise NotApplicable(
                f"{name} has no gradient in the context: it has steps, detaches or leaves PyTorch"
            )
        slopes.append(torch.where(values.isfinite(), slope, 0.0))
    return values, torch.stack(slopes, -1)
