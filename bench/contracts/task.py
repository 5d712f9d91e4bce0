"""A task: components, how parameters mix them, where they are evaluated."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bench.contracts.component import Component, HasLogProb
from bench.contracts.data import Data
from bench.contracts.parameters import ParameterSpace

Split = Literal["train", "test", "features", "heldout", "calibration"]
ReferenceKind = Literal["fixed", "evidence"]
Observation = Literal["vector", "series", "field"]


class Transform:
    """An invertible, elementwise transform of observations; this one is the identity."""

    def __call__(self, x: Tensor) -> Tensor:
        r"""Transforms observations (\*B, \*event); the shape stays."""
        return x

    def log_jacobian(self, x: Tensor) -> Tensor:
        """Returns log |dy/dx| per element, of the shape of x."""
        return torch.zeros_like(x)


class Log(Transform):
    """The natural logarithm, for positive observations."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.log()

    def log_jacobian(self, x: Tensor) -> Tensor:
        return -x.log()


@dataclass(frozen=True)
class Resolution:
    """How finely likelihoods are evaluated along one parameter.

    Args:
        coarse: nodes of the first pass over the whole parameter space and of each zoom.
        spacing: distance between nodes of the final pass, in units of the half-width of the
            68 % interval.
        tolerance: nodes are doubled until no interval end moves by more than this share of the
            half-width (surfaces of ReLU networks have kinks that a fixed spacing would hide);
            None keeps the spacing, for parameters that the likelihood is smooth in.
        most: upper limit on the number of nodes.
    """

    coarse: int = 17
    spacing: float = 0.5
    tolerance: float | None = 0.01
    most: int = 513


class Task(ABC):
    r"""A statistical model of datasets of M independent observations.

    .. math:: \log L(\theta) = \sum_{i=1}^M \log \sum_k w_k(\theta)\, p_k(x_i | \eta(\theta)).

    Subclasses set the attributes below and define :meth:`components` and :meth:`weights`.
    Whatever changes the task's numbers must change `version` or `settings`, which enter the
    identity of every fit.
    """

    name: str
    version: int
    title: str = ""
    citation: str = ""
    """Whom to cite for it; several are separated by semicolons."""
    space: ParameterSpace
    nominal: Tensor
    """The nominal context η0 of the fixed reference, (d,) float32."""
    points: Tensor
    """The evaluation points, (n_points, P) float64."""
    observations: int
    """M, the number of observations in a dataset."""
    event_shape: tuple[int, ...]
    reference: ReferenceKind = "fixed"
    """The reference that ratio methods use unless their configuration says otherwise."""
    chunk: int = 5000
    """Simulations are made in whole chunks of this many."""
    expensive: bool = False
    """Declares that a simulator call is expensive. Chunks then start small and grow up to `chunk`,
    fewer simulations fix the standardisation, and evaluation datasets are simulated once for all
    methods. Recorded observations, which cost no call, are not affected."""
    resolution: tuple[Resolution, ...] = (Resolution(spacing=0.25, tolerance=None), Resolution())
    """One entry per parameter."""

    observation: Observation = "vector"
    """What an observation is; networks choose their encoder by it."""
    discrete: bool = False
    """Whether observations are whole numbers."""
    feature_names: tuple[str, ...] = ()
    """How figures call the elements of an observation, where these are few."""
    data: Data | None = None
    """What must be fetched before the task can run."""

    plugin_hash: str = ""
    """Set by the suite for a task from a plugin file: SHA-256 of the file's bytes."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The task's own parameters, JSON-able; part of the identity of fits."""
        return {}

    def check(self) -> None:  # noqa: B027 - most tasks run everywhere
        """Raises NotApplicable, with the reason, if the task cannot run: for want of data, say."""

    @property
    def transform(self) -> Transform:
        """The declared feature transform."""
        return Transform()

    def summaries(self, x: Tensor) -> Tensor | None:
        r"""A few numbers that stand for observations too large to be binned, (\*B, s).

        None where observations (\*B, \*event) are small themselves.
        """
        return None

    @abstractmethod
    def components(self, split: Split) -> Mapping[str, Component]:
        """The named components, in a fixed order; they may differ by split for finite data."""

    @abstractmethod
    def weights(self, theta: Tensor) -> Tensor:
        r"""The mixture weights, (\*B, P) to (\*B, K); they sum to one."""

    @property
    def component_names(self) -> tuple[str, ...]:
        """Names of the components, in order."""
        return tuple(self.components("test"))

    @property
    def has_exact(self) -> bool:
        """Whether every component knows its density."""
        return all(isinstance(c, HasLogProb) for c in self.components("test").values())
