r"""Spatial processes on a square grid: a Gaussian process with a nugget, and a Student-t process.

Fields have mean zero, unit variance and covariance :math:`e^{-d/\ell}`. The Gaussian process adds
independent noise of variance τ² at every site. The Student-t process has ν degrees of freedom. Its
covariance does not depend on ν, because its scale matrix is :math:`\frac{\nu - 2}{\nu} K`, with a
fixed small nugget in K. Densities and scores are exact (Shen & Kuusela 2026 train on such scores).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import product

import torch
from torch import Tensor

from bench.contracts import Observation, Parameter, ParameterSpace, ReferenceKind, Split, Task

from .grid import Forms, Grid
from .pairs import over_pairs

OfForms = Callable[[Forms, Tensor], Tensor]

_CHUNK = 256  # length scales at a time


class _Field(ABC):
    """Random field on a grid; context (ℓ, a second parameter), event shape (q, q)."""

    size = None

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    @abstractmethod
    def nugget(self, context: Tensor) -> Tensor:
        """Return the nugget's variance at contexts (C, 2), (C,)."""

    @abstractmethod
    def density(self, forms: Forms, context: Tensor) -> Tensor:
        """Return log-densities (C, N) at contexts (C, 2)."""

    @abstractmethod
    def slope(self, forms: Forms, context: Tensor) -> Tensor:
        """Return scores (C, N, 2) at contexts (C, 2)."""

    def gaussian(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Simulate Gaussian fields of this covariance, (C, 2) to (C, q, q), float64."""
        side = self.grid.side
        noise = torch.randn(len(context), side, side, generator=generator, dtype=torch.float64)
        parts = zip(torch.split(noise, _CHUNK), torch.split(context, _CHUNK), strict=True)
        return torch.cat([self.grid.simulate(n, c[:, 0], self.nugget(c)) for n, c in parts])

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        flat = context.double().reshape(-1, 2)
        fields = self.gaussian(flat, generator).float()
        return fields.view(*context.shape[:-1], self.grid.side, self.grid.side)

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        return self._over_pairs(self.density, x, context, slopes=False)

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        return self._over_pairs(self.slope, x, context, slopes=True)

    def _over_pairs(self, function: OfForms, x: Tensor, context: Tensor, slopes: bool) -> Tensor:
        def of_pairs(fields: Tensor, contexts: Tensor) -> Tensor:
            forms = self.grid.forms(fields, contexts[:, 0], self.nugget(contexts), slopes)
            return function(forms, contexts)

        sites = self.grid.sites
        return over_pairs(
            of_pairs, x.double(), context.double(), 2, per_context=32 * sites, per_pair=sites
        )


class GaussianField(_Field):
    """Gaussian process with a nugget; context (ℓ, τ²)."""

    def nugget(self, context: Tensor) -> Tensor:
        return context[:, 1]

    def density(self, forms: Forms, context: Tensor) -> Tensor:
        constant = self.grid.sites * math.log(2 * math.pi)
        return -0.5 * (forms.log_determinant + forms.quadratic + constant)

    def slope(self, forms: Forms, context: Tensor) -> Tensor:
        length = forms.slope_quadratic - forms.slope_trace
        return 0.5 * torch.stack([length, forms.norm - forms.trace], -1)


class StudentField(_Field):
    """Student-t process, a field with heavy tails; context (ℓ, ν).

    Args:
        grid: grid of sites.
        nugget: τ², fixed.
    """

    def __init__(self, grid: Grid, nugget: float) -> None:
        super().__init__(grid)
        self._nugget = nugget

    def nugget(self, context: Tensor) -> Tensor:
        return torch.full_like(context[:, 0], self._nugget)

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        fields = super().simulate(context, generator)
        freedom = context[..., 1].double()
        # The gamma sampler of torch.distributions; only this one takes a generator.
        chi_squared = 2 * torch._standard_gamma(freedom / 2, generator=generator)
        return fields * ((freedom - 2) / chi_squared).sqrt()[..., None, None].float()

    def density(self, forms: Forms, context: Tensor) -> Tensor:
        sites, freedom = self.grid.sites, context[:, 1:]
        half = 0.5 * (freedom + sites)
        return (
            torch.lgamma(half)
            - torch.lgamma(0.5 * freedom)
            - 0.5 * sites * (math.pi * (freedom - 2)).log()
            - 0.5 * forms.log_determinant
            - half * torch.log1p(forms.quadratic / (freedom - 2))
        )

    def slope(self, forms: Forms, context: Tensor) -> Tensor:
        sites, freedom = self.grid.sites, context[:, 1:]
        scale = freedom - 2 + forms.quadratic
        length = (freedom + sites) * forms.slope_quadratic / scale - forms.slope_trace
        tails = (
            torch.digamma(0.5 * (freedom + sites))
            - torch.digamma(0.5 * freedom)
            - sites / (freedom - 2)
            - torch.log1p(forms.quadratic / (freedom - 2))
            + (freedom + sites) * forms.quadratic / ((freedom - 2) * scale)
        )
        return 0.5 * torch.stack([length, tails], -1)


class Fields(Task):
    """Replicate fields of one process; both parameters are of interest.

    Args:
        name, title: name and title of the task.
        field: the process.
        second: its second parameter.
        lengths, seconds: values of the two at the evaluation points.
        observations: M.
    """

    version = 1
    citation = "Shen & Kuusela (2026), arXiv:2605.12118"
    observation: Observation = "field"
    reference: ReferenceKind = "evidence"

    def __init__(
        self,
        name: str,
        title: str,
        field: _Field,
        second: Parameter,
        lengths: tuple[float, ...],
        seconds: tuple[float, ...],
        observations: int,
    ) -> None:
        self.name, self.title, self.observations = name, title, observations
        inner = (min(lengths), max(lengths))
        length = Parameter("length", 0.05, 0.6, "interest", inner, "log", "ℓ")
        self.space = ParameterSpace([length, second], context=["length", second.name])
        self.points = torch.tensor(list(product(lengths, seconds)), dtype=torch.float64)
        self.nominal = self.points[len(self.points) // 2].float()
        self.event_shape = (field.grid.side, field.grid.side)
        self._field = field

    def components(self, split: Split) -> Mapping[str, _Field]:
        return {"field": self._field}

    def summaries(self, x: Tensor) -> Tensor:
        """Return logarithms of the mean square and of the relative variogram.

        The latter is the mean squared difference of neighbours divided by the mean square: the
        variogram at the shortest distance in units of the variance.
        """
        square = x.square().mean((-2, -1))
        near = (x.diff(dim=-1).square().mean((-2, -1)) + x.diff(dim=-2).square().mean((-2, -1))) / 2
        return torch.stack([square.log(), (near / square).log()], -1)

    def weights(self, theta: Tensor) -> Tensor:
        return torch.ones_like(theta[..., :1])


def gp(name: str = "gp", observations: int = 10) -> Fields:
    """Return a Gaussian process with a nugget on a 16 × 16 grid, by default with M = 10 fields."""
    nugget = Parameter("nugget", 0.01, 1.2, "interest", (0.2, 0.5), "log", "τ²")
    points = (0.15, 0.2, 0.3), (0.2, 0.35, 0.5)
    title = "Gaussian process with a nugget"
    return Fields(name, title, GaussianField(Grid(16)), nugget, *points, observations)


def student_t(name: str = "student-t", observations: int = 25) -> Fields:
    """Return a Student-t process on a 12 × 12 grid, by default with M = 25 fields."""
    freedom = Parameter("nu", 2.5, 30.0, "interest", (4.0, 9.0), "log", "ν")
    field, points = StudentField(Grid(12), 0.05), ((0.1, 0.2, 0.3), (4.0, 6.0, 9.0))
    return Fields(name, "Student-t process", field, freedom, *points, observations)
