r"""Gaussian fields on a square grid with exponential covariance, by the symmetry of the square.

The covariance :math:`e^{-d/\ell}` of a q × q grid commutes with the eight symmetries of the square.
It therefore decomposes exactly into six blocks of about q²/8 to q²/4 (two of them equal), one for
each symmetry type of fields. Blocks are linear in the values at the few distinct distances. Terms
that depend on the length scale alone are computed once per length scale: a Cholesky factor if every
field has its own length scale, eigenvalues if many fields and nuggets share it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Forms:
    """Terms of densities and scores of fields x, covariances K and a = K⁻¹ x; (C, N) each.

    Args:
        log_determinant: log |K|, (C, 1).
        quadratic: xᵀ K⁻¹ x.
        norm: aᵀ a.
        trace: tr K⁻¹, (C, 1).
        slope_quadratic: aᵀ (dK/dℓ) a; zeros if not requested.
        slope_trace: tr (K⁻¹ dK/dℓ), (C, 1); zeros if not requested.
    """

    log_determinant: Tensor
    quadratic: Tensor
    norm: Tensor
    trace: Tensor
    slope_quadratic: Tensor
    slope_trace: Tensor

    def __add__(self, other: "Forms") -> "Forms":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Forms(*(a + b for a, b in pairs))


_TURNED = 3  # index of the block that is the transposed copy of the one before it


class Block:
    """Symmetry block: coordinates of fields in it, and its covariance.

    Args:
        basis: orthonormal columns, (q², m).
        table: covariance from its values at the distinct distances, (m², distances).
    """

    def __init__(self, basis: Tensor, table: Tensor) -> None:
        self.basis = basis
        self.size = basis.shape[1]
        self._table = table

    def covariance(self, at_distances: Tensor) -> Tensor:
        """Return the block (C, m, m) of a covariance given at the distinct distances, (C, D)."""
        blocks: Tensor = at_distances @ self._table.T
        return blocks.view(-1, self.size, self.size)


class Grid:
    """Square grid of q × q sites on the unit square, its corners included.

    Args:
        side: q, even, at least 4.
    """

    def __init__(self, side: int) -> None:
        if side < 4 or side % 2:
            raise ValueError(f"side = {side} is not allowed: it must be even and at least 4")
        self.side = side
        self.sites = side * side

    @cached_property
    def _squared(self) -> tuple[Tensor, Tensor]:
        """Distinct squared distances in steps, and the index of the one between each two sites."""
        place = np.stack(np.divmod(np.arange(self.sites), self.side), -1)
        between = ((place[:, None] - place[None]) ** 2).sum(-1)
        distinct, which = np.unique(between, return_inverse=True)
        return torch.from_numpy(distinct), torch.from_numpy(which.reshape(self.sites, self.sites))

    @cached_property
    def distances(self) -> Tensor:
        """Distinct distances, float64."""
        return self._squared[0].double().sqrt() / (self.side - 1)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Symmetry blocks, whose bases together span all fields."""

        def both(sign: int, turn: int) -> Tensor:
            return self._basis((("rows", sign), ("columns", sign), ("turn", turn)))

        mixed = self._basis((("rows", 1), ("columns", -1)))
        turned = mixed.view(self.side, self.side, -1).transpose(0, 1).reshape(mixed.shape)
        bases = [both(1, 1), both(1, -1), mixed, turned, both(-1, 1), both(-1, -1)]
        _, which = self._squared
        count = len(self.distances)
        blocks = []
        for basis in bases:
            # A block's entry is Σ over sites of basis × covariance × basis, gathered by distance.
            m = basis.shape[1]
            table = torch.zeros(m, m, count, dtype=torch.float64)
            rows = [basis[:, i].nonzero().squeeze(-1) for i in range(m)]
            for i in range(m):
                for j in range(m):
                    weight = basis[rows[i], i][:, None] * basis[rows[j], j][None]
                    at = which[rows[i]][:, rows[j]]
                    table[i, j].index_add_(0, at.flatten(), weight.flatten())
            blocks.append(Block(basis, table.view(m * m, count)))
        return tuple(blocks)

    def _basis(self, signs: tuple[tuple[str, int], ...]) -> Tensor:
        """Return orthonormal fields with the given signs under reflections and transposition."""
        fields = torch.eye(self.sites, dtype=torch.float64).view(-1, self.side, self.side)
        for kind, sign in signs:
            moved = {
                "rows": fields.flip(1),
                "columns": fields.flip(2),
                "turn": fields.transpose(1, 2),
            }[kind]
            fields = fields + sign * moved
        flat = fields.reshape(self.sites, self.sites)
        # Orbits of sites: each appears once, from its first site.
        first = flat.abs().gt(0).double().argmax(1)
        kept = (first == torch.arange(self.sites)) & (flat.abs().sum(1) > 0)
        basis: Tensor = flat[kept] / flat[kept].square().sum(1, keepdim=True).sqrt()
        return basis.T.contiguous()

    def project(self, fields: Tensor) -> list[Tensor]:
        """Return coordinates of fields (…, q, q) in each block, (…, m) each, float64."""
        flat = fields.double().flatten(-2)
        return [flat @ block.basis for block in self.blocks]

    def simulate(self, noise: Tensor, length: Tensor, nugget: Tensor) -> Tensor:
        """Transform standard normal fields (C, q, q) to fields with covariances K(ℓ) + τ² I."""
        out = torch.zeros(len(noise), self.sites, dtype=torch.float64)
        both = torch.stack([length, nugget])
        distinct, which = torch.unique(both, dim=1, return_inverse=True)
        for block, own, covariance in zip(
            self.blocks, self.project(noise), self.covariances(*distinct), strict=True
        ):
            factor = torch.linalg.cholesky(covariance)[which]
            out += (factor @ own[..., None]).squeeze(-1) @ block.basis.T
        return out.view(noise.shape)

    def own_forms(self, fields: Tensor, length: Tensor, nugget: Tensor) -> Forms:
        """Return forms of fields (C, 1, q, q) that each have their own length scale, (C,)."""
        parts = []
        slopes = self.covariances(length, None)
        for own, covariance, slope in zip(
            self.project(fields), self.covariances(length, nugget), slopes, strict=True
        ):
            factor = torch.linalg.cholesky(covariance)
            inverse = torch.cholesky_inverse(factor)
            a = own @ inverse  # (C, 1, m)
            parts.append(
                Forms(
                    2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True),
                    (own * a).sum(-1),
                    a.square().sum(-1),
                    inverse.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True),
                    ((a @ slope) * a).sum(-1),
                    (inverse * slope).sum((-2, -1))[:, None],
                )
            )
        return sum(parts[1:], parts[0])

    def shared_forms(self, fields: Tensor, length: Tensor, nugget: Tensor, slopes: bool) -> Forms:
        """Return forms of the same fields (1, N, q, q) at C length scales and nuggets.

        Every distinct length scale is decomposed once, for all nuggets.
        """
        distinct, which = torch.unique(length, return_inverse=True)
        plain = self.covariances(distinct, torch.zeros_like(distinct))
        derivatives = self.covariances(distinct, None) if slopes else plain
        parts = []
        decomposed: tuple[Tensor, Tensor, Tensor | None] | None = None
        for i, own in enumerate(self.project(fields)):
            if i != _TURNED or decomposed is None:
                values, vectors = torch.linalg.eigh(plain[i])
                slope = vectors.mT @ derivatives[i] @ vectors if slopes else None
                decomposed = values.clamp_min(0), vectors, slope
            values, vectors, slope = decomposed
            variance = (values[which] + nugget[:, None])[:, None]  # (C, 1, m)
            turned = (own @ vectors)[which]  # (C, N, m)
            a = turned / variance
            zero = torch.zeros(1, 1, dtype=torch.float64)
            parts.append(
                Forms(
                    variance.log().sum(-1),
                    (turned * a).sum(-1),
                    a.square().sum(-1),
                    (1 / variance).sum(-1),
                    zero if slope is None else ((a @ slope[which]) * a).sum(-1),
                    zero
                    if slope is None
                    else (slope.diagonal(dim1=-2, dim2=-1)[which] / variance[:, 0]).sum(
                        -1, keepdim=True
                    ),
                )
            )
        return sum(parts[1:], parts[0])

    def forms(self, fields: Tensor, length: Tensor, nugget: Tensor, slopes: bool) -> Forms:
        """Return forms of fields (C or 1, N, q, q) at length scales and nuggets (C,)."""
        if len(fields) == len(length) and fields.shape[1] == 1:
            return self.own_forms(fields, length, nugget)
        return self.shared_forms(fields, length, nugget, slopes)

    def covariances(self, length: Tensor, nugget: Tensor | None) -> list[Tensor]:
        """Return each block of e^(−d/ℓ) + τ² I at (C,) of both; without τ², of its ℓ-derivative."""
        value = torch.exp(-self.distances / length[:, None])
        if nugget is None:
            value = value * self.distances / length[:, None].square()
            return [block.covariance(value) for block in self.blocks]
        value = value + nugget[:, None] * (self.distances == 0)
        return [block.covariance(value) for block in self.blocks]
