r"""Higgs: H→ττ over Z→ττ in two features with known densities, at an uncertain tau energy scale.

Features are the visible mass m_vis in GeV and the ratio of transverse momenta pT_lep/pT_had, as in
Sluijter, Diefenbacher, Bhimji & Nachman (2025). Both densities are Gaussian mixtures in their
logarithms, fitted by maximum likelihood to H→ττ and Z→ττ events of the FAIR Universe challenge
(Bhimji et al. 2024, arXiv:2410.02867). A tau energy scale z multiplies the hadronic tau's momentum,
hence a massless m_vis by :math:`\sqrt z` and the ratio by :math:`1/z`, exactly: every mean moves by
:math:`(\tfrac12, -1) \log z`.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bench.contracts import Log, Parameter, Split

from .signal import SignalAndBackground

ENERGY_SCALE = Parameter("z", 0.9, 1.1, "nuisance", (0.93, 1.07), symbol="z")
"""Tau energy scale."""
ENERGY_SCALES = (0.93, 1.0, 1.07)
"""Tau energy scales at the evaluation points."""
FEATURES = ("m_vis [GeV]", "pT_lep / pT_had")
SHIFT = (0.5, -1.0)
"""Slopes of the logarithms of the features in log z."""

# For each Gaussian: weight; means; variances of log m_vis and log ratio, and their covariance.
SIGNAL = (
    (0.097292, (4.332173, 0.541389), (0.07028736, 0.25059494, 0.00879453)),
    (0.290154, (4.312031, -0.745134), (0.01966747, 0.07884074, -0.00597886)),
    (0.238588, (4.324869, 0.151084), (0.03086481, 0.07940358, 0.0007453)),
    (0.294972, (4.247344, -0.294069), (0.05827986, 0.05299786, -0.00709155)),
    (0.078994, (4.093751, -0.952646), (0.11621808, 0.39950737, -0.09097205)),
)
BACKGROUND = (
    (0.301692, (4.099036, 0.014494), (0.01992361, 0.07153653, 0.01928432)),
    (0.101671, (4.157393, -0.153959), (0.08753927, 0.35748046, 0.0199698)),
    (0.30844, (4.30073, -0.254743), (0.00935195, 0.05955278, 0.00248418)),
    (0.288197, (4.160116, -0.529248), (0.01278062, 0.05844477, -0.01081132)),
)

_Gaussians = Sequence[tuple[float, tuple[float, float], tuple[float, float, float]]]


class LogGaussianMixture:
    """Mixture of Gaussians in (log m_vis, log ratio), moved by log z; d = 1, event shape (2,)."""

    size = None

    def __init__(self, gaussians: _Gaussians) -> None:
        weights, means, spreads = zip(*gaussians, strict=True)
        covariance = torch.tensor([[[a, c], [c, b]] for a, b, c in spreads], dtype=torch.float64)
        self._log_weight = torch.tensor(weights, dtype=torch.float64).log().log_softmax(0)
        self._mean = torch.tensor(means, dtype=torch.float64)
        self._factor = torch.linalg.cholesky(covariance)
        self._inverse = torch.linalg.inv(self._factor)
        # For each Gaussian's whitened coordinates: slope in log z, and log-Jacobian.
        self._slope = self._inverse @ torch.tensor(SHIFT, dtype=torch.float64)
        self._log_scale = self._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        shape = context.shape[:-1]
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
        bounds = self._log_weight.exp().cumsum(0)[:-1]
        which = torch.bucketize(drawn, bounds, right=True)
        noise = torch.randn(*shape, 2, 1, generator=generator, dtype=torch.float64)
        shift = context.double().log() * torch.tensor(SHIFT, dtype=torch.float64)
        y = self._mean[which] + (self._factor[which] @ noise).squeeze(-1) + shift
        x: Tensor = y.exp().float()
        return x

    def _whitened(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return whitened residuals (*B, C, 2) and log-densities (*B, C) of weighted Gaussians."""
        y = x.double().log()
        u = torch.einsum(
            "cij,...cj->...ci", self._inverse.to(y), y[..., None, :] - self._mean.to(y)
        )
        u = u - context.double().log()[..., None] * self._slope.to(y)
        constant = self._log_weight - self._log_scale - math.log(2 * math.pi)
        return u, constant.to(y) - 0.5 * u.square().sum(-1)

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        possible = (x > 0).all(-1)
        safe = torch.where(possible[..., None], x, 1.0)
        log_density = self._whitened(safe, context)[1].logsumexp(-1) - safe.double().log().sum(-1)
        return torch.where(possible, log_density, -math.inf)

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        u, log_density = self._whitened(x, context)
        each = (u * self._slope.to(u)).sum(-1) / context.double()
        score: Tensor = (log_density.softmax(-1) * each).sum(-1, keepdim=True)
        return score


class Higgs(SignalAndBackground):
    """H→ττ over Z→ττ with a known density; needs no download."""

    name = "higgs"
    title = "Higgs to tau leptons, tractable"
    version = 1
    citation = (
        "Sluijter, Diefenbacher, Bhimji & Nachman (2025); Bhimji et al. (2024), arXiv:2410.02867"
    )
    feature_names = FEATURES
    transform = Log()
    nominal = torch.tensor([1.0])

    def __init__(self) -> None:
        super().__init__(ENERGY_SCALE, ENERGY_SCALES)
        self._components = {
            "signal": LogGaussianMixture(SIGNAL),
            "background": LogGaussianMixture(BACKGROUND),
        }

    def components(self, split: Split) -> Mapping[str, LogGaussianMixture]:
        return self._components
