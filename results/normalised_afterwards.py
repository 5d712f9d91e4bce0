"""Published classifiers, normalised afterwards: how much of their shortfall is normalisation?

Needs the weights of `bench run results/gaussians-published.toml`; prints a line per network.
"""

from pathlib import Path

import torch
from bench.methods.lre import _normaliser

from bench.contracts import IndependentPlan, Task
from bench.registry.registry import Registry
from bench.stages.predict import load, predict
from bench.stages.score import score
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store

RESULTS = Store.open(Path(__file__).parent / "gaussians-published")
SIMULATIONS = 1 << 17
PLAN, SEED = IndependentPlan(uniform=50, per_point=0), 7  # datasets that no leaderboard sees
SHOWN = ("overlap_M/joint", "coverage/z", "width/z")
REGISTRY = Registry()
METRICS = [m for m in REGISTRY.metrics() if m.name in ("overlap_M", "coverage", "width")]


def line(task: Task, fit: str, member: int) -> str:
    """Scores one network as it is and normalised."""
    found = REGISTRY.method("lre")
    method = found(found.Config.model_validate(found.configurations["published"]))
    features, cpu = features_of(task, RESULTS), torch.device("cpu")
    entry = RESULTS.read(f"fits/{task.name}/{fit}/member-{member:03d}")
    assert entry is not None
    state = {name: torch.from_numpy(array.copy()) for name, array in entry.arrays.items()}
    surrogate = method.restore(task, features, state)
    exact = REGISTRY.method("exact")
    truth = exact(exact.Config()).restore(task, features, {})
    bank = SimulationBank(task, RESULTS, SIMULATIONS, [0], "fresh", 99)
    reference = features(bank.reference(SIMULATIONS, "fixed").x)

    def prediction(of: object) -> object:
        arrays = predict(task, of, PLAN, SEED, RESULTS, cpu, lambda **_: None)[0]
        return load(task, PLAN, arrays)

    cells = [task.name, str(member)]
    for normalise in (False, True):
        if normalise:
            for part in surrogate.parts.values():
                part.normaliser = _normaliser(part.net, reference)
        values, _ = score(METRICS, prediction(surrogate), prediction(truth))
        cells += [f"{float(values[name].mean()):.3f}" for name in SHOWN]
    return ",".join(cells)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in ("gaussians-near", "gaussians-far"):
        (fit,) = {p.name for p in (RESULTS.root / "fits" / name).glob("lre-*")}
        for member in range(5):
            print(line(REGISTRY.task(name), fit, member), flush=True)
