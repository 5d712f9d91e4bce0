"""Evaluation plans: on which datasets surrogates are evaluated.

Parameters are drawn, and datasets simulated, from seeds that depend on the task, the plan, the
seed, the point and the set alone, so that every method sees the same datasets.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_MOST = 10**6  # of anything: beyond it a slip of the keyboard is likelier than a plan


class _Plan(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IndependentPlan(_Plan):
    """Independent datasets of M observations: the plan whose nominal coverage is 68.27 %.

    Args:
        uniform: number of datasets with parameters uniform in the inner box; these rank.
        per_point: number of datasets at each evaluation point.
        observations: M; the task's own where None.
    """

    kind: Literal["independent"] = "independent"
    uniform: int = Field(default=900, ge=2, le=_MOST)
    per_point: int = Field(default=100, ge=0, le=_MOST)
    observations: int | None = Field(default=None, ge=1, le=_MOST)


class BootstrapPlan(_Plan):
    """Bootstraps of larger sets, as in Sluijter, Diefenbacher, Bhimji & Nachman (2025).

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
    """Held-out simulations at contexts from the training range: losses and scores.

    Args:
        contexts: number of contexts; the unit of resampling.
        events: simulations of each component, and of the reference, at each context.
    """

    kind: Literal["heldout"] = "heldout"
    contexts: int = Field(default=64, ge=2, le=_MOST)
    events: int = Field(default=256, ge=2, le=_MOST)


Plan = Annotated[IndependentPlan | BootstrapPlan | HeldOutPlan, Field(discriminator="kind")]
