r"""Histogram templates, interpolated in the context: the standard before neural networks.

Every component is simulated at anchor contexts and binned ("template morphing", as in HistFactory,
Cranmer et al. 2012, CERN-OPEN-2012-016). All components share the bins, so the bin's volume is one
term in x alone.

In at most two context parameters the anchors are a grid. Each bin's probability is a polynomial in
the context, fitted to the anchors by least squares. The constant is one of the polynomials, so the
probabilities still sum to one.

In more, each parameter is varied alone, as in HistFactory. The anchors are the nominal context and
others that differ from it in one parameter. The logarithm of a bin's probability is a sum of
polynomials in one parameter each,

.. math:: \log p_b(\eta) = c_b + \sum_j \delta_{bj}(\eta_j) - \log Z(\eta),

so that effects multiply. An effect of one parameter that depends on another is not described.
"""

import warnings
from collections.abc import Mapping
from itertools import product
from math import comb, prod

import torch
from pydantic import Field
from torch import Tensor

from bench.contracts import (
    Draw,
    Features,
    FitContext,
    FitLog,
    Method,
    Settings,
    StoredTask,
    Surrogate,
    Task,
    Work,
)
from bench.errors import NotApplicable
from bench.nn.flops import TEMPLATES
from bench.nn.normaliser import chebyshev
from bench.nn.ratio import seen

_ANCHORS = {0: 1, 1: 17, 2: 7}
_ALONG = 6  # anchors along each of more context parameters


class HistogramConfig(Settings):
    """Configuration of the histogram.

    Args:
        anchors: anchor contexts per dimension; None for 17 in one dimension, 7 in two and 6 in
            more, where half of the simulations are at the nominal context besides.
        bins: bins per feature; None for as many as leave `per_bin` simulations in each.
        per_bin: simulations per bin at each anchor; with fewer, more than two context parameters
            are refused.
        degree: total degree of the polynomials; at most anchors − 1. Interpolating between
            anchors instead would make the score mostly noise (docs/explanation/architecture.md).
        floor: smallest probability of a bin, as a share of its average over anchors; it keeps
            polynomials positive and empty bins finite.
    """

    anchors: int | None = Field(default=None, ge=2)
    bins: int | None = Field(default=None, ge=2)
    per_bin: float = Field(default=50.0, gt=0)
    degree: int = Field(default=4, ge=1)
    floor: float = Field(default=0.05, gt=0, lt=1)


class Histogram(Method):
    """Binned templates over the features."""

    name = "histogram"
    title = "Histogram templates"
    family = "classical"
    citation = "Cranmer, Lewis, Moneta, Shibata & Verkerke (2012), CERN-OPEN-2012-016"
    Config = HistogramConfig
    config: HistogramConfig

    def check(self, task: Task) -> None:
        if isinstance(task, StoredTask):
            raise NotApplicable("histogram simulates at chosen contexts: use lre")
        numbers, summaries = prod(task.event_shape), _summaries(task)
        if numbers > 3 and not summaries:
            raise NotApplicable(
                f"histogram bins up to 3 features, {task.name} has {numbers} and no summaries: "
                "use lre"
            )

    def work(self, task: Task, budget: int) -> Work:
        numbers = 10.0 * prod(task.event_shape)
        looked_up = 2.0 * len(task.component_names)
        return Work(0, budget, numbers, looked_up, cpu=TEMPLATES, gpu=TEMPLATES)

    def _nodes(self, task: Task) -> int:
        """Return the number of anchors along each context parameter."""
        return self.config.anchors or _ANCHORS.get(len(task.space.context_index), _ALONG)

    def _anchors(self, task: Task) -> Tensor:
        """Return the contexts of the templates, (anchors, d) float32; the nominal one first."""
        d = len(task.space.context_index)
        nodes = torch.linspace(0, 1, self._nodes(task), dtype=torch.float64)
        if d > 2:
            along = nodes[:, None].expand(-1, len(task.space))
            varied = task.nominal.double().repeat(d, len(nodes), 1)
            varied.diagonal(dim1=0, dim2=2).copy_(
                task.space.context_of(task.space.from_unit(along))
            )
            return torch.cat([task.nominal[None].double(), varied.flatten(0, 1)]).float()
        unit = torch.full((len(nodes) ** d, len(task.space)), 0.5, dtype=torch.float64)
        grid = list(product(nodes.tolist(), repeat=d))
        unit[:, list(task.space.context_index)] = torch.tensor(grid, dtype=torch.float64)
        return task.space.context_of(task.space.from_unit(unit)).float()

    def _sizes(self, task: Task, budget: int, anchors: int) -> list[int]:
        """Return the simulations of a component at each anchor.

        The statistical error of the nominal template enters the effects of all parameters, so half
        of the simulations are there if each parameter is varied alone.
        """
        own = budget // len(task.component_names)
        if len(task.space.context_index) <= 2:
            return [own // anchors] * anchors
        each = own // (2 * (anchors - 1))
        return [own - each * (anchors - 1), *[each] * (anchors - 1)]

    def draws(self, task: Task, budget: int) -> list[Draw]:
        anchors = self._anchors(task)
        sizes = self._sizes(task, budget, len(anchors))
        return [
            Draw(name, n, anchor)
            for name in task.component_names
            for n, anchor in zip(sizes, anchors, strict=True)
        ]

    def fit(self, fit_context: FitContext) -> Surrogate:
        task, bank, features = fit_context.task, fit_context.bank, fit_context.features
        names, anchors = task.component_names, self._anchors(task)
        sizes = self._sizes(task, bank.budget, len(anchors))
        n = sizes[-1]
        if n < 1:
            raise NotApplicable(
                f"histogram needs a simulation at each of {len(anchors)} anchors of "
                f"{len(names)} components, more than the budget of {bank.budget}"
            )
        dimension = _summaries(task) or prod(task.event_shape)
        auto = (n / self.config.per_bin) ** (1 / dimension)
        bins = self.config.bins or int(min(max(auto, 4), 64))
        total = bins**dimension
        if anchors.shape[1] > 2 and n < self.config.per_bin * total:
            raise NotApplicable(
                f"histogram has {n} simulations for {total} bins at each of {len(anchors)} "
                f"contexts, under {self.config.per_bin:g} per bin with a budget of {bank.budget}: "
                "use lre"
            )
        y = torch.stack(
            [
                torch.cat(
                    [
                        seen(task, features, bank.draw(name, size, at=anchor).x)
                        for size, anchor in zip(sizes, anchors, strict=True)
                    ],
                    1,
                )
                for name in names
            ],
            1,
        )  # (members, K, simulations of all anchors, features)
        levels = torch.linspace(0, 1, bins + 1)[1:-1]
        edges = torch.stack(
            [
                torch.stack([_quantiles(column, levels) for column in member.flatten(0, 1).T])
                for member in y
            ]
        )  # (members, features, bins - 1)
        index = _bin(y.flatten(1, 2), edges).view(y.shape[:-1])
        one = torch.ones((), dtype=torch.float64)
        counts = torch.stack(
            [
                one.new_zeros(*part.shape[:2], total).scatter_add_(2, part, one.expand(part.shape))
                for part in torch.split(index, sizes, 2)
            ],
            2,
        )  # (members, K, anchors, bins^features)
        degree, eta = min(self.config.degree, self._nodes(task) - 1), features.context(anchors)
        if anchors.shape[1] > 2:
            coefficients = effects(counts, additive(eta, degree), self.config.floor)
            floor = torch.zeros_like(counts[:, :, 0])
        else:
            average = 0.99 * counts.mean(2) / n + 0.01 / total
            fit = torch.linalg.pinv(chebyshev(eta, degree))
            coefficients = torch.einsum("ca,mkab->mkcb", fit, counts / n)
            floor = self.config.floor * average
        log = FitLog(coefficients[0].numel(), [{} for _ in fit_context.members])
        state = {
            "edges": edges,
            "coefficients": coefficients.float(),
            "floor": floor.float(),
        }
        moved = {name: value.to(fit_context.device) for name, value in state.items()}
        return Templates(task, features, moved, log)

    def restore(self, task: Task, features: Features, state: Mapping[str, Tensor]) -> Surrogate:
        log = FitLog(state["coefficients"][0].numel())
        return Templates(task, features, state, log)


def _summaries(task: Task) -> int:
    """Return the number of summaries that the task declares."""
    summaries = task.summaries(torch.ones(1, *task.event_shape))
    return 0 if summaries is None else summaries.shape[-1]


def _quantiles(column: Tensor, levels: Tensor) -> Tensor:
    """Return quantiles by sorting, because torch.quantile accepts at most 16 million values."""
    ordered = column.sort().values
    return ordered[(levels * (len(ordered) - 1)).round().long()]


def _bin(y: Tensor, edges: Tensor) -> Tensor:
    """Return bin numbers (members, n) of features (members, n, features); outer bins are open."""
    bins = edges.shape[-1] + 1
    index = torch.zeros(y.shape[:2], dtype=torch.long, device=y.device)
    for feature in range(y.shape[-1]):
        column = y[..., feature].contiguous()
        index = index * bins + torch.searchsorted(edges[:, feature].contiguous(), column)
    return index


def additive(eta: Tensor, degree: int) -> Tensor:
    r"""Return 1 and the polynomials of each parameter, (\*B, d) to (\*B, 1 + d · degree) float64.

    Args:
        eta: contexts, scaled to [−1, 1].
        degree: largest degree of the Chebyshev polynomials.
    """
    each = chebyshev(eta[..., None], degree)  # of one dimension, for every parameter
    return torch.cat([each[..., 0, :1], each[..., 1:].flatten(-2)], -1)


def effects(counts: Tensor, basis: Tensor, floor: float) -> Tensor:
    """Fit the logarithms of probabilities by least squares, weighted by the counts.

    Args:
        counts: simulations in each bin, (members, K, anchors, bins) float64.
        basis: polynomials at the anchors, (anchors, terms) float64.
        floor: smallest probability of a bin, as a share of its average over anchors.

    Returns:
        Coefficients of the polynomials, (members, K, terms, bins) float64.
    """
    size = counts.sum(3, keepdim=True)
    share = counts / size
    probability = torch.maximum(share, floor * share.mean(2, keepdim=True))
    root = (size * probability).sqrt()  # the inverse error of a logarithm
    roots, values = (t.flatten(0, 1).mT for t in (root, root * probability.log()))
    fits = [
        torch.linalg.lstsq(r[..., None] * basis, v[..., None]).solution[..., 0].T
        for r, v in zip(roots, values, strict=True)
    ]
    return torch.stack(fits).view(*counts.shape[:2], *fits[0].shape)


class Templates:
    """Bin probabilities as polynomials in the context.

    Args:
        task: the task.
        features: binned variables, unless the task declares summaries.
        state: `edges` (members, features, bins − 1), `coefficients` (members, K, coefficients,
            bins^features) and `floor` (members, K, bins^features). In more than two dimensions of
            the context coefficients are of logarithms, which need no floor.
        log: losses and size of the fit.
    """

    reference = None
    has_density = False

    def __init__(
        self, task: Task, features: Features, state: Mapping[str, Tensor], log: FitLog
    ) -> None:
        self.task = task
        self.features = features
        self.edges, self.coefficients, self.floor = (
            state[k] for k in ("edges", "coefficients", "floor")
        )
        self.log = log

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        table, index = self._table(context, "jc,mkcb->mkbj"), self._bins(x)
        return torch.stack([t[:, i] for t, i in zip(table, index, strict=True)])

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        every = context.expand(len(self.edges), *context.shape[-2:])
        new = torch.ones(len(x), dtype=torch.bool, device=x.device)
        new[1:] = (every[:, 1:] != every[:, :-1]).any(-1).any(0)  # a run of equal contexts begins
        at, run, index = every[:, new].detach(), new.cumsum(0) - 1, self._bins(x)

        def table(context: Tensor) -> Tensor:
            return self._table(context, "mjc,mkcb->mkbj")

        def of_pairs(table: Tensor) -> Tensor:
            return torch.stack([t[:, i, run] for t, i in zip(table, index, strict=True)])

        out = of_pairs(table(at))
        if context.requires_grad:
            change = (every - every.detach())[:, None]  # zero, with the derivative of the context
            for j, direction in enumerate(torch.eye(context.shape[-1]).to(at)):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own
                    slope = torch.func.jvp(table, (at,), (direction.expand_as(at),))[1]
                out = out + of_pairs(slope) * change[..., j]
        return out

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a bin, and a uniform place in it, as `HasSamples`.

        The place is uniform in standardised features. Templates do not describe the density in a
        bin, which all components share. The outermost bins are open; samples fill them up to the
        width of their neighbours, or 2 if these are open too.

        Raises:
            NotApplicable: if bins are of summaries or of counts.
        """
        if self.task.discrete or _summaries(self.task):
            what = "counts" if self.task.discrete else "summaries"
            raise NotApplicable(f"histogram draws no samples from bins of {what}")
        (members, dimension, inner), components = self.edges.shape, self.coefficients.shape[1]
        shape = members, components, len(context), 1 + dimension
        uniform = torch.rand(shape, generator=generator).to(context.device)
        probability = self._table(context, "jc,mkcb->mkbj").exp().mT  # (members, K, n, bins)
        below = probability.double().cumsum(-1)
        chosen = (below <= uniform[..., :1] * below[..., -1:]).sum(-1)
        chosen = chosen.clamp_max(below.shape[-1] - 1)
        first, last = self.edges[..., :1], self.edges[..., -1:]
        widths = self.edges.diff() if inner > 1 else torch.full_like(first, 2.0)
        limits = torch.cat([first - widths[..., :1], self.edges, last + widths[..., -1:]], -1)
        columns: list[Tensor] = []
        for feature in reversed(range(dimension)):
            index = (chosen % (inner + 1)).flatten(1)
            chosen = chosen // (inner + 1)
            low, high = (limits[:, feature].gather(1, index + side) for side in (0, 1))
            place = uniform[..., 1 + feature].flatten(1)
            columns.insert(0, high - place * (high - low))  # bins contain their upper edge
        y = torch.stack(columns, -1)
        return self.features.inverse(y.view(*shape[:3], *self.task.event_shape))

    def _bins(self, x: Tensor) -> Tensor:
        """Return the bin of every observation, (members, n)."""
        y = seen(self.task, self.features, x).expand(len(self.edges), -1, -1)
        return _bin(y, self.edges)

    def _table(self, context: Tensor, product: str) -> Tensor:
        """Return logarithms of probabilities, (members, K, bins^features, contexts).

        Args:
            context: raw contexts, (J, d), or (members, J, d).
            product: how `torch.einsum` multiplies their polynomials with the coefficients.
        """
        d, eta = context.shape[-1], self.features.context(context)
        terms = self.coefficients.shape[2]
        if d > 2:
            basis = additive(eta, (terms - 1) // d).to(self.coefficients)
            return torch.einsum(product, basis, self.coefficients).log_softmax(2)
        degree = next(g for g in range(64) if comb(g + d, d) == terms)
        basis = chebyshev(eta, degree).to(self.coefficients)
        table = torch.einsum(product, basis, self.coefficients)
        table = torch.maximum(table, self.floor[..., None])
        return (table / table.sum(2, keepdim=True)).log()

    def state(self) -> Mapping[str, Tensor]:
        return {"edges": self.edges, "coefficients": self.coefficients, "floor": self.floor}
