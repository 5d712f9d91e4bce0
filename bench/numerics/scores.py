"""Score terms of a loss: targets in standard units, weights that keep terms in balance."""

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor

_REFRESH = 50  # steps between two looks at the gradients
_KEPT = 0.9  # share of the average that stays when a new look is taken


class ScoreScale:
    r"""The standard deviation of scores as a smooth function of the context.

    :math:`\log \sigma_j(\eta)` is a polynomial of second degree. Scores vary thirty-fold over the
    training ranges of the processes; their raw squared error would train one corner.

    Args:
        coefficients: (members, terms, d) of log σ.
    """

    def __init__(self, coefficients: Tensor) -> None:
        self.coefficients = coefficients

    @classmethod
    def estimate(cls, score: Tensor, eta: Tensor) -> "ScoreScale":
        """Fits logarithms of squared scores, then levels them to a mean square of one.

        Args:
            score: (members, n, d), finite.
            eta: scaled contexts, (members, n, d).
        """
        score = score.double()
        terms = _monomials(eta.double())
        square = score.square().clamp_min(1e-12 * score.square().mean(1, keepdim=True) + 1e-300)
        fitted = torch.linalg.lstsq(terms, 0.5 * square.log()).solution
        level = (square / (2 * (terms @ fitted)).exp()).mean(1).log() / 2
        fitted[:, 0] += level
        return cls(fitted)

    def __call__(self, eta: Tensor) -> Tensor:
        """σ at scaled contexts (members, n, d), of the same shape, float32."""
        return (_monomials(eta.double()) @ self.coefficients.to(eta.device)).exp().float()


def _monomials(eta: Tensor) -> Tensor:
    """1, and all products of one and two of the last axis."""
    parts = [torch.ones_like(eta[..., 0]), *eta.unbind(-1)]
    parts += [a * b for a, b in combinations_with_replacement(eta.unbind(-1), 2)]
    return torch.stack(parts, -1)


class Balance:
    """Weights of further terms of a loss, such that their gradients are as long as the first's.

    Each member and term has its own, a moving average of the ratio of gradient norms, which is
    looked at in the first step and every fifty steps.

    Args:
        parameters: what is trained; called for when it is needed, members leading.
        relative: length of a term's weighted gradient over the first's.
    """

    def __init__(self, parameters: Callable[[], Sequence[Tensor]], relative: float = 1.0) -> None:
        self._parameters = parameters
        self._relative = relative
        self._weights: Tensor | None = None
        self._steps = 0

    def __call__(self, first: Tensor, terms: Tensor) -> Tensor:
        """The weights (members, T) of terms (members, T), given the first one (members,).

        Called once per step, before the step's own backward pass.
        """
        if self._steps % _REFRESH == 0:
            lengths = torch.stack([self._length(t) for t in (first, *terms.unbind(-1))], -1)
            ratio = self._relative * lengths[:, :1] / lengths[:, 1:].clamp_min(1e-12)
            before = self._weights
            self._weights = (
                ratio if before is None else _KEPT * before + (1 - _KEPT) * ratio
            ).detach()
        self._steps += 1
        assert self._weights is not None
        return self._weights

    def _length(self, loss: Tensor) -> Tensor:
        gradients = torch.autograd.grad(
            loss.sum(), list(self._parameters()), retain_graph=True, allow_unused=True
        )
        parts = [g.flatten(1).square().sum(1) for g in gradients if g is not None]
        return torch.stack(parts).sum(0).sqrt()
