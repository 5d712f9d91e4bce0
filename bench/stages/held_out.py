"""Held-out predictions: log-ratios of events at random contexts, and their slopes."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts import (
    Component,
    Draw,
    FiniteComponent,
    HeldOut,
    HeldOutPlan,
    ReferenceKind,
    Surrogate,
    Task,
)
from bench.contracts.plan import observations_of
from bench.inference.datasets import log_ratio_of
from bench.seeds import generator
from bench.stages.datasets import simulate
from bench.stages.simulate import SimulationBank
from bench.storage.simulations import Arrays, Chunk, SimulationStore, simulations_key
from bench.storage.store import Store

_STEP = 0.005  # half the finite difference of a score, in unit coordinates


def predict_held_out(
    task: Task,
    surrogate: Surrogate,
    plan: HeldOutPlan,
    seed: int,
    simulations: SimulationStore,
    device: torch.device,
) -> list[dict[str, NDArray[Any]]]:
    """Evaluate a surrogate on a held-out plan; return the arrays of each of its members."""
    d = len(task.space.context_index)
    unit = torch.full((plan.contexts, len(task.space)), 0.5, dtype=torch.float64)
    drawn = torch.rand(
        plan.contexts, d, generator=generator("held out", task.name, seed), dtype=torch.float64
    )
    index = list(task.space.context_index)
    unit[:, index] = _STEP + (1 - 2 * _STEP) * drawn
    kind = surrogate.reference
    components = task.components("heldout")
    # Every context has separate reference events, because it is the unit of resampling.
    references: tuple[Tensor, ...] = ()
    if kind is not None:
        bank, draw = held_out_bank(task, plan, seed, simulations, kind)
        drawn_events = bank.reference(draw.n, kind, split="heldout").x[0]
        references = torch.split(drawn_events, plan.events)
    own: list[Tensor] = []
    against: list[Tensor] = []
    scores: list[Tensor] = []
    contexts: list[Tensor] = []
    for node in unit:
        around = node.repeat(1 + 2 * d, 1)
        for j, axis in enumerate(index):
            around[1 + 2 * j, axis] += _STEP
            around[2 + 2 * j, axis] -= _STEP
        context = task.space.context_of(task.space.from_unit(around))
        contexts.append(context[0])
        raw = context.float().to(device)
        rng_rows = []
        for k, (name, component) in enumerate(components.items()):
            if isinstance(component, FiniteComponent):
                component = component.block(len(contexts) - 1, plan.contexts)
            rng = generator("held out", task.name, task.version, seed, name, len(contexts))
            at = raw[:1].cpu().expand(plan.events, -1)

            def make(
                component: Component = component, at: Tensor = at, rng: torch.Generator = rng
            ) -> Arrays:
                return {"x": simulate(task, component, at, rng)}

            chunk = held_out_chunk(task, plan, seed, name, len(contexts))
            x = simulations.get(task, chunk, {"x"}, make)["x"].to(device)
            rng_rows.append(log_ratio_of(task, surrogate, x, raw)[:, k])
        around_own = torch.stack(rng_rows, 1).double()  # (members, K, n, 1 + 2 d)
        own.append(around_own[..., 0])
        # The context is scaled to [−1, 1], which is twice the unit coordinate.
        scores.append((around_own[..., 1::2] - around_own[..., 2::2]) / (4 * _STEP))
        against.append(
            torch.zeros_like(own[-1])
            if kind is None
            else log_ratio_of(task, surrogate, references[len(against)].to(device), raw[:1])[
                ..., 0
            ].double()
        )
    stacked = [torch.stack(v, 2).cpu().numpy() for v in (own, against, scores)]
    return [
        HeldOut(
            context=torch.stack(contexts).numpy(),
            own=stacked[0][m],
            reference=stacked[1][m],
            score=stacked[2][m],
            has_density=np.array(surrogate.has_density),
            has_reference=np.array(kind is not None),
        ).arrays()
        for m in range(len(stacked[0]))
    ]


def held_out_bank(
    task: Task, plan: HeldOutPlan, seed: int, store: Store, kind: ReferenceKind
) -> tuple[SimulationBank, Draw]:
    """Return the bank of a held-out plan's reference, and the draw of all its events."""
    n = plan.events * plan.contexts
    bank = SimulationBank(task, store, n, [0], "shared", seed)
    return bank, Draw(None, n, reference=kind)


def held_out_chunk(task: Task, plan: HeldOutPlan, seed: int, component: str, context: int) -> Chunk:
    """Return the chunk of a component at a context, counted from 1, of a held-out plan."""
    if observations_of(task, "heldout") is not None:
        return Chunk(None, 0, "evaluation")
    key = None
    if task.expensive:
        what = [plan.model_dump(mode="json"), seed, component, context]
        identity = [task.name, task.version, dict(task.settings), *what]
        key = simulations_key(task, identity)
    return Chunk(key, plan.events, "evaluation")
