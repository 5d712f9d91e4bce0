r"""Score augmentation of a loss: slopes of a surrogate against exact scores.

To a loss of :math:`\log\hat r` or :math:`\log\hat p` comes
:math:`\sum_j w_j E(\partial_{\eta_j} \log\hat p(x|\eta) - \partial_{\eta_j} \log p(x|\eta))^2`
over simulations (x, η) with their scores (Brehmer et al. 2018, arXiv:1805.00020; Shen & Kuusela
2026), in units of the scores' standard deviation at η.
"""

import math
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from bench.contracts import Features, Settings, Simulations

_ENOUGH = 30  # scores that tell how their standard deviation moves
_REFRESH = 50  # steps between two looks at the gradients
_KEPT = 0.9  # share of the average that stays when a new look is taken


class ScoreTerms(Settings):
    """How a loss is augmented by scores.

    Args:
        weights: fixed; or adaptive (Shen & Kuusela 2026), so that every term's gradient is as long
            as the loss's own, a member and parameter at a time.
        weight: their size: the weight itself where fixed, and else the ratio of lengths.
        share: share of each batch whose slopes are matched; rows of a reference, which have no
            scores, are among them and do not count.
        noise: relative error put on the scores: its standard deviation in units of theirs.
    """

    weights: Literal["fixed", "adaptive"] = "fixed"
    weight: float = Field(default=0.3, gt=0)
    share: float = Field(default=0.25, gt=0, le=1)
    noise: float = Field(default=0.0, ge=0)


LIGHT = {"weight": 0.03}
"""A tenth of the weight that is the default, for where that one spoils what it augments."""


def score_scale(score: Tensor, eta: Tensor, held_out: int = 0) -> Tensor:
    r"""The standard deviation of scores as a smooth function of the context.

    :math:`\log \sigma_j(\eta)` is a polynomial of second degree, fitted to logarithms of squared
    scores and levelled to a mean square of one. Scores vary thirty-fold over the training ranges
    of the processes; their raw squared error would train one corner.

    Args:
        score: (members, n, d), finite.
        eta: scaled contexts, (members, n, d).
        held_out: how many of the first do not tell the scale.

    Returns:
        σ at the contexts, (members, n, d) float32.
    """
    terms = _monomials(eta.double())
    seen, known = terms[:, held_out:].clone(), score[:, held_out:].double()
    square = known.square().clamp_min(1e-12 * known.square().mean(1, keepdim=True) + 1e-300)
    if known.shape[1] < _ENOUGH:
        seen[..., 1:] = 0  # a constant
    fitted = torch.linalg.pinv(seen) @ (0.5 * square.log())
    fitted[:, 0] += (square / (2 * (seen @ fitted)).exp()).mean(1).log() / 2
    nothing = (known == 0).all(1)  # then slopes are matched to zero, in units of one
    return (terms @ torch.where(nothing[:, None], 0.0, fitted)).exp().float()


def _monomials(eta: Tensor) -> Tensor:
    """1, and all products of one and two of the last axis."""
    parts = [torch.ones_like(eta[..., 0]), *eta.unbind(-1)]
    parts += [a * b for a, b in combinations_with_replacement(eta.unbind(-1), 2)]
    return torch.stack(parts, -1)


def standard_scores(
    own: Simulations,
    features: Features,
    held_out: int,
    terms: ScoreTerms | None,
    generators: Sequence[torch.Generator],
) -> list[Tensor]:
    """Targets of slopes, and what slopes are multiplied with before they are compared.

    Args:
        own: simulations with their scores, or without.
        features: the task's.
        held_out: how many of the first simulations do not tell the scale.
        terms: whose noise is put on the targets.
        generators: of the noise, one per member.

    Returns:
        Scores in units of their standard deviation, and one over it, (members, n, d) each;
        nothing where there are no scores.
    """
    if terms is None or own.score is None:
        return []
    eta, score = features.context(own.context), features.score(own.score, own.context)
    scale = score_scale(score, eta, held_out)
    standard = score / scale
    if terms.noise:
        noise = torch.stack([torch.randn(standard.shape[1:], generator=g) for g in generators])
        standard = standard + terms.noise * noise
    return [standard, 1 / scale]


def slopes_of(function: Callable[[Tensor], Tensor], eta: Tensor) -> tuple[Tensor, Tensor]:
    """Values (members, n) and their slopes (members, n, d), at contexts (members, n, d).

    In training the slopes can be differentiated once more.
    """
    training = torch.is_grad_enabled()
    with torch.enable_grad():
        eta = eta.detach().requires_grad_()
        values = function(eta)
        (slopes,) = torch.autograd.grad(values.sum(), eta, create_graph=training)
    return (values, slopes) if training else (values.detach(), slopes)


class Augmentation:
    """Adds score terms to a loss.

    In validation all terms have the weight 1: weights that move would compare epochs unfairly.

    Args:
        terms: how.
        parameters: gives what is trained, members leading.
    """

    def __init__(self, terms: ScoreTerms, parameters: Callable[[], Sequence[Tensor]]) -> None:
        self.terms = terms
        self._balance = Balance(parameters, terms.weight)

    def matched(self, rows: int) -> int:
        """How many rows of a batch have their slopes matched: the first ones."""
        return math.ceil(self.terms.share * rows)

    def __call__(
        self,
        loss: Tensor,
        slopes: Tensor,
        standard: Tensor,
        per_unit: Tensor,
        counted: Tensor | None = None,
    ) -> Tensor:
        """The augmented loss of each member, (members,).

        Args:
            loss: to augment, (members,).
            slopes: (members, n, d).
            standard: the first of what `standard_scores` returns, of the same rows.
            per_unit: the second.
            counted: 1 for rows that have a score, 0 for others, (members, n); all where None.
        """
        squares = (slopes * per_unit - standard).square()
        if counted is None:
            errors = squares.mean(1)
        else:
            rows = counted.sum(1, keepdim=True).clamp_min(1)
            errors = (squares * counted[..., None]).sum(1) / rows
        if not torch.is_grad_enabled():
            return loss + errors.sum(-1)
        if self.terms.weights == "fixed":
            return loss + self.terms.weight * errors.sum(-1)
        return loss + (self._balance(loss, errors) * errors).sum(-1)


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
            ratio = self._relative * lengths[:, :1] / lengths[:, 1:]
            before = torch.zeros_like(ratio) if self._weights is None else self._weights
            moved = torch.where(before > 0, _KEPT * before + (1 - _KEPT) * ratio, ratio)
            # A batch may have no row with a score, and so no gradient of the term.
            self._weights = torch.where(ratio.isfinite(), moved, before).detach()
        self._steps += 1
        assert self._weights is not None
        return self._weights

    def _length(self, loss: Tensor) -> Tensor:
        gradients = torch.autograd.grad(
            loss.sum(), list(self._parameters()), retain_graph=True, allow_unused=True
        )
        parts = [g.flatten(1).square().sum(1) for g in gradients if g is not None]
        return torch.stack(parts).sum(0).sqrt()
