"""Wrapping of stored fits: what a wrapper learns, and what a wrapped member costs."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bench.contracts import FitContext
from bench.errors import NonFiniteError, PluginError
from bench.seeds import generator
from bench.stages.members import OpenFit, Progress, not_finite, open_fit, simulated
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.arrays import described
from bench.storage.entries import JobContext, done, is_done, read_done
from bench.storage.fit_spec import FitSpec
from bench.storage.simulations import SimulationStore


def wrap_members(
    context: JobContext, spec: FitSpec, members: Sequence[int], report: Progress
) -> str:
    """Write a record for each wrapped member, with its total cost and what the wrapper learned.

    Raises:
        StoreError: if a fit that it takes is missing or damaged, or failed.
        NonFiniteError: if the learned state is not finite.
        NotApplicable: if the wrapper cannot learn from these fits.
    """
    opened = open_fit(context, spec)
    store, outcome = opened.store, "reused"
    for member in members:
        key = spec.fit_key(member)
        with store.lock(key):
            if is_done(store, key, context.overwrite_before):
                continue
            taken = [read_done(store, base).record for base in spec.base_keys(member)]
            own: dict[str, Any] = {}
            state: dict[str, Any] = {}
            if spec.wrappings[-1].calls:
                own, state = _learned(opened, member, context, report)
            store.write(key, done(member=member, stack=1, **_total(spec, taken, own)), state)
            outcome = "done"
    return outcome


def _learned(
    opened: OpenFit, member: int, context: JobContext, report: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the cost of what the outermost wrapper learns for a member, and its state."""
    store, spec = opened.store, opened.spec
    simulations, device = SimulationStore(store, report), torch.device(context.device)
    surrogates = opened.taken([member], device, simulations)
    bank = SimulationBank(
        opened.task,
        simulations,
        spec.wrappings[-1].calls,
        [member],
        spec.identity["training_data"],
        spec.seed,
    )

    def random(number: int, purpose: str) -> torch.Generator:
        return generator(purpose, spec.entropy, number)

    features = features_of(opened.task, simulations)
    fit_context = FitContext(opened.task, bank, features, device, random, report)
    begin, simulating = time.perf_counter(), simulations.seconds
    learned = opened.wrappers[-1].fit(surrogates, fit_context)
    if not isinstance(learned, Mapping):
        raise PluginError(
            f"fit of wrapper {spec.wrappings[-1].name!r} returned {type(learned).__name__}; "
            "it must return tensors by name"
        )
    state = {name: tensor.detach().cpu().numpy() for name, tensor in learned.items()}
    if bad := not_finite(spec, state, 1):
        raise NonFiniteError(bad[0])
    seconds = time.perf_counter() - begin - (simulations.seconds - simulating)
    cost = {
        "seconds": seconds,
        "calls": bank.spent,
        "calls_made": bank.made,
        "simulated": simulated(store, spec.fit_key(member), simulations),
        "state": described(state),
    }
    return cost, state


def _total(spec: FitSpec, taken: Sequence[dict[str, Any]], own: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a wrapped member's record: sums over the fits that it takes."""
    shared = spec.identity["training_data"] != "fresh"

    def all_of(numbers: Sequence[int]) -> int:
        return numbers[0] if shared else sum(numbers)

    made = [record["calls_made"] for record in taken if record.get("calls_made") is not None]
    known = len(made) == len(taken) and own.get("calls_made", 0) is not None
    return {
        **own,
        "seconds": sum(record["seconds"] for record in taken) + own.get("seconds", 0.0),
        "calls": all_of([record["calls"] for record in taken]) + own.get("calls", 0),
        "calls_made": all_of(made) + own.get("calls_made", 0) if known else None,
        "parameters": sum(record["parameters"] for record in taken),
        "curves": taken[0]["curves"] if len(taken) == 1 else {},
        "environment": taken[0]["environment"],
    }
