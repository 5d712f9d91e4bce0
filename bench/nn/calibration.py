r"""Calibration of log-ratios by a monotone map.

Take equally many pairs (x, η) that were simulated together and pairs of the reference. Among pairs
with the same log r̂, the odds of being simulated together should be r̂. The map is fitted to held-out
pairs,

.. math:: g(s) = \log p(s\,|\,\text{together}) - \log p(s\,|\,\text{reference}), \; s = \log\hat r,

either as a straight line (Platt 1999) or as an isotonic function (Zadrozny & Elkan 2002). It
corrects any monotone distortion of the exact ratio (Cranmer, Pavez & Louppe 2015,
arXiv:1506.02169). It cannot correct errors that depend on the context at equal log r̂.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit
from torch import Tensor

CalibrationKind = Literal["platt", "isotonic"]
ROWS = 16
"""Rows of a block of `pairwise`."""
Array = NDArray[np.float64]


class Calibration:
    r"""Monotone piecewise linear maps of log-ratios, extrapolated linearly beyond the outer nodes.

    Args:
        nodes: where pieces meet, rising, (\\*L, n) float64, n at least 2.
        values: of the maps there, (\\*L, n) float64.

    Example:
        >>> double = Calibration(torch.tensor([[-1.0, 1.0]]), torch.tensor([[-2.0, 2.0]]))
        >>> double(torch.tensor([[0.5, 3.0]]))
        tensor([[1., 6.]])
    """

    def __init__(self, nodes: Tensor, values: Tensor) -> None:
        self.nodes = nodes
        self.values = values

    @classmethod
    def fit(cls, kind: CalibrationKind, joint: Tensor, reference: Tensor, n: int) -> "Calibration":
        """Fit one map.

        Args:
            kind: "platt" for a straight line, "isotonic" for any increasing function.
            joint: log-ratios of pairs that were simulated together, (n_joint,).
            reference: log-ratios of pairs of the reference, (n_reference,).
            n: number of simulations they come from. A line is regularised towards the identity with
                the weight of a thousandth of one simulation, so that it is finite for separable
                classes.
        """
        together, apart = (t.detach().cpu().double().numpy() for t in (joint, reference))
        fitted = _line(together, apart, n) if kind == "platt" else _rising(together, apart)
        return cls(*(torch.from_numpy(a) for a in fitted))

    @classmethod
    def stack(cls, parts: Sequence["Calibration"]) -> "Calibration":
        """Join maps along a new leading axis; shorter ones get more nodes on their last piece."""
        longest = max(part.nodes.shape[-1] for part in parts)
        longer = [part._extended(longest) for part in parts]
        return cls(torch.stack([p.nodes for p in longer]), torch.stack([p.values for p in longer]))

    def _extended(self, nodes: int) -> "Calibration":
        steps = torch.arange(1, nodes - self.nodes.shape[-1] + 1, dtype=torch.float64)
        ends = [
            t[..., -1:] + steps * (t[..., -1:] - t[..., -2:-1]) for t in (self.nodes, self.values)
        ]
        return Calibration(
            torch.cat([self.nodes, ends[0]], -1), torch.cat([self.values, ends[1]], -1)
        )

    def __call__(self, log_ratio: Tensor) -> Tensor:
        r"""Map log-ratios (\\*L, …) elementwise; their leading axes are those of the maps."""
        maps = (t.to(log_ratio.device) for t in (self.nodes, self.values))
        nodes, values = (t.reshape(-1, t.shape[-1]) for t in maps)
        flat = log_ratio.reshape(len(nodes), -1).double()
        piece = torch.searchsorted(nodes, flat).sub_(1).clamp_(0, nodes.shape[1] - 2)
        slopes = values.diff(dim=1) / nodes.diff(dim=1)
        mapped = values.gather(1, piece) + slopes.gather(1, piece) * (flat - nodes.gather(1, piece))
        return mapped.to(log_ratio.dtype).view(log_ratio.shape)

    def state(self) -> dict[str, Tensor]:
        """Return the maps, as `Calibration` takes them."""
        return {"nodes": self.nodes, "values": self.values}


def pairwise(
    log_ratio: Callable[[Tensor, Tensor], Tensor], x: Tensor, context: Tensor, rows: int = ROWS
) -> tuple[Tensor, Tensor]:
    r"""Evaluate observations at their own contexts and, in small blocks, at each other's.

    Args:
        log_ratio: maps x (n, \\*event) and contexts (J, d) to (components, n, J).
        x: observations, (n, \\*event).
        context: their contexts, (n, d), drawn independently of each other.
        rows: rows of a block.

    Returns:
        Log-ratios of pairs that were simulated together, (components, n), and of independent
        pairs, (components, n (rows − 1)) if n is a multiple of rows.
    """
    own, others = [], []
    parts = (torch.split(t, rows) for t in (x, context))
    for events, contexts in zip(*parts, strict=True):
        table = log_ratio(events, contexts)
        apart = ~torch.eye(len(events), dtype=torch.bool, device=table.device)
        own.append(table.diagonal(dim1=1, dim2=2))
        others.append(table[:, apart])
    return torch.cat(own, 1), torch.cat(others, 1)


def _line(together: Array, apart: Array, n: int) -> tuple[Array, Array]:
    """Return two points of Platt's line."""
    both = (np.stack([s, np.ones_like(s)], 1) for s in (together, apart))
    slope, offset = logistic_regression(*both, start=np.array([1.0, 0.0]), n=n)
    return np.array([-1.0, 1.0]), np.array([offset - slope, offset + slope])


def logistic_regression(together: Array, apart: Array, *, start: Array, n: int) -> Array:
    """Fit log-odds that are linear in features by logistic regression of balanced classes.

    Args:
        together: features of pairs that were simulated together, (n_joint, F).
        apart: features of pairs of the reference, (n_reference, F).
        start: coefficients towards which it is regularised, with the weight of a thousandth of one
            simulation, (F,).
        n: number of simulations.

    Returns:
        Coefficients, (F,).
    """
    design = np.concatenate([together, apart])
    sign = np.concatenate([np.ones(len(together)), -np.ones(len(apart))])
    weight = np.concatenate([np.full(len(p), 0.5 / len(p)) for p in (together, apart)])
    pull = 1e-3 / n

    def loss(coefficients: Array) -> tuple[float, Array]:
        odds = sign * (design @ coefficients)
        off = coefficients - start
        value = weight @ np.logaddexp(0.0, -odds) + 0.5 * pull * off @ off
        return float(value), -(weight * sign * expit(-odds)) @ design + pull * off

    def curvature(coefficients: Array) -> Array:
        p = expit(design @ coefficients)
        hessian: Array = (design * (weight * p * (1 - p))[:, None]).T @ design
        return hessian + pull * np.eye(len(start))

    found = minimize(loss, start, jac=True, hess=curvature, method="trust-exact", tol=1e-10)
    coefficients: Array = found.x
    return coefficients


def _rising(together: Array, apart: Array) -> tuple[Array, Array]:
    """Fit an isotonic regression: nodes and values of lines through the centres of its steps.

    Lines replace the steps, which would make likelihoods flat (centred isotonic regression, Oron &
    Flournoy 2017, arXiv:1701.05964). Beyond the outer centres the slope is 1. Steps at the ends
    that lack a class are merged with their neighbours, so that odds are finite.
    """
    s, where = np.unique(np.concatenate([together, apart]), return_inverse=True)
    shares = np.zeros((2, len(s)))
    np.add.at(shares[0], where[: len(together)], 1 / len(together))
    np.add.at(shares[1], where[len(together) :], 1 / len(apart))
    total = shares.sum(0)
    first = isotonic_regression(shares[0] / total, weights=total).blocks[:-1]
    own, reference = (np.add.reduceat(share, first) for share in shares)
    # Shares increase from step to step, so only the first can lack pairs simulated together.
    begin, end = int(own[0] == 0), len(own) - int(reference[-1] == 0)
    if end <= begin:  # at most one step holds both classes: merge all steps into one
        keep = np.array([0])
    else:
        keep = first[begin:end].copy()
        keep[0] = 0
    own, reference, weight, centre = (np.add.reduceat(a, keep) for a in (*shares, total, total * s))
    centre, value = centre / weight, np.log(own) - np.log(reference)
    return (
        np.concatenate([[centre[0] - 1], centre, [centre[-1] + 1]]),
        np.concatenate([[value[0] - 1], value, [value[-1] + 1]]),
    )
