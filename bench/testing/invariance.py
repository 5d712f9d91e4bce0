r"""Calibrated test of a simulator against a density, in any number of dimensions.

Draw :math:`\eta` from the training range and x from the simulator. One step of a Markov chain that
leaves :math:`p(x|\eta)` uniform in :math:`\eta` invariant goes from there to :math:`(x', \eta')`
as often as back: proposals are symmetric, and accepted with probability :math:`p(x'|\eta') /
\{p(x'|\eta') + p(x|\eta)\}` (Barker 1965; as a test of samplers Geweke 2004 and Gandy & Scott 2021,
arXiv:2001.06465). For any statistic h, its change D, zero where the proposal is rejected, is
therefore symmetric around zero, and with independent simulations

.. math:: P\Big(\big|\textstyle\sum_i D_i\big| > z \sqrt{\textstyle\sum_i D_i^2}\Big)
   \le 3.18 \cdot 2 \{1 - \Phi(z)\}

at any sample size (a sum of signs; Bentkus & Dzindzalieta 2015). Densities need not be normalised,
and impossible x are rejected. A wrong term in :math:`\eta` is detected by steps of the context, one
in x by steps of x. A constant factor alone is not detected.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.contracts import Component, HasLogProb, Task
from bench.testing.model import contexts

_LOG_SCALES = 4  # proposals have random scales of 1, 1/2, … of the spread of the simulations
_SIGNS = 3.178  # constant of Bentkus & Dzindzalieta
_FEW = 4  # largest size of an observation with one statistic per number


@dataclass(frozen=True)
class Drift:
    """Mean change of a statistic in a move.

    Args:
        move: name of the move.
        statistic: name of the statistic.
        mean: mean change, in units of the statistic's standard deviation; 0 for a correct density.
        error: its standard error.
    """

    move: str
    statistic: str
    mean: float
    error: float

    @property
    def z(self) -> float:
        """Mean in standard errors."""
        return self.mean / self.error if self.error else 0.0

    @property
    def p_value(self) -> float:
        """Upper bound on the p-value under a correct density."""
        return min(1.0, _SIGNS * math.erfc(abs(self.z) / math.sqrt(2)))


class Statistics:
    r"""Bounded statistics of observations and contexts.

    Args:
        task: the task.
        log_prob: the density.
        x, unit: simulations that set their location and scale, (n, \*event), and their contexts
            in unit coordinates, (n, d).
        context: the same contexts.
    """

    def __init__(
        self,
        task: Task,
        log_prob: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        unit: Tensor,
        context: Tensor,
    ) -> None:
        self._task = task
        y = task.transform(x.double())
        self._mean, self._scale = y.mean(0), y.std(0).clamp_min(1e-12)
        raw, self.names = self._raw(x, log_prob(x, context))
        self._middle = raw.median(0).values
        self._width = (raw - self._middle).abs().median(0).values.clamp_min(1e-12)

    def _raw(self, x: Tensor, log_density: Tensor) -> tuple[Tensor, list[str]]:
        y = ((self._task.transform(x.double()) - self._mean) / self._scale).nan_to_num(0, 0, 0)
        flat = y.flatten(1)
        values = {"log-density": log_density}
        if flat.shape[1] <= _FEW:
            for i, column in enumerate(flat.T):
                values[f"x{i + 1}"] = column
                values[f"x{i + 1}²"] = column.square()
                for j in range(i):
                    values[f"x{j + 1} x{i + 1}"] = flat[:, j] * column
        else:
            values["mean of x"] = flat.mean(1)
            values["mean of x²"] = flat.square().mean(1)
            values["mean squared step of x"] = y.diff(dim=-1).square().flatten(1).mean(1)
            values["first of x"], values["last of x"] = flat[:, 0], flat[:, -1]
        summaries = self._task.summaries(x.double())
        if summaries is not None:
            for i, column in enumerate(summaries.double().flatten(1).T):
                values[f"summary {i + 1}"] = column
        return torch.stack(list(values.values()), 1), list(values)

    def __call__(self, x: Tensor, unit: Tensor, log_density: Tensor) -> tuple[Tensor, list[str]]:
        """Return statistics (n, s) in [−1, 1], and their names."""
        raw, names = self._raw(x, log_density)
        h = torch.tanh((raw - self._middle) / (2 * self._width)).nan_to_num(0, 0, 0)
        columns, labels = [h], list(names)
        for parameter, u in zip(self._task.space.context, (2 * unit - 1).T[..., None], strict=True):
            columns += [u, u.square(), h * u]
            name = parameter.name
            labels += [name, f"{name}²", *(f"{n} × {name}" for n in names)]
        return torch.cat(columns, 1), labels


def drifts(
    task: Task, component: Component, n: int, generator: torch.Generator
) -> tuple[list[Drift], float]:
    """Return the mean changes of all statistics when n simulations move once in each way.

    Args:
        task: the task.
        component: one of its components, with a `log_prob`.
        n: number of simulations. Two further samples of n provide proposals; one of them also
            scales the statistics.
        generator: of all random numbers.

    Returns:
        The drift of every statistic under every move, and the largest share of accepted moves.
    """
    assert isinstance(component, HasLogProb)
    log_prob = component.log_prob
    index = list(task.space.context_index)
    unit = torch.rand(3, n, len(index), generator=generator, dtype=torch.float64)
    context = contexts(task, unit.flatten(0, 1)).float().view(3, n, -1)
    drawn = component.simulate(context.flatten(0, 1), generator).double()
    x, one, other = drawn.view(3, n, *task.event_shape)
    here = log_prob(x, context[0])
    statistics = Statistics(task, log_prob, one, unit[1], context[1])
    before, names = statistics(x, unit[0], here)
    spread = before.std(0).clamp_min(1e-12)
    found, accepted = [], 0.0
    for move, moved, at, log_jacobian in _moves(task, x, unit[0], one, other, unit[1:], generator):
        inside = ((at >= 0) & (at <= 1)).all(1)
        there = log_prob(moved, contexts(task, at.clamp(0, 1)).float())
        odds = torch.where(inside, there + log_jacobian - here, -torch.inf)
        uniform = torch.rand(n, generator=generator, dtype=torch.float64)
        yes = uniform < torch.sigmoid(odds)
        accepted = max(accepted, float(yes.double().mean()))
        after, _ = statistics(moved, at, there)
        steps = torch.where(yes[:, None], after - before, 0.0) / spread
        means, errors = steps.mean(0).tolist(), (steps.square().sum(0).sqrt() / n).tolist()
        found += [Drift(move, *rest) for rest in zip(names, means, errors, strict=True)]
    return found, accepted


def _moves(
    task: Task,
    x: Tensor,
    unit: Tensor,
    one: Tensor,
    other: Tensor,
    units: Tensor,
    generator: torch.Generator,
) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Yield symmetric proposals: name, x', η' in unit coordinates, log-Jacobian of the map.

    Steps are differences of two other simulations (differential evolution, ter Braak 2006), which
    have the spread and the correlations of x.
    """
    n, event = len(x), tuple(task.event_shape)
    size = math.prod(event)

    def scale() -> Tensor:
        return 0.5 ** torch.randint(_LOG_SCALES, (n,), generator=generator).double()

    def shaped(values: Tensor) -> Tensor:
        return values.view(n, *[1] * len(event))

    none = torch.zeros(n, dtype=torch.float64)
    difference = one - other
    yield "context", x, unit + scale()[:, None] * (units[0] - units[1]), none
    step = difference * shaped(scale()) * min(1.0, 2.38 / math.sqrt(2 * size))
    # Rounding is an odd function and keeps proposals symmetric.
    yield "x", x + (step.round() if task.discrete else step), unit, none
    if size > 1:
        chosen = torch.randint(size, (n,), generator=generator)
        only = torch.nn.functional.one_hot(chosen, size).double().view(n, *event)
        step = difference * shaped(scale()) * only
        yield "one number of x", x + (step.round() if task.discrete else step), unit, none
    if not task.discrete:
        log_factor = torch.randn(n, generator=generator, dtype=torch.float64)
        log_factor = log_factor * scale() / math.sqrt(size)
        yield "scale of x", x * shaped(log_factor.exp()), unit, size * log_factor
        if size > _FEW and task.observation != "vector":
            strength = torch.randn(n, generator=generator, dtype=torch.float64) * scale()
            yield "roughness of x", _roughened(x, shaped(strength / math.sqrt(size))), unit, none


def _roughened(x: Tensor, strength: Tensor) -> Tensor:
    """Amplify fast Fourier components of series or fields by strength, and attenuate slow ones.

    The volume is conserved: the logarithms of the factors sum to zero.
    """
    axes = tuple(range(1, x.dim()))
    steps = [torch.fft.fftfreq(n, dtype=torch.float64).abs() for n in x.shape[1:]]
    speed = torch.stack(torch.meshgrid(*steps, indexing="ij")).sum(0)
    speed = (speed - speed.mean()) / speed.std()
    factor = torch.exp(strength * speed)
    return torch.real(torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * factor, dim=axes))
