r"""Likelihood factors of datasets beside those of their events: constraints and a Poisson total.

.. math:: \log \mathrm{Poisson}(n | \nu(\theta)) + \sum_j \log \pi_j(a_j | \theta_j)

They need no surrogate and are evaluated in float64.
"""

import torch
from torch import Tensor

from bench.contracts import Task
from bench.errors import PluginError, assigned


class Auxiliary:
    """Auxiliary factors of D datasets.

    Args:
        task: its constraints and its rate.
        measured: measurements of the C constraints, (D, C).
        number: number of events of each dataset, (D,) int64.
        exposure: factor of the rate.
    """

    def __init__(self, task: Task, measured: Tensor, number: Tensor, exposure: float = 1.0) -> None:
        self.task = task
        self.measured = measured.double()
        self.number = number.double()
        self.exposure = exposure
        names = task.space.names
        self._columns = [names.index(c.parameter) for c in task.constraints]

    def values(self, datasets: Tensor, unit: Tensor) -> Tensor:
        """Evaluate the logarithm of the factors.

        Args:
            datasets: the dataset of each track, (T,) int64.
            unit: points, (members, T, P) unit coordinates.

        Returns:
            (members, T) float64.

        Raises:
            PluginError: if the rate is not positive and finite.
        """
        with torch.no_grad():
            theta = self.task.space.from_unit(unit)
            return self._value(datasets, theta, self._rate(theta))

    def __call__(self, datasets: Tensor, unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate the factors, their score and expected information; arguments as in `values`.

        Returns:
            (members, T), (members, T, P) and (members, T, P, P), float64, in unit coordinates.
        """
        theta = self.task.space.from_unit(unit).detach()
        slope = self.task.space.slope(unit)
        with torch.enable_grad():
            leaf = theta.clone().requires_grad_()
            rate = self._rate(leaf)
            value = self._value(datasets, leaf, rate)
            score = _gradient(value, leaf)
            by_parameter = None if rate is None else _gradient(rate, leaf)
        outer = torch.zeros(*unit.shape, unit.shape[-1], dtype=torch.float64)
        if rate is not None and by_parameter is not None:
            pull = by_parameter * slope / rate.detach().sqrt()[..., None]
            outer = pull[..., :, None] * pull[..., None, :]
        for constraint, column in zip(self.task.constraints, self._columns, strict=True):
            with torch.enable_grad():
                own = theta[..., column].clone().requires_grad_()
                by_own = _gradient(constraint.location(own), own)
            per_unit = by_own * slope[..., column] / constraint.width
            outer[..., column, column] += per_unit.square()
        return value.detach(), score * slope, outer

    def _value(self, datasets: Tensor, theta: Tensor, rate: Tensor | None) -> Tensor:
        value = torch.zeros_like(theta[..., 0])
        if rate is not None:
            number = self.number[datasets]
            value = value + number * rate.log() - rate - torch.lgamma(number + 1)
        for j, constraint in enumerate(self.task.constraints):
            measured = self.measured[datasets, j]
            value = value + constraint.log_prob(measured, theta[..., self._columns[j]])
        return value

    def _rate(self, theta: Tensor) -> Tensor | None:
        """Return the checked number of expected events, (members, T) float64."""
        rate = expected_number(self.task, theta)
        return None if rate is None else self.exposure * rate


def expected_number(task: Task, theta: Tensor) -> Tensor | None:
    r"""Return a task's rate at parameters (\*B, P), (\*B) float64, checked; None without a rate.

    Raises:
        PluginError: if the rate is no tensor of shape (\*B), or not positive and finite.
    """
    rate = task.rate(theta)
    if rate is None:
        return None
    if not isinstance(rate, Tensor) or rate.shape != theta.shape[:-1]:
        came = tuple(rate.shape) if isinstance(rate, Tensor) else type(rate).__name__
        raise PluginError(
            f"rate returned {came} for parameters {tuple(theta.shape)}; the contract is a tensor "
            f"{tuple(theta.shape[:-1])}"
        )
    bad = ~((rate > 0) & (rate < torch.inf)).detach()
    if bool(bad.any()):
        where = assigned(task.space.names, theta.detach()[bad][0].tolist())
        raise PluginError(
            f"the rate is {float(rate.detach()[bad][0]):.4g} at {where}; it must be positive and "
            "finite"
        )
    return rate.double()


def _gradient(value: Tensor, leaf: Tensor) -> Tensor:
    """Return the gradient of a sum of values, of the shape of the leaf; 0 without dependence."""
    if not value.requires_grad:
        return torch.zeros_like(leaf)
    (found,) = torch.autograd.grad(value.sum(), leaf, retain_graph=True, allow_unused=True)
    return torch.zeros_like(leaf) if found is None else found
