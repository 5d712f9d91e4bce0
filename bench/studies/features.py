"""Comparison of one task's model with another's observations, by figure and two-sample tests.

Made for the tractable Higgs mixture against the challenge's events; both must have the same
components, the same context and two features. Tests are at the nominal context, in transformed
features, each divided by its standard deviation.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.boards.render import csv_of
from bench.contracts import HasLogProb, Log, Task
from bench.errors import UsageError, printable
from bench.seeds import generator
from bench.stats.clustering import Array
from bench.stats.energy import energy_test
from bench.studies.drawing import drawn, logarithmic

NAME = "features"
_SHOWN = 1500  # observations in a panel
_SHARES = (0.5, 0.9, 0.99)  # of the model's observations inside its contours
_COLOURS = ("C0", "C1", "C3")


@dataclass(frozen=True)
class TwoSampleTest:
    """Two-sample test of one component.

    Args:
        component: its name.
        observed: number of observations of the one task.
        simulated: number of the other's.
        distance: energy distance, in standard deviations of the features.
        expected: its mean under permutations: what sampling alone makes of it.
        p_value: of the permutation test.
    """

    component: str
    observed: int
    simulated: int
    distance: float
    expected: float
    p_value: float


def check(observed: Task, model: Task) -> None:
    """Refuse tasks that cannot be compared.

    Raises:
        UsageError: saying why.
    """
    for task in (observed, model):
        task.check()
        if task.event_shape != (2,):
            raise UsageError(f"task {task.name!r} has no two features to compare")
        if len(task.space.context) != 1:
            raise UsageError(f"task {task.name!r} has no context of one parameter to draw")
    if observed.component_names != model.component_names:
        raise UsageError(f"tasks {observed.name!r} and {model.name!r} have other components")
    if not torch.equal(observed.points, model.points):
        raise UsageError(f"tasks {observed.name!r} and {model.name!r} have other evaluation points")


def tests(
    observed: Task, model: Task, events: int, permutations: int, seed: int
) -> list[TwoSampleTest]:
    """Test every component at the nominal context with at most so many events of each kind."""
    rows = []
    for name in model.component_names:
        a, b = (_sample(t, name, t.nominal, events, seed) for t in (observed, model))
        scale = np.concatenate([a, b]).std(0)
        found = energy_test(a / scale, b / scale, permutations, seed)
        test = TwoSampleTest(name, len(a), len(b), found.distance, found.null, found.p_value)
        rows.append(test)
    return rows


def _sample(task: Task, name: str, context: Tensor, n: int, seed: int) -> Array:
    """Return transformed features of at most n observations of a component, (n, 2)."""
    source = task.components("test")[name]
    rng = generator("features", task.name, name, seed)
    x = source.simulate(context.float().expand(min(n, source.size or n), -1), rng)
    return task.transform(x.double()).numpy()


def table(rows: Sequence[TwoSampleTest]) -> str:
    """Render a table for a terminal."""
    lines = [f"{'component':<12}{'events':>16}  energy distance  by sampling  p"]
    lines += [
        f"{r.component:<12}{f'{r.observed:,} / {r.simulated:,}':>16}  {r.distance:>15.5f}"
        f"  {r.expected:>11.5f}  {r.p_value:.4f}"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def csv(rows: Sequence[TwoSampleTest]) -> str:
    """Render comma-separated values."""
    return csv_of([asdict(row) for row in rows])


def figure(observed: Task, model: Task) -> dict[str, bytes]:
    """Draw observations over the model's density, at each context of the evaluation points.

    Args:
        observed: the task whose observations are points.
        model: the task whose density is contours.

    Returns:
        The files' contents by format; nothing without matplotlib.
    """
    contexts = torch.unique(model.space.context_of(model.points), dim=0)
    parameter = model.space.context[0]
    names = [printable(n) for n in model.feature_names or ("first feature", "second feature")]

    def draw(figure: Any) -> None:
        axes = figure.subplots(
            len(model.component_names), len(contexts), sharex=True, sharey=True, squeeze=False
        )
        for line, component in zip(axes, model.component_names, strict=True):
            for ax, context in zip(line, contexts, strict=True):
                _panel(ax, observed, model, component, context)
                value = f"{float(context[0]):.2f}"
                title = printable(f"{component}, {parameter.symbol} = {value}")
                ax.set_title(title, fontsize="small")
        for ax in axes[-1]:
            ax.set_xlabel(names[0])
        for line in axes:
            line[0].set_ylabel(names[1])
        if model.has_exact:
            for share, colour in zip(_SHARES, _COLOURS, strict=True):
                axes[0, 0].plot(
                    [], [], color=colour, lw=1, label=f"{100 * share:g} % of {model.name}"
                )
            axes[0, 0].legend(fontsize="xx-small", loc="upper left")

    return drawn(draw, (3.0 * len(contexts), 2.8 * len(model.component_names)))


def _panel(ax: Any, observed: Task, model: Task, name: str, context: Tensor) -> None:
    points = _sample(observed, name, context, _SHOWN, 0)
    source = model.components("test")[name]
    scale = isinstance(model.transform, Log)
    shown = np.exp if scale else np.asarray
    ax.scatter(*shown(points).T, s=1.5, color="0.35", linewidths=0, rasterized=True)
    if isinstance(source, HasLogProb):
        simulated = _sample(model, name, context, 20_000, 1)
        x, y, heights, levels = contours(
            model, source, simulated, context, _SHARES, margin=0.0005, nodes=120
        )
        ax.contour(shown(x), shown(y), heights, levels=levels, colors=_COLOURS[::-1], linewidths=1)
    if scale:
        logarithmic(ax)


def contours(
    model: Task,
    source: HasLogProb,
    simulated: Array,
    context: Tensor,
    shares: Sequence[float],
    *,
    margin: float,
    nodes: int,
) -> tuple[Array, Array, Array, Array]:
    """Return contours of the log-density of transformed features that hold shares of them.

    Args:
        model: the task.
        source: its component.
        simulated: transformed features of the component, (n, 2).
        context: the context.
        shares: of the observations inside the contours.
        margin: share of the observations beyond each edge of the grid.
        nodes: of each axis.

    Returns:
        The grid's x and y, log-densities on it, (nodes, nodes) each, and the levels, sorted.
    """
    levels = np.quantile(_density(model, source, simulated, context), [1 - s for s in shares])
    low, high = np.quantile(simulated, [margin, 1 - margin], axis=0)
    axes = [np.linspace(a, b, nodes) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes), -1)
    heights = _density(model, source, grid.reshape(-1, 2), context).reshape(nodes, nodes)
    return grid[..., 0], grid[..., 1], heights, np.sort(levels)


def _density(model: Task, source: HasLogProb, y: Array, context: Tensor) -> Array:
    """Compute the log-density of transformed features (n, 2)."""
    features = torch.from_numpy(y)
    x = features.exp() if isinstance(model.transform, Log) else features
    jacobian = model.transform.log_jacobian(x).sum(-1)
    return (source.log_prob(x, context.double()) - jacobian).numpy()
