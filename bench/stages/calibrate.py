"""Calibration of stored fits with simulations that the fits have not seen."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from bench.contracts import Bank, Draw, ReferenceKind, Surrogate, Task
from bench.errors import NonFiniteError, NotApplicable, counted
from bench.nn.calibration import Calibration, CalibrationKind, pairwise
from bench.seeds import generator
from bench.stages.calibrated import Calibrated
from bench.stages.members import Progress, not_finite, open_fit, restore, simulated
from bench.stages.simulate import SimulationBank
from bench.storage.arrays import described
from bench.storage.entries import JobContext, done, is_done, read_done
from bench.storage.fit_spec import FitSpec
from bench.storage.simulations import SimulationStore


def draws(task: Task, calls: int, reference: ReferenceKind) -> list[Draw]:
    """Return the draws of a calibration with a given number of simulator calls."""
    names = task.component_names
    n = calls // (len(names) + (reference == "fixed"))
    own = [Draw(name, n) for name in names]
    return [*own, Draw(None, n, reference=reference)] if reference == "fixed" else own


def calibrate(
    surrogate: Surrogate,
    task: Task,
    bank: Bank,
    kind: CalibrationKind,
    device: torch.device,
    generator: torch.Generator,
) -> Calibrated:
    """Fit one map per component with the bank's simulations, which the surrogate has not seen.

    Pairs of the evidence reference need no further simulations: they combine observations of all
    components, in equal numbers, with the contexts of others. A fixed reference takes as many
    simulations as a component.

    Args:
        surrogate: surrogate of one member.
        task: its task.
        bank: bank of one member, with the budget of the calibration.
        kind: kind of the map.
        device: device of the surrogate.
        generator: draws contexts for observations of a fixed reference.

    Raises:
        NotApplicable: if the log-ratios have no reference, or the budget is less than two
            simulations of every component.
    """
    reference = surrogate.reference
    if reference is None:
        raise NotApplicable("calibration takes ratios to a reference, and this surrogate has none")
    names = task.component_names
    n = draws(task, bank.budget, reference)[0].n
    if n < 2:
        raise NotApplicable(
            f"a budget of {counted(bank.budget, 'simulation')}: too few to calibrate "
            f"{counted(len(names), 'component')}"
        )

    @torch.no_grad()
    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        return surrogate.log_ratio(x.to(device), context.to(device))[0]

    drawn = [bank.draw(name, n, split="calibration") for name in names]
    # Components alternate, so that every block of pairs contains all of them.
    x, context = (
        torch.stack([getattr(own, what)[0] for own in drawn], 1).flatten(0, 1)
        for what in ("x", "context")
    )
    own, others = pairwise(log_ratio, x, context)
    if reference == "fixed":
        events = bank.reference(n, "fixed", split="calibration").x[0]
        at = task.space.draw_context(n, generator)
        others = torch.cat([t.flatten(1) for t in pairwise(log_ratio, events, at)], 1)
    maps = [Calibration.fit(kind, own[k, k :: len(names)], others[k], n) for k in range(len(names))]
    return Calibrated(surrogate, Calibration.stack([Calibration.stack(maps)]))


def calibrate_members(
    context: JobContext, spec: FitSpec, members: Sequence[int], report: Progress
) -> str:
    """Calibrate stored fits with simulations that they have not seen, and save the maps.

    Raises:
        StoreError: if a fit that it calibrates is missing or damaged, or failed.
        NotApplicable: if the fits have no reference.
    """
    store, task, method = open_fit(context, spec)
    device, settings = torch.device(context.device), spec.identity["calibration"]
    outcome = "reused"
    for member in members:
        key = spec.fit_key(member)
        with store.lock(key):
            if is_done(store, key, context.overwrite_before):
                continue
            (base_key,) = spec.base_keys(member)
            base = read_done(store, base_key).record
            simulations = SimulationStore(store, report)
            fitted = restore(store, task, method, spec.uncalibrated, [member], device, simulations)
            training_data, seed = spec.identity["training_data"], spec.identity["seed"]
            calls = settings["calls"]
            bank = SimulationBank(task, simulations, calls, [member], training_data, seed)
            rng = generator("calibration", spec.identity, member)
            begin, simulating = time.perf_counter(), simulations.seconds
            made = calibrate(fitted, task, bank, settings["kind"], device, rng)
            state = {k: v.numpy() for k, v in made.state().items()}
            bad = not_finite(spec, state, 1)
            if bad:
                raise NonFiniteError(bad[0])
            seconds = time.perf_counter() - begin - (simulations.seconds - simulating)
            known = bank.made is not None and base.get("calls_made") is not None
            record = done(
                member=member,
                seconds=base["seconds"] + seconds,
                stack=1,
                calls=base["calls"] + bank.spent,
                calls_made=base["calls_made"] + bank.made if known else None,
                simulated=simulated(store, key, simulations),
                parameters=base["parameters"],
                curves=base["curves"],
                environment=base["environment"],
                state=described(state),
            )
            store.write(key, record, state)
            outcome = "done"
    return outcome
