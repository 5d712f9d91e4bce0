r"""Score augmentation of a loss: terms that match slopes of a surrogate to exact scores.

A loss of :math:`\log\hat r` or :math:`\log\hat p` is augmented by
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

_ENOUGH = 30  # scores needed to estimate how their standard deviation depends on η, and
_PER_TERM = 5  # scores for each of its coefficients
_REFRESH = 50  # steps between two evaluations of gradient lengths
_KEPT = 0.9  # share of the old average kept in an update


class ScoreTerms(Settings):
    """Settings of the score terms of a loss.

    Args:
        weights: fixed; or adaptive (Shen & Kuusela 2026): every term's gradient is then as long as
            that of the loss, separately for each member and parameter.
        weight: the weight itself if fixed, or the ratio of gradient lengths if adaptive.
        share: share of each batch whose slopes are matched; rows of a reference, which have no
            scores, are among them and do not count.
        noise: standard deviation of noise added to the scores, in units of theirs.
    """

    weights: Literal["fixed", "adaptive"] = "fixed"
    weight: float = Field(default=0.3, gt=0)
    share: float = Field(default=0.25, gt=0, le=1)
    noise: float = Field(default=0.0, ge=0)


LIGHT = {"weight": 0.03}
"""Weight of a tenth of the default, for methods that the default makes worse."""


def score_scale(score: Tensor, eta: Tensor, held_out: int = 0) -> Tensor:
    r"""Estimate the standard deviation of scores as a smooth function of the context.

    :math:`\log \sigma_j(\eta)` is a polynomial of second degree, without products of parameters in
    more than two dimensions. It is fitted to logarithms of squared scores and shifted so that
    standardised scores have a mean square of one. Scores vary thirty-fold over the training ranges
    of the processes: without scaling, one corner of the range would dominate the loss.

    Args:
        score: (members, n, d), finite.
        eta: scaled contexts, (members, n, d).
        held_out: number of first rows that are not used in the fit.

    Returns:
        σ at the contexts, (members, n, d) float32.
    """
    terms = monomials(eta.double())
    seen, known = terms[:, held_out:].clone(), score[:, held_out:].double()
    square = known.square().clamp_min(1e-12 * known.square().mean(1, keepdim=True) + 1e-300)
    if known.shape[1] < max(_ENOUGH, _PER_TERM * terms.shape[-1]):
        seen[..., 1:] = 0  # fit a constant
    fitted = torch.linalg.pinv(seen) @ (0.5 * square.log())
    fitted[:, 0] += (square / (2 * (seen @ fitted)).exp()).mean(1).log() / 2
    nothing = (known == 0).all(1)  # slopes are then matched to zero, with unit scale
    return (terms @ torch.where(nothing[:, None], 0.0, fitted)).exp().float()


def monomials(eta: Tensor) -> Tensor:
    """Return the monomials of the last axis: 1, each element, and products or squares of them."""
    each = eta.unbind(-1)
    pairs = combinations_with_replacement(range(len(each)), 2)
    second = [each[i] * each[j] for i, j in pairs if i == j or len(each) <= 2]
    return torch.stack([torch.ones_like(each[0]), *each, *second], -1)


def standard_scores(
    own: Simulations,
    features: Features,
    held_out: int,
    terms: ScoreTerms | None,
    generators: Sequence[torch.Generator],
) -> list[Tensor]:
    """Return targets of slopes, and factors by which slopes are multiplied before the comparison.

    Args:
        own: simulations with their scores, or without.
        features: the task's.
        held_out: number of first simulations that are not used to estimate the scale.
        terms: settings, whose noise is added to the targets.
        generators: generators of the noise, one per member.

    Returns:
        Scores in units of their standard deviation, and its inverse, (members, n, d) each; an empty
        list if there are no scores.
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
    """Return values (members, n) and their slopes (members, n, d) at contexts (members, n, d).

    If gradients are enabled, the slopes can be differentiated again.
    """
    training = torch.is_grad_enabled()
    with torch.enable_grad():
        eta = eta.detach().requires_grad_()
        values = function(eta)
        (slopes,) = torch.autograd.grad(values.sum(), eta, create_graph=training)
    return (values, slopes) if training else (values.detach(), slopes)


class Augmentation:
    """Sum of a loss and its score terms.

    In validation all terms have weight 1, because changing weights would bias the comparison of
    epochs.

    Args:
        terms: settings of the terms.
        parameters: function that returns the trained tensors, members leading.
    """

    def __init__(self, terms: ScoreTerms, parameters: Callable[[], Sequence[Tensor]]) -> None:
        self.terms = terms
        self._balance = Balance(parameters, terms.weight)

    def matched(self, rows: int) -> int:
        """Return the number of rows of a batch whose slopes are matched; these come first."""
        return math.ceil(self.terms.share * rows)

    def __call__(
        self,
        loss: Tensor,
        slopes: Tensor,
        standard: Tensor,
        per_unit: Tensor,
        counted: Tensor | None = None,
    ) -> Tensor:
        """Return the augmented loss of each member, (members,).

        Args:
            loss: the loss to augment, (members,).
            slopes: (members, n, d).
            standard: first result of `standard_scores`, of the same rows.
            per_unit: its second result.
            counted: 1 for rows that have a score, 0 for others, (members, n); None if all have one.
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
    """Weights of further terms of a loss that give their gradients the length of the first term's.

    Each weight, one per member and term, is a moving average of the ratio of gradient norms. It is
    updated in the first step and every fifty steps.

    Args:
        parameters: function that returns the trained tensors, members leading; called when needed.
        relative: length of a term's weighted gradient divided by the first's.
    """

    def __init__(self, parameters: Callable[[], Sequence[Tensor]], relative: float = 1.0) -> None:
        self._parameters = parameters
        self._relative = relative
        self._weights: Tensor | None = None
        self._steps = 0

    def __call__(self, first: Tensor, terms: Tensor) -> Tensor:
        """Return the weights (members, T) of terms (members, T), given the first term (members,).

        It must be called once per step, before the step's own backward pass.
        """
        if self._steps % _REFRESH == 0:
            lengths = torch.stack([self._length(t) for t in (first, *terms.unbind(-1))], -1)
            ratio = self._relative * lengths[:, :1] / lengths[:, 1:]
            before = torch.zeros_like(ratio) if self._weights is None else self._weights
            moved = torch.where(before > 0, _KEPT * before + (1 - _KEPT) * ratio, ratio)
            # A batch without any score has no gradient of the term.
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
