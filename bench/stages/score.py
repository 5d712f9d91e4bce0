"""Scores: contributions of every metric, averaged within each set of events.

Each set is drawn from a single block, the unit of resampling, so the averages suffice to estimate
errors.
"""

import reprlib
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.contracts import HeldOutPrediction, LikelihoodPrediction, Metric, Plan
from bench.errors import PluginError, message_of
from bench.registry.registry import Registry
from bench.registry.validate import blamed, is_key
from bench.stages.predict import load
from bench.storage.arrays import SETS
from bench.storage.entries import JobContext, done, is_done, is_recorded, read, read_done
from bench.storage.fit_spec import FitSpec
from bench.storage.store import Store

Prediction = LikelihoodPrediction | HeldOutPrediction

_MOST_KEYS = 1000  # keys of a metric
_NAMED = 5  # datasets named in a message


def score(
    metrics: Sequence[Metric], prediction: Prediction | None, truth: Prediction | None
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Compute every metric of one member's prediction.

    Args:
        metrics: metrics defined for the prediction's plan.
        prediction: the member's prediction.
        truth: the exact likelihood's prediction of the same datasets, if there is one.

    Returns:
        `point`, `set` and `block` (S,) and, as `metric/key`, the mean contribution of each set
        (S,); and the reason of each metric that is not defined.

    Raises:
        PluginError: if a metric fails, or its result breaks the contract of metrics.
    """
    assert prediction is not None
    point, number, block = _units(prediction)
    order, first, row = np.unique(number, return_index=True, return_inverse=True)
    arrays: dict[str, NDArray[Any]] = {"point": point[first], "set": order, "block": block[first]}
    undefined: dict[str, str] = {}
    for metric in metrics:
        if metric.needs_truth and truth is None:
            undefined[metric.name] = "needs an exact likelihood, and there is none"
            continue
        try:
            # np.asarray alone would unmask the values of a masked array.
            found = {
                key: np.asarray(np.ma.filled(values, np.nan))
                for key, values in dict(metric.compute(prediction, truth)).items()
            }
        except (Exception, SystemExit) as error:
            raise PluginError(f"metric {metric.name!r} fails: {blamed(error)}") from error
        if not found and not metric.kept:
            undefined[metric.name] = "not defined for this method"
        if len(found) > _MOST_KEYS:
            raise PluginError(
                f"metric {metric.name!r} returned {len(found):,} keys; {_MOST_KEYS} are allowed"
            )
        for key, values in found.items():
            if problem := _problem(metric, key, values, len(number)):
                raise PluginError(f"metric {metric.name!r} returned {problem}")
            means = _mean_within(values.astype(np.float64), row, len(order))
            if np.isinf(means).any():
                raise PluginError(
                    f"metric {metric.name!r} returned values for {key!r} that are too large to "
                    "be averaged"
                )
            arrays[f"{metric.name}/{key}"] = means
    return arrays, undefined


def _problem(metric: Metric, key: object, values: NDArray[Any], datasets: int) -> str:
    """Return how contributions break the contract of metrics; empty if they do not."""
    if not is_key(key):
        return (
            f"the key {reprlib.repr(key)}; a key is a text of up to 200 printable characters, "
            "without a slash and without blanks at its ends"
        )
    if values.dtype.kind == "b" and not metric.share:
        return f"booleans for {key!r}; a share of yes and no is declared with share=True"
    if values.dtype.kind not in "biuf":
        return f"values of type {values.dtype} for {key!r}; they must be real numbers"
    if values.shape != (datasets,):
        return (
            f"shape {values.shape} for {key!r}; it must be one contribution per dataset, "
            f"({datasets},)"
        )
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        numbers = ", ".join(map(str, infinite[:_NAMED]))
        more = ", …" if len(infinite) > _NAMED else ""
        return (
            f"infinite values for {key!r} in {len(infinite)} of {datasets} datasets "
            f"({numbers}{more}); NaN says that a dataset has none"
        )
    return ""


def _units(prediction: Prediction) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return point, set and block of every dataset; held-out contexts are blocks at no point."""
    if isinstance(prediction, HeldOutPrediction):
        contexts = np.arange(len(prediction.values.context))
        return np.full(len(contexts), -1), contexts, contexts
    datasets = prediction.datasets
    return datasets.point, datasets.set, datasets.block


def _mean_within(values: NDArray[Any], row: NDArray[Any], sets: int) -> NDArray[Any]:
    """Return means of the defined contributions of each set; NaN if a set has none."""
    defined = np.isfinite(values)
    total = np.bincount(row[defined], values[defined], minlength=sets)
    count = np.bincount(row[defined], minlength=sets)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def score_member(
    context: JobContext,
    spec: FitSpec,
    truth: FitSpec | None,
    member: int,
    plan: Plan,
    folder: str,
) -> str | dict[str, str]:
    """Score a member's prediction and save the scores; return "done" or "reused".

    A metric that fails does not affect the others: their scores are saved. The function then
    returns error messages by failed metric, and the next run tries these again.
    """
    store, registry = Store.open(context.root), context.registry
    key = spec.score_key(folder, member)
    with store.lock(key):
        inputs = score_inputs(store, registry, spec, truth, member, plan.kind, folder)
        known = registry.task(spec.task) if spec.task in registry.names("tasks") else None
        if is_done(store, key, task=known) and is_current(store.record(key), inputs):
            return "reused"
        task = known or registry.task(spec.task)
        own = read_done(store, spec.prediction_key(folder, member), task)
        exact = None
        if truth is not None and is_recorded(store, truth.prediction_key(folder, 0)):
            exact = read(store, truth.prediction_key(folder, 0), task)
        inputs["truth"] = inputs["truth"] if exact else None

        def predictions() -> list[Prediction | None]:
            return [
                None
                if entry is None
                else load(task, plan, {k: v.copy() for k, v in entry.arrays.items()})
                for entry in (own, exact)
            ]

        given = predictions()
        arrays, undefined = score([], *given)
        kept = _of_others(store, key, inputs, {m.name for m in registry.metrics()})
        arrays |= kept.arrays
        inputs["metrics"] = kept.versions | inputs["metrics"]
        undefined |= kept.undefined
        broken: dict[str, str] = {}

        def save() -> None:
            lacking = {*broken, *(metric.name for metric in waiting)}
            scored = {k: v for k, v in inputs["metrics"].items() if k not in lacking}
            record = done(
                member=member,
                inputs={**inputs, "metrics": scored},
                undefined=undefined | broken,
                columns=sorted(set(arrays) - set(SETS)),
                simulated=own.record.get("simulated", {}),  # kept in case the prediction is deleted
            )
            store.write(key, record, arrays)

        waiting = [m for m in registry.metrics() if plan.kind in m.plans]
        plugins = {m.name for m in waiting if registry.item("metrics", m.name).plugin_hash}
        waiting.sort(key=lambda m: m.name in plugins)
        while waiting:
            metric = waiting[0]
            if metric.name in plugins:  # it may not return, or modify its arguments
                save()
                given = predictions()
            try:
                more, reasons = score([metric], *given)
            except PluginError as error:
                broken[metric.name] = message_of(error)
            else:
                arrays |= more
                undefined |= reasons
            waiting.pop(0)
        save()
    return broken or "done"


class _Kept(NamedTuple):
    """Scores by metrics that this run does not know.

    Args:
        arrays: means of each set, by column.
        versions: version and plugin's hash, by metric.
        undefined: reasons, by metric that is not defined.
    """

    arrays: dict[str, NDArray[Any]]
    versions: dict[str, Any]
    undefined: dict[str, str]


def _of_others(store: Store, key: str, inputs: Mapping[str, Any], known: Set[str]) -> _Kept:
    """Return the scores of the same predictions by metrics of plugins that are not loaded."""
    record, kept = store.record(key) or {}, _Kept({}, {}, {})
    earlier = record.get("inputs")
    entry = read(store, key) if record.get("status") == "done" else None
    if entry is None or not isinstance(earlier, Mapping):
        return kept
    same = all(earlier.get(name) == inputs[name] for name in ("prediction", "truth"))
    versions = earlier.get("metrics")
    if not same or not isinstance(versions, Mapping):
        return kept
    for name in versions.keys() - known:
        kept.versions[name] = versions[name]
        if reason := record.get("undefined", {}).get(name):
            kept.undefined[name] = reason
        kept.arrays.update({c: a for c, a in entry.arrays.items() if c.startswith(f"{name}/")})
    return kept


def score_inputs(
    store: Store,
    registry: Registry,
    spec: FitSpec,
    truth: FitSpec | None,
    member: int,
    kind: str,
    folder: str,
) -> dict[str, Any]:
    """Return the inputs that determine a member's scores: predictions and metric versions.

    Returns:
        Checksums under `prediction` and `truth`, None if missing; under `metrics` the version and
        the plugin's hash of every metric of the plan's kind.
    """

    def checksum(key: str) -> str | None:
        return (store.record(key) or {}).get("arrays_sha256")

    return {
        "prediction": checksum(spec.prediction_key(folder, member)),
        "truth": None if truth is None else checksum(truth.prediction_key(folder, 0)),
        "metrics": {
            m.name: [m.version, registry.item("metrics", m.name).plugin_hash]
            for m in registry.metrics()
            if kind in m.plans
        },
    }


def is_current(record: Mapping[str, Any] | None, inputs: Mapping[str, Any]) -> bool:
    """Return whether a record's scores were computed from these inputs.

    A deleted prediction is assumed to be the one that was scored. Metrics that were added or
    changed since are then not defined for it, and nothing is trained again for them.
    """
    known = (record or {}).get("inputs")
    if not isinstance(known, Mapping):
        return False
    if inputs["prediction"] is None:  # another machine may have predicted the truth again
        return inputs["truth"] is None or known.get("truth") is not None
    scored = known.get("metrics")
    return (
        known.get("prediction") == inputs["prediction"]
        and isinstance(scored, Mapping)
        and inputs["metrics"].items() <= scored.items()
        and inputs["truth"] in (None, known.get("truth"))
    )
