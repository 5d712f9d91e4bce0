"""Critical values of likelihood-ratio statistics, as functions of the parameters.

By the theorem of Wilks (1938) the statistic of a profile likelihood follows a χ² distribution. That
of a surrogate does not, nor does an exact one near a bound. Intervals still cover if they contain
all parameters whose statistic is below its own quantile there (Neyman 1937; Feldman & Cousins 1998,
arXiv:physics/9711021).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from scipy import stats
from scipy.stats import qmc
from torch import Tensor

from bench.contracts import Surrogate
from bench.nn.score_matching import monomials

LEVELS = (float(stats.chi2.cdf(1, 1)), 0.95)
"""Levels of profile intervals with critical values; regions have the last one."""

_ROOTS = tuple(math.sqrt(stats.chi2.ppf(level, 1)) for level in LEVELS)  # of Wilks's theorem
_LEAST = 0.05  # least critical value of a root
_APART = 1.02  # least ratio of the roots of both levels
_POINTS = 256  # of the box, among which the largest correction is searched


@dataclass(frozen=True)
class QuantileFunction:
    """Quantile of the square root of a statistic: a polynomial, or a sum of boxes, or both.

    Args:
        coefficients: of the constant, or of all `monomials` of the position.
        lower: lower bounds of boxes, (leaves, P).
        upper: upper bounds, (leaves, P).
        value: terms that boxes add to the positions that they contain, (leaves,).
    """

    coefficients: Tensor
    lower: Tensor
    upper: Tensor
    value: Tensor

    @classmethod
    def polynomial(cls, coefficients: Tensor, parameters: int) -> "QuantileFunction":
        """Return a polynomial in P parameters."""
        nothing = torch.zeros(0, parameters)
        return cls(coefficients, nothing, nothing, torch.zeros(0, dtype=torch.float64))

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], name: str, parameters: int) -> "QuantileFunction":
        """Return the function of a name, whose empty parts are missing."""
        nothing = torch.zeros(0, parameters)
        parts = {part.name: tensors.get(f"{name}.{part.name}") for part in fields(cls)}
        empty = {"lower": nothing, "upper": nothing, "value": nothing[:, 0]}
        return cls(**{key: empty[key] if part is None else part for key, part in parts.items()})

    def __call__(self, position: Tensor) -> Tensor:
        r"""Evaluate at positions in the box, −1 to 1 in each parameter, (\*B, P) to (\*B)."""
        if len(self.coefficients) == 1:
            found = self.coefficients[0].repeat(position.shape[:-1])
        else:
            found = monomials(position) @ self.coefficients
        for low, high, value in zip(self.lower, self.upper, self.value, strict=True):
            inside = (position > low) & (position <= high)
            found += inside.all(-1) * value
        return found.clamp_min(_LEAST)


def position_in(box: Tensor, unit: Tensor) -> Tensor:
    r"""Return positions in a box (2, P), −1 to 1 in each parameter, of coordinates (\*B, P).

    A point outside has the position of the nearest point inside.
    """
    low, high = box.unbind()
    return (2 * (unit - low) / (high - low) - 1).clamp(-1, 1)


class CriticalValues:
    """Critical values of one member: of the profile of each reported parameter, and of regions.

    Outside the box they are those of its nearest point, because toys have parameters from the box.

    Args:
        box: lower and upper bounds of the inner box, (2, P) unit coordinates.
        intervals: by the index of a reported parameter, quantiles of the root of its statistic at
            both `LEVELS`.
        region: 95 % quantile of the root of the statistic of all parameters.
        power: power to which the likelihood is raised whose statistics are rescaled.
    """

    def __init__(
        self,
        box: Tensor,
        intervals: Mapping[int, Sequence[QuantileFunction]],
        region: QuantileFunction,
        power: float = 1.0,
    ) -> None:
        self.box = box
        self.intervals = intervals
        self.region = region
        self.power = power

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "CriticalValues":
        """Rebuild them from the state of one member."""
        tensors = {name: tensor[0].cpu() for name, tensor in state.items()}
        box = tensors.pop("box")
        names = dict.fromkeys(name.rpartition(".")[0] for name in tensors)
        found = {name: QuantileFunction.of(tensors, name, box.shape[1]) for name in names}
        region = found.pop("region")
        indices = sorted({int(name.partition(".")[0]) for name in found})
        every = {i: [found[f"{i}.{level}"] for level in range(len(LEVELS))] for i in indices}
        return cls(box, every, region)

    def state(self) -> dict[str, Tensor]:
        """Return the state, with a leading axis of one member."""
        named = {
            f"{i}.{level}": quantile
            for i, own in self.intervals.items()
            for level, quantile in enumerate(own)
        }
        state = {"box": self.box[None]}
        for name, quantile in {**named, "region": self.region}.items():
            for part in fields(quantile):
                if (tensor := getattr(quantile, part.name)).numel():
                    state[f"{name}.{part.name}"] = tensor[None]
        return state

    def raised(self, power: float) -> "CriticalValues":
        """Return the critical values of the likelihood raised to a power."""
        return CriticalValues(self.box, self.intervals, self.region, power)

    def root_at(self, unit: Tensor, parameter: int, root: float) -> Tensor:
        r"""Return the square root of the statistic at an end of an interval.

        It is linear between the quantiles at both levels, and proportional below and beyond.

        Args:
            unit: points of the parameter's profile, unit coordinates, (\*B, P).
            parameter: index of the parameter; Wilks's theorem applies to one that is not reported.
            root: square root of the statistic at this end by Wilks's theorem.

        Returns:
            (\*B).
        """
        if parameter not in self.intervals:
            return torch.full(unit.shape[:-1], root, dtype=torch.float64)
        usual, wide = self._quantiles(unit, parameter)
        own = root / math.sqrt(self.power)
        if own <= _ROOTS[0]:
            found = usual * (own / _ROOTS[0])
        elif own <= _ROOTS[1]:
            found = usual + (wide - usual) * ((own - _ROOTS[0]) / (_ROOTS[1] - _ROOTS[0]))
        else:
            found = wide * (own / _ROOTS[1])
        return found * math.sqrt(self.power)

    def _quantiles(self, unit: Tensor, parameter: int) -> tuple[Tensor, Tensor]:
        position = position_in(self.box, unit)
        usual, wide = (quantile(position) for quantile in self.intervals[parameter])
        return usual, torch.maximum(wide, _APART * usual)

    def of_profile(self, statistic: Tensor, unit: Tensor, parameter: int) -> Tensor:
        r"""Rescale statistics so that their quantiles at both levels are those of χ² of one degree.

        The result has a kink where it is 1. Along a profile, `along_profile` has none.

        Args:
            statistic: likelihood-ratio statistics of a parameter's profile, (\*B).
            unit: the points of the profile, unit coordinates, (\*B, P).
            parameter: index of the parameter.

        Returns:
            (\*B); unchanged for a parameter that is not reported.
        """
        if parameter not in self.intervals:
            return statistic
        usual, wide = self._quantiles(unit, parameter)
        root = (statistic / self.power).clamp_min(0).sqrt()
        within = root / usual * _ROOTS[0]
        between = _ROOTS[0] + (root - usual) / (wide - usual) * (_ROOTS[1] - _ROOTS[0])
        beyond = root / wide * _ROOTS[1]
        found = torch.where(root <= usual, within, torch.where(root <= wide, between, beyond))
        return self.power * found.square()

    def along_profile(self, statistic: Tensor, unit: Tensor, parameter: int, root: float) -> Tensor:
        """Rescale statistics of a profile so that its ends at one root are where they should be.

        Arguments as of `of_profile` and `root_at`.
        """
        return statistic * (root / self.root_at(unit, parameter, root)).square()

    def of_region(self, statistic: Tensor, unit: Tensor) -> Tensor:
        r"""Rescale statistics of all parameters so that their 95 % quantile is that of χ².

        Args:
            statistic: likelihood-ratio statistics, (\*B).
            unit: the parameters, unit coordinates, (\*B, P).
        """
        return statistic * self.factor_of_region(unit)

    def factor_of_region(self, unit: Tensor) -> Tensor:
        r"""Return the factor by which statistics of all parameters are rescaled, (\*B)."""
        wanted = float(stats.chi2.ppf(LEVELS[-1], self.box.shape[1]))
        return wanted / self.region(position_in(self.box, unit)).square()

    @cached_property
    def largest(self) -> float:
        """Largest ratio of a critical value in the box to that of Wilks's theorem."""
        parameters = self.box.shape[1]
        drawn = qmc.Sobol(parameters, seed=0).random(_POINTS)
        position = torch.from_numpy(2 * drawn - 1)
        wilks = math.sqrt(stats.chi2.ppf(LEVELS[-1], parameters))
        ratios = [float(self.region(position).max()) / wilks]
        for own in self.intervals.values():
            for quantile, root in zip(own, _ROOTS, strict=True):
                ratios.append(float(quantile(position).max()) / root)
        return max(ratios) * max(ratios)


def critical_values_of(surrogate: Surrogate, members: int) -> Sequence[CriticalValues | None]:
    """Return the critical values of each member; None where those of Wilks's theorem apply."""
    found: Sequence[CriticalValues] | None = getattr(surrogate, "critical_values", None)
    return [None] * members if found is None else found
