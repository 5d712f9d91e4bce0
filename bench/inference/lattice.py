"""Lattices of parameters around the likelihoods' maxima."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from bench.contracts import Resolution
from bench.inference.likelihood import Axes, MixtureLikelihood
from bench.inference.polynomials import RatioTable, Window
from bench.inference.profile import crossings, peak, profiles

DEPTH = 6.0
"""Depth below the maximum, in nats, down to which likelihoods are resolved: 3.5 half-widths."""
BOX_DEPTH = 40.0
"""Depth below the maximum in the inner box, in nats, down to which likelihoods are known there."""

_NODES = 7  # first number of Chebyshev nodes per context parameter
_MOST_NODES = {1: 193, 2: 49}  # largest number, by the number of context parameters
_TOLERANCE = 0.01  # of interval ends, in half-widths, where the task requires none
_USUAL = torch.tensor([1.0], dtype=torch.float64)  # threshold of 68.27 % intervals
_CHECKED = torch.tensor([1.0, 0.25, 4.0, 9.0], dtype=torch.float64)  # whose ends must not move
_MOVEMENT = 2.0  # movement of checked ends at twice the degree, in units of the tolerance
_CUT = 9.0  # threshold at which profiles must not be cut by a window
_NARROW = 0.6  # nodes are placed anew in a window smaller than this share of the first one
_LEVELS = 12  # most coarse passes

_Evaluate = Callable[[Axes], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Lattice:
    """Log-likelihoods on one axis, or on the product of two.

    Args:
        axes: nodes of each parameter in unit coordinates, evenly spaced, float64.
        values: log-likelihoods up to a constant per dataset, (D, n_0) or (D, n_0, n_1)
            float64.
        at_truth: log-likelihood at the generating parameters, same constant, (D,) float64.
        unresolved: whether interval ends are less accurate than required, (D,) bool.
        inside: the same on a lattice that ends at the bounds of the box, if there is one.
    """

    axes: Axes
    values: Tensor
    at_truth: Tensor
    unresolved: Tensor
    inside: "Lattice | None" = None

    def split(self, parts: int) -> "list[Lattice]":
        """Split the datasets of all members into equal parts, member after member."""
        inner: Sequence[Lattice | None] = [None] * parts
        if self.inside is not None:
            inner = self.inside.split(parts)
        tensors = (self.values, self.at_truth, self.unresolved)
        split = zip(*(t.chunk(parts) for t in tensors), inner, strict=True)
        return [Lattice(self.axes, *part) for part in split]


def refine(
    events: MixtureLikelihood,
    resolution: Sequence[Resolution],
    *,
    start: Sequence[Window] | None = None,
    depth: float = DEPTH,
    box: Tensor | None = None,
) -> Lattice:
    """Evaluate likelihoods on a lattice that is fine near their maxima.

    The lattice contains all nodes where any dataset's profile is within `depth` nats of its
    maximum. A smooth surrogate is evaluated at a few Chebyshev nodes of the context parameters and
    interpolated event by event. The nodes are doubled until no interval end moves by more than
    twice the tolerance. A surrogate that no polynomial follows is evaluated at every node.

    Args:
        events: the datasets.
        resolution: required resolution of each parameter.
        start: first window, unit coordinates; the whole space if None.
        depth: depth of the lattice below the maximum, in nats.
        box: lower and upper bounds (2, P), unit coordinates, of a second lattice, which reaches
            down to BOX_DEPTH below the maximum inside.
    """
    targets = [_Target(resolution, depth, start or [(0.0, 1.0)] * len(resolution))]
    if box is not None:
        bounds = [(float(low), float(high)) for low, high in box.T]
        targets.append(_Target(resolution, BOX_DEPTH, bounds))
    found = _smooth(events, targets) or _dense(events, targets)
    return replace(found[0], inside=found[1]) if box is not None else found[0]


@dataclass(frozen=True)
class _Target:
    """Required lattice: its resolution, its depth in nats, and the window to search."""

    resolution: Sequence[Resolution]
    depth: float
    start: Sequence[Window]

    def movement(self, axis: int) -> float:
        """Return how far ends may move where nodes are doubled, in half-widths."""
        return _MOVEMENT * (self.resolution[axis].tolerance or _TOLERANCE)

    def nodes(self, window: Sequence[Window], spacings: Sequence[float]) -> tuple[Axes, bool]:
        """Return evenly spaced nodes of windows, and whether there are fewer than required."""
        axes, fewer = [], False
        for (low, high), r, spacing in zip(window, self.resolution, spacings, strict=True):
            wanted = 3 + 2 * int(0.5 * (high - low) / spacing)  # odd: every other reaches both ends
            fewer |= wanted > r.most
            axes.append(_even((low, high), min(max(wanted, r.coarse), r.most)))
        return tuple(axes), fewer

    def zoom(self, evaluate: _Evaluate) -> tuple[list[Window], list[float]]:
        """Find the window by coarse passes, as long as the next one saves more than it costs.

        Returns:
            The window, and the required distance of nodes.
        """
        window = list(self.start)
        for _ in range(_LEVELS):
            axes = tuple(
                _even(around, r.coarse) for around, r in zip(window, self.resolution, strict=True)
            )
            values, _ = evaluate(axes)
            spacings = []
            for i, (curve, r) in enumerate(zip(profiles(values), self.resolution, strict=True)):
                top, position = peak(curve)
                window[i] = _box(curve, top, axes[i], self.depth)
                spacings.append(r.spacing * _half_width(curve, top, position, axes[i]))
            if all(
                2 * float(axis[1] - axis[0]) < r.coarse * spacing
                for r, spacing, axis in zip(self.resolution, spacings, axes, strict=True)
            ):
                break
        return window, spacings


def _even(window: Window, count: int) -> Tensor:
    return torch.linspace(*window, count, dtype=torch.float64)


def _smooth(events: MixtureLikelihood, targets: Sequence[_Target]) -> list[Lattice] | None:
    """Refine by polynomials in the context; return None where they do not converge."""
    start = targets[0].start
    whole = {axis: start[axis] for axis in events.context_axes}
    first = events.table(whole, _NODES) if whole else None
    if first is None:
        return None
    found = [target.zoom(partial(events.log_likelihood, table=first)) for target in targets]
    window = [(min(w[0] for w in each), max(w[1] for w in each)) for each in
              zip(*(window for window, _ in found), strict=True)]  # fmt: skip
    spacings = [min(each) for each in zip(*(spacings for _, spacings in found), strict=True)]
    axes, _ = targets[0].nodes(window, spacings)
    narrow = {
        axis: window[axis] if _length(window[axis]) < _NARROW * _length(around) else around
        for axis, around in whole.items()
    }
    most = _MOST_NODES.get(len(whole), _NODES)
    table = _converged(events, targets[0], axes, first, _NODES if narrow != whole else most)
    if table is None and narrow != whole:
        table = events.table(narrow, _NODES)
        table = table and _converged(events, targets[0], axes, table, most)
    lattices = []
    for target in targets if table is not None else ():
        lattice = _interpolated(events, target, table)
        if lattice is None:
            return None
        lattices.append(lattice)
    return lattices or None


def _converged(
    events: MixtureLikelihood, target: _Target, axes: Axes, table: RatioTable, most: int
) -> RatioTable | None:
    """Double the degree until no interval end moves by more than the target allows.

    If an error at least halves where the degree doubles, that of the finer polynomials is at most
    the movement; for a continuous slope it is a third of the movement.

    Returns:
        The table; None if more than `most` nodes per context parameter would be necessary.
    """
    checked = tuple(_even((float(a[0]), float(a[-1])), max(len(a) // 2, 5)) for a in axes)

    def ends_of(table: RatioTable) -> Tensor:
        return _ends(events.log_likelihood(checked, table)[0], checked, _CHECKED)

    ends = ends_of(table)
    for axis in events.context_axes:
        before = ends_of(table.thinned(axis))
        while float(_moved(before, ends).max()) > target.movement(axis):
            finer = events.doubled(table, axis) if table.count(axis) < most else None
            if finer is None:
                return None
            table = finer
            before, ends = ends, ends_of(table)
    return table


def _interpolated(
    events: MixtureLikelihood, target: _Target, table: RatioTable | None
) -> Lattice | None:
    """Return the lattice of a target; None if the table's windows cut a profile."""
    assert table is not None
    known = [
        (max(low, table.windows[axis][0]), min(high, table.windows[axis][1]))
        if axis in table.windows
        else (low, high)
        for axis, (low, high) in enumerate(target.start)
    ]
    evaluate = partial(events.log_likelihood, table=table)
    window, spacings = replace(target, start=known).zoom(evaluate)
    axes, fewer = target.nodes(window, spacings)
    values, at_truth = evaluate(axes)
    if _clipped(values, axes, known, target.start):
        return None
    unresolved = torch.full((len(values),), fewer)
    for axis in events.context_axes:
        most = target.resolution[axis].most
        while bool((rough := _thinning_moves(values, axes, axis) > target.movement(axis)).any()):
            if 2 * len(axes[axis]) - 1 > most:
                unresolved |= rough
                break
            others = _between(axes, axis)
            values, axes = _interleave(values, axes, evaluate(others)[0], others, axis)
    return Lattice(axes, values, at_truth, unresolved)


def _thinning_moves(values: Tensor, axes: Axes, axis: int) -> Tensor:
    """Return how far interval ends move without every other node of an axis, as `_moved`."""
    kept = torch.arange(0, len(axes[axis]), 2)
    fewer = _with(axes, axis, axes[axis][kept])
    return _moved(_ends(values.index_select(axis + 1, kept), fewer), _ends(values, axes))


def _clipped(values: Tensor, axes: Axes, window: Sequence[Window], start: Sequence[Window]) -> bool:
    """Return whether a profile is cut by a window that is inside the first one."""
    inside = torch.tensor([[w[0] > s[0], w[1] < s[1]] for w, s in zip(window, start, strict=True)])
    ends = [crossings(curve, *peak(curve), _CUT) for curve in profiles(values)]
    cut = torch.stack([torch.stack(e[2:4], -1) for e in ends], 1)  # (D, P, 2)
    return bool((cut & inside).any())


def _length(window: Window) -> float:
    return window[1] - window[0]


def _dense(events: MixtureLikelihood, targets: Sequence[_Target]) -> list[Lattice]:
    """Refine by evaluating every node, until two placements of the nodes agree.

    The second target has the spacing at which those of the first agree.
    """
    target = targets[0]
    window, spacings = target.zoom(events.log_likelihood)
    axes, fewer = target.nodes(window, spacings)
    values, at_truth = events.log_likelihood(axes)
    unresolved = torch.full((len(values),), fewer)
    for axis, r in enumerate(target.resolution):
        if r.tolerance is None:
            continue
        moved = torch.full((len(values),), torch.inf)
        while float(moved.max()) > target.movement(axis) and 2 * len(axes[axis]) - 1 <= r.most:
            others = _between(axes, axis)
            extra, _ = events.log_likelihood(others)
            moved = _moved(_ends(values, axes), _ends(extra, others))
            values, axes = _interleave(values, axes, extra, others, axis)
        unresolved |= moved > target.movement(axis)
    lattices = [Lattice(axes, values, at_truth, unresolved)]
    for other in targets[1:]:
        nodes, _ = other.nodes(other.start, [float(a[1] - a[0]) for a in axes])
        lattices.append(Lattice(nodes, *events.log_likelihood(nodes), unresolved))
    return lattices


def _between(axes: Axes, axis: int) -> Axes:
    """Return the axes with the middles between the nodes of one of them."""
    return _with(axes, axis, 0.5 * (axes[axis][1:] + axes[axis][:-1]))


def _with(axes: Axes, axis: int, nodes: Tensor) -> Axes:
    """Return the axes with other nodes on one of them."""
    return (*axes[:axis], nodes, *axes[axis + 1 :])


def _interleave(
    values: Tensor, axes: Axes, extra: Tensor, others: Axes, axis: int
) -> tuple[Tensor, Axes]:
    """Join the values at the nodes of an axis and at the middles between them."""
    place = torch.arange(2 * len(axes[axis]) - 1)
    order = place // 2 + place % 2 * len(axes[axis])  # old and new alternate
    joined = torch.cat([axes[axis], others[axis]])[order]
    both = torch.cat([values, extra], axis + 1).index_select(axis + 1, order)
    return both, _with(axes, axis, joined)


def _ends(values: Tensor, axes: Axes, thresholds: Tensor = _USUAL) -> Tensor:
    """Return the ends of every dataset's intervals, unit coordinates, (D, P, thresholds, 2)."""
    ends = []
    for curve, axis in zip(profiles(values), axes, strict=True):
        top, position = peak(curve)
        lower, upper, *_ = crossings(curve, top, position, thresholds)
        step = float(axis[1] - axis[0])
        ends.append(float(axis[0]) + step * torch.stack([lower.T, upper.T], -1))
    return torch.stack(ends, 1)


def _moved(before: Tensor, after: Tensor) -> Tensor:
    """Return the largest movement of each dataset's ends, in half-widths of the first interval."""
    # An interval cut at a bound can be arbitrarily short: 1/1000 of the axis is enough.
    widths = (after[:, :, :1, 1:] - after[:, :, :1, :1]).clamp_min(2e-3)
    return ((after - before).abs() / (0.5 * widths)).flatten(1).amax(-1)


def _box(curve: Tensor, top: Tensor, axis: Tensor, depth: float) -> Window:
    """Return the smallest window that holds all profiles (D, n) down to `depth`, one node wider."""
    inside = (curve >= top.unsqueeze(-1) - depth).any(0)
    inside[curve.argmax(-1)] = True
    nodes = inside.nonzero().squeeze(-1)
    return (
        float(axis[max(int(nodes[0]) - 1, 0)]),
        float(axis[min(int(nodes[-1]) + 1, len(axis) - 1)]),
    )


def _half_width(curve: Tensor, top: Tensor, position: Tensor, axis: Tensor) -> float:
    """Return a typical half-width of the intervals of profiles (D, n), unit coordinates.

    It is the lower quartile over datasets, so that most datasets reach the required resolution. A
    side that reaches the window's edge is ignored unless both do.
    """
    lower, upper, open_below, open_above, _ = crossings(curve, top, position)
    sides = torch.stack([position - lower, upper - position])
    known = ~torch.stack([open_below, open_above])
    known |= ~known.any(0)
    width = (sides * known).sum(0) / known.sum(0)
    return max(float(width.quantile(0.25)) * float(axis[1] - axis[0]), 1e-6)
