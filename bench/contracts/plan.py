"""Evaluation plans: the datasets on which surrogates are evaluated.

Datasets and their parameters are drawn from seeds that depend only on the task, the plan, the
seed, the point and the set. All methods are therefore evaluated on the same datasets.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.contracts.stored import StoredTask
from bench.contracts.task import Split, Task
from bench.errors import NotApplicable, counted

EvaluatorName = Literal["lattice", "gradient"]

_LATTICE = 2  # most parameters of a lattice
_MOST = 10**6  # upper limit of any number in a plan: larger ones are probably typing errors


class _Plan(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    later: ClassVar[Mapping[str, Any]] = {}
    """Settings that older results do not have, with the values of these."""

    def definition(self) -> dict[str, Any]:
        """Return the settings that identify the plan, without those of later versions if unused."""
        unused = {name for name, value in self.later.items() if getattr(self, name) == value}
        return self.model_dump(mode="json", exclude=unused)


class IndependentPlan(_Plan):
    """Plan of independent datasets of M observations; nominal coverage is 68.27 %.

    Args:
        uniform: number of datasets with parameters uniform in the inner box; these rank methods.
        per_point: number of datasets at each evaluation point.
        observations: M; the task's own where None.
        multiple: size of a dataset in units of M. Equal seeds give equal parameters at all sizes.
        theta: whether uniform parameters are random or a scrambled Sobol sequence. Datasets of
            stored simulations have the stored parameters instead.
        evaluator: how likelihoods are evaluated: on a lattice, for at most two parameters, or by
            gradients. None for a lattice where it is possible.
        first: number of the first dataset, in a part of a larger set of datasets. Parts are
            evaluated separately, and have no leaderboard. None if the plan is no part.
    """

    later = {"multiple": 1, "theta": "random", "evaluator": None, "first": None}
    kind: Literal["independent"] = "independent"
    uniform: int = Field(default=900, ge=2, le=_MOST)
    per_point: int = Field(default=100, ge=0, le=_MOST)
    observations: int | None = Field(default=None, ge=1, le=_MOST)
    multiple: int = Field(default=1, ge=1, le=1000)
    theta: Literal["random", "sobol", "stored"] = "random"
    evaluator: EvaluatorName | None = None
    first: int | None = Field(default=None, ge=0, le=_MOST)

    @model_validator(mode="after")
    def _without_points(self) -> "IndependentPlan":
        if self.first is not None and self.per_point:
            raise ValueError("a part has no datasets at evaluation points; set per_point = 0")
        return self


class BootstrapPlan(_Plan):
    """Plan of bootstraps of larger sets, as in Sluijter et al. (2025, arXiv:2503.07962).

    At every evaluation point there are disjoint sets of `multiple` · M events; each is resampled
    `bootstraps` times to M events. Even exact intervals then cover 65.7 % at multiple 9.

    Args:
        sets: number of sets at each evaluation point.
        multiple: k, the size of a set in units of M.
        bootstraps: number of resamplings of each set.
        stratified: whether a set holds exactly round(k M w) events of each component, as in the
            paper, or a multinomial number.
        observations: M; the task's own where None.
    """

    kind: Literal["bootstrap"] = "bootstrap"
    sets: int = Field(default=5, ge=1, le=_MOST)
    multiple: int = Field(default=9, ge=1, le=_MOST)
    bootstraps: int = Field(default=100, ge=2, le=_MOST)
    stratified: bool = True
    observations: int | None = Field(default=None, ge=1, le=_MOST)


class HeldOutPlan(_Plan):
    """Plan of held-out simulations at contexts from the training range: losses and scores.

    Args:
        contexts: number of contexts; the unit of resampling.
        events: simulations of each component, and of the reference, at each context.
    """

    kind: Literal["heldout"] = "heldout"
    contexts: int = Field(default=64, ge=2, le=_MOST)
    events: int = Field(default=256, ge=2, le=_MOST)


Plan = Annotated[IndependentPlan | BootstrapPlan | HeldOutPlan, Field(discriminator="kind")]


def observations_of(task: Task, split: Split) -> int | None:
    """Return the number of observations of a component in a split; None for simulators."""
    sizes = [c.size for c in task.components(split).values() if c.size is not None]
    return min(sizes, default=None)


def fit_to(task: Task, plan: Plan) -> Plan:
    """Shrink a plan to the number of observations that a task has.

    A bootstrap plan gets fewer sets first, then smaller ones; an independent plan fewer datasets
    at the evaluation points; a held-out plan fewer events at each context. Stored simulations
    allow an independent plan without evaluation points, of at most their number of observations.

    Raises:
        NotApplicable: if there is not one dataset, or too many parameters for the plan.
    """
    if not isinstance(plan, HeldOutPlan) and (reason := _off_lattice(task)):
        if isinstance(plan, BootstrapPlan):
            raise NotApplicable(f"bootstraps are evaluated on a lattice, and {reason}")
        if plan.evaluator == "lattice":
            raise NotApplicable(f"{reason}; the gradient evaluator takes all tasks")
    if isinstance(task, StoredTask):
        return _fit_to_stored(task, plan)
    if isinstance(plan, IndependentPlan) and plan.theta == "stored":
        raise NotApplicable(f"{task.name} has a simulator, and no stored parameters")
    size = observations_of(task, "heldout" if isinstance(plan, HeldOutPlan) else "test")
    if size is None:
        return plan
    if isinstance(plan, IndependentPlan) and plan.first is not None:
        raise NotApplicable(f"{task.name} has recorded observations, whose datasets have no parts")
    if isinstance(plan, HeldOutPlan):
        if size < 2 * plan.contexts:
            raise NotApplicable(
                f"{task.name} has {counted(size, 'held-out observation')} of a component, and the "
                f"plan takes 2 at each of {counted(plan.contexts, 'context')}"
            )
        return plan.model_copy(update={"events": min(plan.events, size // plan.contexts)})
    each = _largest(task, plan)
    available = size // each
    if available == 0:
        raise NotApplicable(
            f"{task.name} has {counted(size, 'test observation')} of a component, and a dataset "
            f"takes up to {each:,}"
        )
    if isinstance(plan, IndependentPlan):
        return plan.model_copy(update={"per_point": min(plan.per_point, available)})
    multiple = min(plan.multiple, available)
    sets = min(plan.sets, available // multiple)
    return plan.model_copy(update={"multiple": multiple, "sets": sets})


def _fit_to_stored(task: StoredTask, plan: Plan) -> IndependentPlan:
    """Return the plan of stored datasets that is closest to a plan.

    Raises:
        NotApplicable: if the plan chooses parameters, or there are fewer than two datasets.
    """
    if not isinstance(plan, IndependentPlan):
        raise NotApplicable(
            f"a {plan.kind} plan simulates at parameters that it chooses, and stored simulations "
            "have parameters of their own"
        )
    size = observations_of(task, "test") or 0
    if (available := size // task.observations - (plan.first or 0)) < 2:
        from_there = f" from number {plan.first:,} on" if plan.first else ""
        raise NotApplicable(
            f"{task.name} has {counted(max(available, 0), 'test dataset')} in the inner box"
            f"{from_there}; 2 are needed"
        )
    observations = min(plan.observations or task.observations, task.observations)
    return plan.model_copy(
        update={
            "uniform": min(plan.uniform, available),
            "per_point": 0,
            "theta": "stored",
            "observations": None if observations == task.observations else observations,
            "multiple": min(plan.multiple, task.observations // observations),
        }
    )


def _off_lattice(task: Task) -> str:
    """Return why a task's likelihoods cannot be evaluated on a lattice; empty if they can."""
    if (parameters := len(task.space)) > _LATTICE:
        return f"a lattice has at most {_LATTICE} parameters, and {task.name} has {parameters}"
    if task.has_auxiliary:
        what = "constraints" if task.constraints else "a rate"
        return f"a lattice takes no constraints and no rate, and {task.name} has {what}"
    return ""


def evaluator_of(task: Task, plan: IndependentPlan | BootstrapPlan) -> EvaluatorName:
    """Return the evaluator of a plan's likelihoods: by default the lattice where it is possible."""
    chosen = plan.evaluator if isinstance(plan, IndependentPlan) else None
    return chosen or ("gradient" if _off_lattice(task) else "lattice")


def number_of_blocks(task: Task, plan: Plan) -> int | None:
    """Return the number of disjoint blocks of a task's observations.

    None for simulators, and for stored datasets, each of which is used once.
    """
    size = observations_of(task, "test")
    if size is None or isinstance(task, StoredTask):
        return None
    if isinstance(plan, HeldOutPlan):
        return plan.contexts
    if isinstance(plan, BootstrapPlan):
        return plan.sets
    available = size // _largest(task, plan)
    return max(min(plan.uniform, available), plan.per_point)


def _largest(task: Task, plan: IndependentPlan | BootstrapPlan) -> int:
    """Return the largest number of observations of a dataset, or of a bootstrap's M.

    A Poisson number is larger with a probability of 10⁻⁸ at most. Its expectation is taken at
    corners of the box, where that of a sum of yields is largest.
    """
    size = plan.observations or task.observations
    if isinstance(plan, BootstrapPlan):
        return size
    size *= plan.multiple
    if not task.has_rate:
        return size
    parameters = len(task.space)
    count = min(2**parameters, 1024)
    corner = np.random.default_rng(0).choice(2**parameters, count, replace=False)
    high = torch.from_numpy((corner[:, None] >> np.arange(parameters)) & 1).bool()
    rate = task.rate(task.space.from_unit(torch.where(high, task.space.box[1], task.space.box[0])))
    assert rate is not None
    expected = float(rate.max()) * size / task.observations
    return math.ceil(expected + 6 * math.sqrt(expected))


def number_of_sets(task: Task, plan: IndependentPlan | BootstrapPlan) -> int:
    """Return the number of sets of events that a plan has on a task."""
    uniform, each = shares(plan)
    return uniform + each * len(task.points)


def shares(plan: IndependentPlan | BootstrapPlan) -> tuple[int, int]:
    """Return the numbers of sets with uniformly drawn parameters, and at each point."""
    return (plan.uniform, plan.per_point) if isinstance(plan, IndependentPlan) else (0, plan.sets)


def layout(
    plan: Plan, points: int, blocks: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """List the sets of a plan in order.

    Args:
        plan: the plan; the sets of a held-out plan are its contexts.
        points: number of evaluation points.
        blocks: number of disjoint blocks of observations, where these are finite.

    Returns:
        Each set's evaluation point (−1 where θ is drawn uniformly), its number at that point, and
        its block, (S,).
    """
    uniform, each = (plan.contexts, 0) if isinstance(plan, HeldOutPlan) else shares(plan)
    point = np.concatenate([np.full(uniform, -1), np.repeat(np.arange(points), each)])
    first = (plan.first or 0) if isinstance(plan, IndependentPlan) else 0
    number = np.concatenate([first + np.arange(uniform), np.tile(np.arange(each), points)])
    return point, number, np.arange(len(point)) if blocks is None else number % blocks
