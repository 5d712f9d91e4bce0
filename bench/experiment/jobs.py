"""Jobs of a run: fits, predictions and scores of members; each saves its results."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from bench.contracts import Plan
from bench.execution.executor import JobIO
from bench.stages.fit import fit_members
from bench.stages.predict import predict_members
from bench.stages.score import score_member
from bench.stages.wrap import wrap_members
from bench.storage.entries import JobContext
from bench.storage.fit_spec import FitSpec


@dataclass(frozen=True, kw_only=True)
class MemberJob(ABC):
    """Job for members of one fit.

    Args:
        context: results folder, plugins and device.
        spec: the fit.
        members: numbers of the members.
        after: keys of the jobs that must succeed before.
    """

    stage: ClassVar[str]

    context: JobContext
    spec: FitSpec
    members: tuple[int, ...]
    after: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """Name of the job."""
        return f"{self.stage} {self.spec.folder} {self.members[0]}"

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """Keys of the entries that it writes."""

    @cached_property
    def io(self) -> JobIO | None:
        """Entries to send along; None for a job that stays on the machine with the store."""
        return None

    @abstractmethod
    def perform(self, report: Callable[..., None]) -> Any:
        """Make the missing entries; return "done" or "reused", or errors by failed metric."""


@dataclass(frozen=True, kw_only=True)
class FitJob(MemberJob):
    """Job that trains members, or wraps those of another fit."""

    stage = "fit"

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.spec.fit_key(m) for m in self.members)

    @cached_property
    def io(self) -> JobIO | None:
        if not self.spec.wrappings:
            return JobIO((), self.keys)
        if not self.spec.wrappings[-1].calls:
            return None
        taken = (base for m in self.members for base in self.spec.base_members(m))
        return JobIO(tuple(k for m in taken for k in self.spec.base.state_keys(m)), self.keys)

    def perform(self, report: Callable[..., None]) -> str:
        make = wrap_members if self.spec.wrappings else fit_members
        return make(self.context, self.spec, self.members, report)


@dataclass(frozen=True, kw_only=True)
class PlanJob(MemberJob):
    """Job for members under an evaluation plan.

    Args:
        plan: the plan, as the task allows it.
        folder: the plan's folder.
    """

    plan: Plan
    folder: str

    @cached_property
    def key(self) -> str:
        return f"{self.stage} {self.spec.folder} {self.folder} {self.members[0]}"


@dataclass(frozen=True, kw_only=True)
class PredictJob(PlanJob):
    """Job that evaluates members on the datasets of a plan, all in one pass.

    Args:
        seed: seed of the datasets.
    """

    stage = "predict"

    seed: int

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.spec.prediction_key(self.folder, m) for m in self.members)

    @cached_property
    def io(self) -> JobIO:
        return JobIO(tuple(k for m in self.members for k in self.spec.state_keys(m)), self.keys)

    def perform(self, report: Callable[..., None]) -> str:
        where = self.plan, self.folder, self.seed
        return predict_members(self.context, self.spec, self.members, *where, report)


@dataclass(frozen=True, kw_only=True)
class ScoreJob(PlanJob):
    """Job that scores a member's prediction.

    Args:
        truth: the fit of the exact likelihood, or None.
    """

    stage = "score"

    truth: FitSpec | None

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.spec.score_key(self.folder, self.members[0]),)

    def perform(self, report: Callable[..., None]) -> str | dict[str, str]:
        (member,) = self.members
        return score_member(self.context, self.spec, self.truth, member, self.plan, self.folder)
