"""Tasks: components, their mixture weights, and evaluation points."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from bench.contracts.component import Component, HasLogProb
from bench.contracts.constraint import Constraint
from bench.contracts.data import Data
from bench.contracts.parameters import ParameterSpace
from bench.errors import NotApplicable

Split = Literal["train", "test", "features", "heldout", "calibration"]
ReferenceKind = Literal["fixed", "evidence"]
Observation = Literal["vector", "series", "field"]


class Transform:
    """Invertible, elementwise transform of observations; the base class is the identity.

    Samples of density surrogates need `inverse`, which is otherwise optional.
    """

    def __call__(self, x: Tensor) -> Tensor:
        r"""Transform observations (\*B, \*event); the shape stays."""
        return x

    def log_jacobian(self, x: Tensor) -> Tensor:
        """Return log abs(dy/dx) per element, of the shape of x."""
        return torch.zeros_like(x)

    def inverse(self, y: Tensor) -> Tensor:
        r"""Return the observations of transformed ones (\*B, \*event); the shape stays.

        Raises:
            NotApplicable: if a subclass defines a transform without its inverse.
        """
        if type(self).__call__ is not Transform.__call__:
            raise NotApplicable(f"the transform {type(self).__name__} defines no inverse")
        return y


class Log(Transform):
    """Natural logarithm, for positive observations."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.log()

    def log_jacobian(self, x: Tensor) -> Tensor:
        return -x.log()

    def inverse(self, y: Tensor) -> Tensor:
        return y.exp()


@dataclass(frozen=True)
class Resolution:
    """Resolution of likelihoods along one parameter.

    Args:
        coarse: nodes of the first pass over the whole parameter space and of each refinement.
        spacing: distance between nodes of the final pass, in units of the half-width of the
            68 % interval.
        tolerance: nodes are doubled until no interval end moves by more than this share of the
            half-width (surfaces of ReLU networks have kinks that a fixed spacing would hide);
            None keeps the spacing, for parameters in which the likelihood is smooth.
        most: upper limit on the number of nodes.
    """

    coarse: int = 17
    spacing: float = 0.5
    tolerance: float | None = 0.01
    most: int = 513


class Task(ABC):
    r"""Statistical model of datasets of M independent observations.

    .. math:: \log L(\theta) = \sum_{i=1}^M \log \sum_k w_k(\theta)\, p_k(x_i | \eta(\theta)).

    The likelihood has further factors if parameters have `constraints`, or if M is itself random,
    with a :meth:`rate`. They are exact, and the same for all methods.

    Subclasses set the attributes below and define :meth:`components` and :meth:`weights`.
    Whatever changes the task's numbers must change `version` or `settings`, which enter the
    identity of every fit.
    """

    name: str
    version: int
    title: str = ""
    citation: str = ""
    """Citations of the task, separated by semicolons."""
    space: ParameterSpace
    nominal: Tensor
    """Nominal context η0 of the fixed reference, (d,) float32."""
    points: Tensor
    """Evaluation points, (n_points, P) float64."""
    observations: int
    """Number M of observations in a dataset; a typical one if the task has a rate."""
    constraints: tuple[Constraint, ...] = ()
    """Auxiliary measurements of parameters; at most one of each."""
    event_shape: tuple[int, ...]
    reference: ReferenceKind = "fixed"
    """Reference of ratio methods, unless their configuration sets another."""
    chunk: int = 5000
    """Number of simulations in a chunk; simulations are made in whole chunks."""
    expensive: bool = False
    """True if a simulator call is expensive.

    Chunks then start small and grow up to `chunk`, fewer simulations fix the standardisation, and
    evaluation datasets are simulated once for all methods. Recorded observations, which cost no
    call, are not affected.
    """
    observation: Observation = "vector"
    """Type of an observation, by which networks choose their encoder."""
    discrete: bool = False
    """True if observations are whole numbers."""
    largest_count: int | None = None
    """Largest number that a discrete observation can hold, if there is one; the least is 0."""
    feature_names: tuple[str, ...] = ()
    """Names of the elements of an observation in figures, where these are few."""
    data: Data | None = None
    """Data that must be fetched before the task can run."""

    plugin_hash: str = ""
    """SHA-256 of the plugin file's bytes; set by the suite for tasks from plugin files."""

    # Cached, so that tasks can also set the two as attributes.
    @cached_property
    def reported(self) -> tuple[str, ...]:
        """Names of the parameters that intervals, ranks and tables are about.

        The likelihood is profiled over the others. By default it is the parameters of interest.
        """
        return tuple(p.name for p in self.space.parameters if p.kind == "interest")

    @cached_property
    def resolution(self) -> tuple[Resolution, ...]:
        """Resolution of the lattice, one entry per parameter; unused beyond two parameters."""
        if len(self.space) == 1:
            return (Resolution(spacing=0.25),)
        two = len(self.space) == 2
        return (Resolution(spacing=0.25, tolerance=None), Resolution()) if two else ()

    @property
    def reported_index(self) -> tuple[int, ...]:
        """Positions of the reported parameters among all, in rising order."""
        return tuple(i for i, name in enumerate(self.space.names) if name in self.reported)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Task's own parameters, JSON-able; part of the identity of fits."""
        return {}

    def check(self) -> None:  # noqa: B027 - most tasks run everywhere
        """Raise NotApplicable, with the reason (missing data, say), if the task cannot run."""

    @property
    def transform(self) -> Transform:
        """Declared feature transform."""
        return Transform()

    def summaries(self, x: Tensor) -> Tensor | None:
        r"""Return a few summary numbers, (\*B, s), of observations too large to be binned.

        None where observations (\*B, \*event) are small themselves.
        """
        return None

    @abstractmethod
    def components(self, split: Split) -> Mapping[str, Component]:
        """Return the named components, in a fixed order.

        They may differ by split for finite data.
        """

    @abstractmethod
    def weights(self, theta: Tensor) -> Tensor:
        r"""Return the mixture weights, (\*B, P) to (\*B, K); they sum to one."""

    def rate(self, theta: Tensor) -> Tensor | None:
        r"""Return the expected number ν(θ) of observations in a dataset, (\*B, P) to (\*B).

        The number in a dataset is then a Poisson number. None, the default, if it is fixed.
        """
        return None

    @cached_property
    def has_rate(self) -> bool:
        """Return whether the number of observations in a dataset is random."""
        middle = torch.full((len(self.space),), 0.5, dtype=torch.float64)
        return self.rate(self.space.from_unit(middle)) is not None

    @property
    def has_auxiliary(self) -> bool:
        """Return whether the likelihood has factors beside those of the observations."""
        return bool(self.constraints) or self.has_rate

    def constraint_widths(self) -> Tensor:
        """Return standard deviations of constraints in unit coordinates, (P,) float64; NaN without.

        Constraints are normal on the scale of their parameter, so that these are constants.
        """
        found = torch.full((len(self.space),), torch.nan, dtype=torch.float64)
        for constraint in self.constraints:
            at = self.space.names.index(constraint.parameter)
            parameter = self.space.parameters[at]
            low, high = constraint.location(torch.tensor([parameter.low, parameter.high]))
            found[at] = constraint.width / (high - low)
        return found

    def draw_parameters(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n true parameters in the inner box, (n, P) float64; see `true_parameters`."""
        shape = n, len(self.space)
        return self.true_parameters(torch.rand(shape, generator=generator, dtype=torch.float64))

    def true_parameters(self, uniform: Tensor) -> Tensor:
        r"""Map uniform numbers to true parameters in the inner box, (\*B, P) in [0, 1] to (\*B, P).

        Parameters are uniform, each on its scale, and constrained ones follow their constraints.
        """
        low, high = self.space.box
        theta = self.space.from_unit(low + (high - low) * uniform)
        columns = list(theta.unbind(-1))
        for constraint in self.constraints:
            at = self.space.names.index(constraint.parameter)
            inner = self.space.parameters[at].inner
            columns[at] = constraint.true_value(uniform[..., at], *inner)
        return torch.stack(columns, -1)

    def log_prior(self, unit: Tensor) -> Tensor:
        r"""Return the log-density of true parameters up to a constant, (\*B, P) to (\*B) float64.

        The argument and the density are in unit coordinates.
        """
        theta = self.space.from_unit(unit)
        found = torch.zeros(unit.shape[:-1], dtype=torch.float64)
        for constraint in self.constraints:
            found = found + constraint.log_prior(
                theta[..., self.space.names.index(constraint.parameter)]
            )
        return found

    @property
    def component_names(self) -> tuple[str, ...]:
        """Names of the components, in order."""
        return tuple(self.components("test"))

    @property
    def has_exact(self) -> bool:
        """Return whether every component has a known density."""
        return all(isinstance(c, HasLogProb) for c in self.components("test").values())
