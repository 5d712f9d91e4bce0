r"""Gradient boosting: a common first choice of classifier, calibrated on held-out pairs.

Boosted trees (Friedman 2001) of scikit-learn's histogram kind take (x, η) and separate a
component's simulations from the evidence reference, for which η is drawn independently of x.
Isotonic or Platt calibration turns their log-odds into :math:`\log p_k(x|\eta) / p_\text{ref}(x)`
(Cranmer, Pavez & Louppe 2015, arXiv:1506.02169). All components share the reference, so that it
cancels.

Trees are step functions of the context, too, and so is the likelihood, whose intervals end at a
step. `smooth` replaces every leaf's steps by a polynomial in η fitted to them, as the histogram
does with its bins. Leaves are stored as boxes (`bench/nn/trees.py`): no scikit-learn object is
pickled, or needed to restore.
"""

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bench.contracts import (
    ComponentMethod,
    Draw,
    Features,
    FitContext,
    FitLog,
    ReferenceKind,
    Settings,
    Simulations,
    Task,
    TrainingCurve,
    equal_draws,
)
from bench.errors import BudgetExceeded, NotApplicable
from bench.nn.calibration import Calibration, CalibrationKind, pairwise
from bench.nn.ratio import seen
from bench.nn.trees import Leaves, boxes, nodes_of

_LEAVES = ("lower", "upper", "value")
_STEPS = (
    "trees are step functions of the context, without a gradient: only gradient-boosting:smooth "
    "takes more than two parameters"
)


class GradientBoostingConfig(Settings):
    """Configuration of gradient boosting; the first five are scikit-learn's, with its defaults.

    Args:
        learning_rate: shrinkage of every tree.
        leaves: leaves of a tree, at most.
        leaf_rows: training rows of a leaf, at least.
        bins: bins of each feature, between which trees are split.
        patience: number of trees without a better validation loss after which training stops.
        trees: number of trees, at most.
        validation_share: share of the simulations held out to choose the number of trees.
        calibration_share: share of the simulations held out for the calibration.
        calibration: kind of the map.
        degree: total degree of the polynomials in the context that replace steps; None keeps
            steps. They are fitted to the steps on a grid of about 300 contexts. In more than two
            dimensions it is 1024 scattered contexts, and the number of terms limits the degree to
            4 up to six dimensions, 3 up to ten, 2 beyond.
    """

    learning_rate: float = Field(default=0.1, gt=0)
    leaves: int = Field(default=31, ge=2)
    leaf_rows: int = Field(default=20, ge=1)
    bins: int = Field(default=255, ge=2, le=255)
    patience: int = Field(default=10, ge=1)
    trees: int = Field(default=1000, ge=1)
    validation_share: float = Field(default=0.1, gt=0, le=0.5)
    calibration_share: float = Field(default=0.1, gt=0, le=0.4)
    calibration: CalibrationKind = "isotonic"
    degree: int | None = Field(default=None, ge=1, le=12)


class GradientBoosting(ComponentMethod):
    """Likelihood-ratio estimation with boosted trees."""

    name = "gradient-boosting"
    title = "Gradient-boosted trees, calibrated (scikit-learn)"
    family = "discriminative"
    citation = "Friedman (2001), Ann. Stat. 29, 1189; scikit-learn (Pedregosa et al. 2011)"
    Config = GradientBoostingConfig
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "smooth": {"degree": 4, "calibration": "platt"},
    }
    config: GradientBoostingConfig

    def check(self, task: Task) -> None:
        super().check(task)
        if len(task.space) > 2 and task.space.context_index and self.config.degree is None:
            raise NotApplicable(_STEPS)

    def reference_kind(self, task: Task) -> ReferenceKind:
        return "evidence"

    def draws(self, task: Task, budget: int) -> list[Draw]:
        return equal_draws(task, budget)

    def fit_component(self, component: str, fit_context: FitContext) -> "BoostedTrees":
        task, n = fit_context.task, fit_context.calls_per_component
        drawn = {name: fit_context.bank.draw(name, n) for name in task.component_names}
        shares = (self.config.validation_share, self.config.calibration_share)
        ends = np.cumsum([max(1, int(n * share)) for share in shares])
        if n <= ends[-1]:
            raise BudgetExceeded("the budget leaves no simulation to train on")
        parts = [slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], None)]
        members = range(len(fit_context.members))
        leaves, maps, curves = zip(
            *(self._fit_member(component, fit_context, drawn, parts, i) for i in members),
            strict=True,
        )
        state = Calibration.stack(maps).state()
        for name in _LEAVES:  # padding has value 0
            state[name] = pad_sequence([getattr(trees, name) for trees in leaves], batch_first=True)
        log = FitLog(max(len(trees.value) for trees in leaves), [{"": c} for c in curves])
        moved = {name: value.to(fit_context.device) for name, value in state.items()}
        return BoostedTrees(task, fit_context.features, moved, log, self.config.degree)

    def _fit_member(
        self,
        component: str,
        fit_context: FitContext,
        drawn: Mapping[str, Simulations],
        parts: Sequence[slice],
        i: int,
    ) -> tuple[Leaves, Calibration, TrainingCurve]:
        """Grow and calibrate the trees of the i-th member.

        Args:
            component: component that is separated from the reference.
            fit_context: context of the whole block.
            drawn: simulations by component.
            parts: rows of every component for validation, calibration and training.
            i: index of the member in the block.
        """
        task, features = fit_context.task, fit_context.features
        generators = fit_context.generators(f"{component} trees")
        rng = generators[i]
        numbers = {name: seen(task, features, own.x[i]) for name, own in drawn.items()}
        # Components alternate, so that any part contains all of them equally.
        evidence = torch.stack(list(numbers.values()), 1)

        def rows(part: slice) -> tuple[Tensor, Tensor]:
            """Return pairs simulated together, labelled 1, and of the reference, labelled 0."""
            y, eta = numbers[component][part], drawn[component].context[i, part]
            others = evidence[part].flatten(0, 1)
            context = features.context(fit_context.draw_contexts(len(others), generators)[i])
            inputs = [torch.cat(p, 1) for p in ((y, features.context(eta)), (others, context))]
            label = torch.cat([torch.ones(len(y)), torch.zeros(len(others))])
            return torch.cat(inputs), label

        held_out, _, data = map(rows, parts)
        boxes, curve = self._grow(data, held_out, rng)
        epochs, best = len(curve.validation_loss), min(curve.validation_loss)
        fit_context.report(stage=component, epoch=epochs, epochs=epochs, loss=best)
        trees = Leaves(*boxes, self.config.degree)

        def log_odds(y: Tensor, eta: Tensor) -> Tensor:
            return trees(y, features.context(eta))[None]

        contexts = torch.stack([d.context[i, parts[1]] for d in drawn.values()], 1)
        calibrating = evidence[parts[1]].flatten(0, 1), contexts.flatten(0, 1)
        together, apart = pairwise(log_odds, *calibrating)
        own = together[0, task.component_names.index(component) :: len(drawn)]
        return trees, Calibration.fit(self.config.calibration, own, apart[0], len(own)), curve

    def _grow(
        self,
        data: tuple[Tensor, Tensor],
        held_out: tuple[Tensor, Tensor],
        rng: torch.Generator,
    ) -> tuple[tuple[Tensor, Tensor, Tensor], TrainingCurve]:
        """Grow trees; return those up to the lowest validation loss as boxes, and the curve."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        config = self.config
        model = HistGradientBoostingClassifier(
            learning_rate=config.learning_rate,
            max_iter=config.trees,
            max_leaf_nodes=config.leaves,
            min_samples_leaf=config.leaf_rows,
            max_bins=config.bins,
            early_stopping=True,
            n_iter_no_change=config.patience,
            random_state=int(torch.randint(2**31 - 1, (), generator=rng)),
        )
        x, label, x_held_out, label_held_out = (t.double().numpy() for t in (*data, *held_out))
        begin = perf_counter()
        model.fit(
            x,
            label,
            sample_weight=_balanced(label),
            X_val=x_held_out,
            y_val=label_held_out,
            sample_weight_val=_balanced(label_held_out),
        )
        seconds = perf_counter() - begin
        training, validation = (
            (-s).tolist() for s in (model.train_score_, model.validation_score_)
        )
        best = int(np.argmin(validation))  # the first entry is for no tree
        grown = len(validation) - 1
        curve = TrainingCurve(
            training[1:],
            validation[1:],
            best,
            grown,
            seconds,
            seconds * best / max(1, grown),
        )
        forest, constant = nodes_of(model)
        return boxes(forest[:best], constant, x.shape[1]), curve

    def restore_component(
        self, component: str, task: Task, features: Features, state: Mapping[str, Tensor]
    ) -> "BoostedTrees":
        log = FitLog(state["value"].shape[1])
        return BoostedTrees(task, features, dict(state), log, self.config.degree)


def _balanced(label: Any) -> Any:
    """Return weights that balance both classes; they sum to the number of rows."""
    share = label.mean()
    return 0.5 * np.where(label > 0, 1 / share, 1 / (1 - share))


class BoostedTrees:
    """Calibrated boosted trees of one component.

    Args:
        task: the task.
        features: inputs of the trees, unless the task declares summaries.
        state: `lower` and `upper` (members, leaves, inputs), `value` (members, leaves), and the
            calibration's `nodes` and `values` (members, nodes).
        log: losses and size of the fit.
        degree: as in `Leaves`.
    """

    def __init__(
        self,
        task: Task,
        features: Features,
        state: Mapping[str, Tensor],
        log: FitLog,
        degree: int | None,
    ) -> None:
        self.task = task
        self.features = features
        self.log = log
        self._state = state
        self.trees = [
            Leaves(lower, upper, value, degree)
            for lower, upper, value in zip(*(state[name] for name in _LEAVES), strict=True)
        ]
        self.calibration = Calibration(state["nodes"], state["values"])

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        y, eta = seen(self.task, self.features, x), self.features.context(context)
        return self.calibration(torch.stack([trees(y, eta) for trees in self.trees]))

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        if self.trees[0].degree is None and context.shape[-1]:
            raise NotApplicable(_STEPS)
        y, eta = seen(self.task, self.features, x), self.features.context(context)
        own = eta.expand(len(self.trees), -1, -1)
        log_odds = [t.paired(y, at) for t, at in zip(self.trees, own, strict=True)]
        return self.calibration(torch.stack(log_odds))

    def state(self) -> Mapping[str, Tensor]:
        return self._state
