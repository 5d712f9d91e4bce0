r"""Higgs with systematic uncertainties: four processes, six nuisance parameters, one of interest.

The model follows the FAIR Universe challenge (Bhimji et al. 2024, arXiv:2410.02867), with a density
that is known. Events are H→ττ, Z→ττ, ttbar and dibosons in the logarithms of four features: visible
mass, ratio of the transverse momenta of lepton and hadronic tau, missing transverse momentum (MET),
and the sum of the three momenta. Each process is a mixture of Gaussians,

.. math:: \log x \sim \sum_c w_c\, N(m_c + a \log z_\tau + b \log z_\text{jet},\;
   \Sigma_c + s^2 V),

at energy scales :math:`z` of hadronic taus and jets, and soft MET :math:`s` in units of 3 GeV. H
and Z are fitted to events in which lepton, hadronic tau and MET together have a transverse momentum
above 50 GeV. The slopes a, b and the covariance V are fitted to the same events, recomputed
(results/higgs_systematics.py). ttbar and dibosons are stylised, because the sample holds 26 and 4
of them. So are the yields: 6.5 % of 2000 events are signal, as after a tighter selection, and no
yield depends on an energy scale.

The total number of events is Poisson distributed. Constraints are those of the challenge, except
where they would not matter in 2000 events: the ttbar scale has a width of 0.1 instead of 0.02, and
the background scale of 0.02 instead of 0.001.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bench.contracts import (
    Component,
    Constraint,
    Log,
    Parameter,
    ParameterSpace,
    ReferenceKind,
    Split,
    Task,
)

from . import higgs_processes as fitted

SCALES = ("tau_scale", "jet_scale", "soft_met")
"""Parameters of the context: energy scales of hadronic taus and jets, and soft MET."""
YIELDS = (130.0, 1540.0, 270.0, 60.0)
"""Expected events of H, Z, ttbar and dibosons at nominal parameters."""

_Gaussians = Sequence[tuple[float, Sequence[float], Sequence[float]]]


def _stylised(
    mean: Sequence[float], deviation: Sequence[float], correlation: float
) -> tuple[float, Sequence[float], Sequence[float]]:
    """Return one Gaussian; the correlation is that of MET and the sum of momenta."""
    rows, columns = torch.tril_indices(4, 4).tolist()
    unit = {(i, j): float(i == j) for i, j in zip(rows, columns, strict=True)}
    unit[3, 2] = correlation
    return 1.0, mean, [deviation[i] * deviation[j] * each for (i, j), each in unit.items()]


TTBAR = (_stylised((4.7, 0.1, 4.2, 5.25), (0.45, 0.65, 0.6, 0.3), 0.6),)
DIBOSON = (_stylised((4.3, 0.15, 3.8, 4.95), (0.4, 0.6, 0.7, 0.3), 0.6),)


class Process:
    r"""Mixture of Gaussians in the logarithms of four features; d = 3, event shape (4,).

    Args:
        gaussians: weight, means and lower triangle of the covariance of each.
        tau: slopes of the means in the logarithm of the tau energy scale.
        jet: slopes in the logarithm of the jet energy scale.
        soft: variances and covariance of MET and the sum of momenta that soft MET of 1 adds.
    """

    size = None

    def __init__(
        self,
        gaussians: _Gaussians,
        tau: Sequence[float],
        jet: Sequence[float],
        soft: tuple[float, float, float],
    ) -> None:
        weights, means, triangles = zip(*gaussians, strict=True)
        self._log_weight = torch.tensor(weights, dtype=torch.float64).log().log_softmax(0)
        self._mean = torch.tensor(means, dtype=torch.float64)
        self._slopes = torch.tensor([tau, jet], dtype=torch.float64)
        rows, columns = torch.tril_indices(4, 4)
        covariance = torch.zeros(len(gaussians), 4, 4, dtype=torch.float64)
        covariance[:, rows, columns] = torch.tensor(triangles, dtype=torch.float64)
        covariance[:, columns, rows] = covariance[:, rows, columns]
        met, total, both = soft
        added = torch.zeros(4, 4, dtype=torch.float64)
        added[2:, 2:] = torch.tensor([[met, both], [both, total]], dtype=torch.float64)
        root = torch.linalg.cholesky(covariance)
        inverse = torch.linalg.inv(root)
        # Coordinates in which a Gaussian is a unit one, and soft MET adds s² times `growth`.
        growth, rotation = torch.linalg.eigh(inverse @ added @ inverse.mT)
        self._growth = growth.clamp_min(0)  # the rank of `added` is 2
        self._to_unit = rotation.mT @ inverse
        self._from_unit = root @ rotation
        self._log_scale = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        self._pull = self._slopes @ self._to_unit.mT  # (C, 2, 4)

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        shape, context = context.shape[:-1], context.double()
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
        which = torch.bucketize(drawn, self._log_weight.exp().cumsum(0)[:-1], right=True)
        noise = torch.randn(*shape, 4, generator=generator, dtype=torch.float64)
        unit = noise * (1 + context[..., 2:].square() * self._growth[which]).sqrt()
        centre = self._mean[which] + context[..., :2].log() @ self._slopes
        y = centre + (self._from_unit[which] @ unit.unsqueeze(-1)).squeeze(-1)
        x: Tensor = y.exp().float()
        return x

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        possible = (x > 0).all(-1)
        logs = torch.where(possible[..., None], x, 1.0).double().log()
        log_density = self._gaussians(logs, context)[0].logsumexp(-1) - logs.sum(-1)
        return torch.where(possible, log_density, -math.inf)

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        log_density, unit, variance = self._gaussians(x.double().log(), context)
        tau, jet, soft = context.double().unbind(-1)
        weighted = unit / variance
        by_scale = torch.einsum("...cj,cij->...ci", weighted, self._pull.to(unit))
        by_scale = by_scale / torch.stack([tau, jet], -1)[..., None, :]
        excess = (weighted * unit - 1) / variance * self._growth.to(unit)
        by_soft = soft[..., None, None] * excess.sum(-1, keepdim=True)
        each = torch.cat([by_scale, by_soft], -1)
        return (log_density.softmax(-1)[..., None] * each).sum(-2)

    def _gaussians(self, y: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-densities (*B, C) of Gaussians, residuals and variances (*B, C, 4)."""
        context = context.double()
        residual = y[..., None, :] - self._mean.to(y)
        unit = torch.einsum("cij,...cj->...ci", self._to_unit.to(y), residual)
        shift = torch.einsum("...i,cij->...cj", context[..., :2].log(), self._pull.to(y))
        unit = unit - shift
        variance = 1 + context[..., 2:, None].square() * self._growth.to(y)
        constant = self._log_weight - self._log_scale - 2 * math.log(2 * math.pi)
        spread = (unit.square() / variance + variance.log()).sum(-1)
        return constant.to(y) - 0.5 * spread, unit, variance


class HiggsSystematics(Task):
    """H→ττ over Z→ττ, ttbar and dibosons with six constrained nuisance parameters."""

    name = "higgs-systematics"
    title = "Higgs to tau leptons, six systematic uncertainties"
    version = 1
    citation = "Bhimji et al. (2024), arXiv:2410.02867"
    observations = 2000
    event_shape = (4,)
    feature_names: tuple[str, ...] = (
        "m_vis [GeV]",
        "pT_lep / pT_had",
        "MET [GeV]",
        "sum of pT [GeV]",
    )
    transform = Log()
    reference: ReferenceKind = "evidence"
    space = ParameterSpace(
        [
            Parameter("mu", 0.0, 3.0, "interest", (0.7, 1.5), symbol="μ"),
            Parameter("tau_scale", 0.93, 1.07, "nuisance", (0.98, 1.02), symbol="z_τ"),
            Parameter("jet_scale", 0.93, 1.07, "nuisance", (0.98, 1.02), symbol="z_jet"),
            Parameter("soft_met", 0.05, 20.0, "nuisance", (0.2, 5.0), "log", symbol="s"),
            Parameter("ttbar_scale", 0.4, 1.6, "nuisance", (0.8, 1.2), symbol="t"),
            Parameter("diboson_scale", 0.0, 2.5, "nuisance", (0.5, 1.5), symbol="d"),
            Parameter("background_scale", 0.88, 1.12, "nuisance", (0.96, 1.04), symbol="b"),
        ],
        context=SCALES,
    )
    constraints: tuple[Constraint, ...] = (
        Constraint("tau_scale", 1.0, 0.01),
        Constraint("jet_scale", 1.0, 0.01),
        Constraint("soft_met", 1.0, 1.0, "log-normal"),
        Constraint("ttbar_scale", 1.0, 0.1),
        Constraint("diboson_scale", 1.0, 0.25),
        Constraint("background_scale", 1.0, 0.02),
    )
    nominal = torch.ones(3)
    points = torch.tensor([[mu, 1, 1, 1, 1, 1, 1] for mu in (0.8, 1.1, 1.4)], dtype=torch.float64)

    def __init__(self) -> None:
        stylised = ((-0.3, 0.2), (1.28, 0.34))  # slopes of MET and of the sum of momenta
        tau, jet = (0.5, -1.0, *stylised[0]), (0.0, 0.0, *stylised[1])
        self._components = {
            "signal": Process(
                fitted.SIGNAL, fitted.SIGNAL_TAU, fitted.SIGNAL_JET, fitted.SIGNAL_SOFT
            ),
            "Z": Process(fitted.Z, fitted.Z_TAU, fitted.Z_JET, fitted.Z_SOFT),
            "ttbar": Process(TTBAR, tau, jet, fitted.SIGNAL_SOFT),
            "diboson": Process(DIBOSON, tau, fitted.Z_JET, fitted.Z_SOFT),
        }

    def components(self, split: Split) -> Mapping[str, Component]:
        return self._components

    def yields(self, theta: Tensor) -> Tensor:
        r"""Return the expected numbers of events of each process, (\*B, P) to (\*B, 4)."""
        value = dict(zip(self.space.names, theta.unbind(-1), strict=True))
        background = value["background_scale"]
        ttbar, diboson = background * value["ttbar_scale"], background * value["diboson_scale"]
        scales = torch.stack([value["mu"], background, ttbar, diboson], -1)
        return scales * torch.tensor(YIELDS).to(theta)

    def rate(self, theta: Tensor) -> Tensor:
        return self.yields(theta).sum(-1)

    def weights(self, theta: Tensor) -> Tensor:
        yields = self.yields(theta)
        return yields / yields.sum(-1, keepdim=True)
