"""Count of simulator calls of planned jobs: calls to be made, and calls charged to budgets."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.contracts import (
    DatasetDraw,
    Draw,
    HeldOutPlan,
    Method,
    Plan,
    ReferenceKind,
    Split,
    Task,
    TrainingData,
)
from bench.contracts.plan import observations_of
from bench.experiment.jobs import FitJob, MemberJob, PredictJob
from bench.registry.registry import Registry
from bench.stages.datasets import set_chunks
from bench.stages.held_out import held_out_bank, held_out_chunk
from bench.stages.members import wrapper_of
from bench.stages.simulate import SimulationBank, feature_bank
from bench.storage.fit_spec import FitSpec
from bench.storage.simulations import Chunk, Purpose, SimulationStore
from bench.storage.store import Store


@dataclass(frozen=True)
class Calls:
    """Simulator calls of planned jobs for one task.

    Args:
        task: name of the task.
        expensive: whether the task declares its calls to be expensive.
        made: calls that will be made, by purpose; stored simulations are not repeated.
        charged: calls that count against the budgets of all members.
        unknown: methods that do not announce their draws, and are not counted.
    """

    task: str
    expensive: bool
    made: Mapping[Purpose, int]
    charged: int
    unknown: tuple[str, ...]


def count_calls(jobs: Sequence[MemberJob], registry: Registry, store: Store) -> list[Calls]:
    """Count the simulator calls of planned jobs, for every task that has a simulator."""
    simulations = SimulationStore(store)
    tasks = {name: registry.task(name) for name in dict.fromkeys(job.spec.task for job in jobs)}
    return [
        _Counter(task, registry, simulations).count([job for job in jobs if job.spec.task == name])
        for name, task in tasks.items()
        if observations_of(task, "train") is None
    ]


class _Counter:
    """Counter of one task's calls; simulations that several jobs share count once."""

    def __init__(self, task: Task, registry: Registry, simulations: SimulationStore) -> None:
        self.task = task
        self.registry = registry
        self.simulations = simulations
        self._seen: set[str] = set()
        self._made: Counter[Purpose] = Counter()
        self._evaluated: dict[tuple[object, ...], list[Chunk]] = {}

    def count(self, jobs: Sequence[MemberJob]) -> Calls:
        charged = 0
        unknown: dict[str, None] = {}
        for job in jobs:
            spec = job.spec
            if isinstance(job, PredictJob):
                self._make_features()
                self._make(self._evaluation(job))
            if not isinstance(job, FitJob) or (spec.wrappings and not spec.wrappings[-1].calls):
                continue
            self._make_features()
            draws = self._draws(spec)
            if draws is None:
                unknown[spec.label] = None
                continue
            data: TrainingData = "shared" if spec.oracle else spec.identity["training_data"]
            bank = SimulationBank(self.task, self.simulations, 0, job.members, data, spec.seed)
            split: Split = "calibration" if spec.wrappings else "train"
            for draw in draws:
                self._make(bank.chunks(draw, split))
            charged += len(job.members) * sum(draw.n for draw in draws)
        return Calls(self.task.name, self.task.expensive, dict(self._made), charged, tuple(unknown))

    def _make_features(self) -> None:
        bank, draw = feature_bank(self.task, self.simulations)
        self._make(bank.chunks(draw, "features"))

    def _make(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            if chunk.key is not None:
                if chunk.key in self._seen:
                    continue
                self._seen.add(chunk.key)
                if self.simulations.record(chunk.key) is not None:
                    continue
            self._made[chunk.purpose] += chunk.calls

    def _method(self, spec: FitSpec) -> Method:
        found = self.registry.method(spec.method)
        config = spec.identity["method"]["config"]
        return found(found.Config.model_validate(config))

    def _draws(self, spec: FitSpec) -> Sequence[Draw | DatasetDraw] | None:
        if spec.oracle:
            return []
        method = self._method(spec)
        try:
            if not spec.wrappings:
                return method.draws(self.task, spec.identity["budget"])
            outermost = spec.wrappings[-1]
            wrapper = wrapper_of(self.registry, outermost)
            reference = method.reference_kind(self.task)
            return wrapper.draws(self.task, outermost.calls, reference)
        except Exception:  # a plugin's error or a too small budget; the fit reports it
            return None

    def _evaluation(self, job: PredictJob) -> list[Chunk]:
        reference = self._method(job.spec).reference_kind(self.task)
        key = (job.plan, job.seed, reference)
        if key not in self._evaluated:
            self._evaluated[key] = self._chunks(*key)
        return self._evaluated[key]

    def _chunks(self, plan: Plan, seed: int, reference: ReferenceKind | None) -> list[Chunk]:
        """Return the chunks of a plan; those without a key, which are not stored, become one."""
        if isinstance(plan, HeldOutPlan):
            numbers = range(1, plan.contexts + 1)
            names = self.task.component_names
            chunks = [held_out_chunk(self.task, plan, seed, k, i) for k in names for i in numbers]
            if reference is not None:
                bank, draw = held_out_bank(self.task, plan, seed, self.simulations, reference)
                chunks += bank.chunks(draw, "heldout")
        else:
            chunks = [chunk for *_, chunk in set_chunks(self.task, plan, seed)]
        loose = sum(chunk.calls for chunk in chunks if chunk.key is None)
        return [Chunk(None, loose, "evaluation"), *(c for c in chunks if c.key is not None)]
