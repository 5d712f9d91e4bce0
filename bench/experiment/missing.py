"""Search for the entries of a run that are missing, stale or damaged in a results folder.

Scores remain valid without their prediction, and predictions without their weights. Results kept
without them can be extended, and none of their entries is made again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from bench.contracts import Plan, Task
from bench.registry.registry import Registry
from bench.stages.score import is_current, score_inputs
from bench.storage.entries import is_done, is_recorded
from bench.storage.fit_spec import FitSpec
from bench.storage.store import Store


@dataclass(frozen=True)
class Request:
    """Request of a run for one fit: its members, and the plans to evaluate them on.

    Args:
        spec: the fit.
        members: the numbers of its members.
        plans: the evaluation plans, each with its folder; empty if only other fits use the fit.
    """

    spec: FitSpec
    members: range
    plans: Sequence[tuple[Plan, str]]

    @property
    def keys(self) -> list[str]:
        """Keys of its fits, predictions and scores."""
        spec, folders = self.spec, [folder for _, folder in self.plans]
        return [
            key
            for m in self.members
            for key in (
                spec.fit_key(m),
                *(spec.prediction_key(folder, m) for folder in folders),
                *(spec.score_key(folder, m) for folder in folders),
            )
        ]


def missing_keys(
    store: Store,
    registry: Registry,
    task: Task,
    requests: Sequence[Request],
    truth: FitSpec | None,
    overwrite_before: float,
) -> frozenset[str]:
    """Return the keys of a task's fits, predictions and scores that are to be made.

    Args:
        store: the results folder.
        registry: the metrics, on which scores depend.
        task: the task.
        requests: the requests of the task, each fit after those that it reads.
        truth: the fit of the exact likelihood, or None.
        overwrite_before: entries made before this time are made again; 0 keeps all.
    """
    found: set[str] = set()

    @cache
    def there(key: str) -> bool:
        return is_done(store, key, overwrite_before, task)

    def need(*keys: str) -> None:
        found.update(key for key in keys if not there(key))

    for part in requests:
        spec = part.spec
        for member, (plan, folder) in product(part.members, part.plans):
            scores, prediction = spec.score_key(folder, member), spec.prediction_key(folder, member)
            inputs = score_inputs(store, registry, spec, truth, member, plan.kind, folder)
            record = store.record(scores) or {}
            stale = not there(scores) or not is_current(record, inputs)
            # These scores lack the exact likelihood, which this run has or makes.
            stale = stale or (truth is not None and record["inputs"].get("truth") is None)
            if stale:
                found.add(scores)
            if stale or (store.holds(f"{prediction}.json") and not there(prediction)):
                need(prediction, *([truth.prediction_key(folder, 0)] if truth else ()))
    for part in reversed(requests):
        spec = part.spec
        for member in part.members:
            fit = spec.fit_key(member)
            if any(spec.prediction_key(folder, member) in found for _, folder in part.plans):
                need(*spec.state_keys(member))
            recorded = not part.plans or is_recorded(store, fit, overwrite_before)
            if not recorded or store.holds(f"{fit}.safetensors"):
                need(fit)
            if fit in found:
                need(*spec.base_keys(member))
    return frozenset(found)
