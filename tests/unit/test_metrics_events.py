"""Metrics of exact and faulty log-densities, on datasets and held-out simulations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from metric_predictions import METRICS, REGISTRY, Array, compute
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts import (
    BootstrapPlan,
    FitLog,
    HasLogProb,
    HeldOut,
    HeldOutPlan,
    HeldOutPrediction,
    IndependentPlan,
    ReferenceKind,
    Surrogate,
    Task,
)
from bench.metrics.heldout import RATIO_EDGES
from bench.stages.predict import load, predict
from bench.stages.score import score
from bench.stats.clustering import mean
from bench.storage.store import Store

Scores = Mapping[str, NDArray[Any]]
CPU = torch.device("cpu")


# --- from events to metrics ----------------------------------------------------------------------


class Wrapped:
    """Exact log-densities with a known fault, as a surrogate."""

    log = FitLog(0, [{}])
    has_density = False

    def __init__(
        self, task: Task, change: str = "nothing", reference: ReferenceKind | None = None
    ) -> None:
        self.task = task
        self.change = change
        self.reference = reference
        self.parts = [c for c in task.components("test").values() if isinstance(c, HasLogProb)]

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        out = torch.stack([c.log_prob(x[:, None], context[None]) for c in self.parts])[None]
        if self.change == "x":
            out = out + 20 * torch.sin(3 * x.sum(-1))[:, None] - 7
        elif self.change == "sharp":
            out = out * 1.1
        elif self.change == "reference":
            nominal = self.task.nominal.expand(len(x), -1)
            both = torch.stack([c.log_prob(x, nominal) for c in self.parts])
            out = out - (both.logsumexp(0) - math.log(2))[:, None]
        return out

    def state(self) -> None:
        return None


def evaluate(task: Task, surrogate: Surrogate, plan: Any, store: Store, seed: int = 0) -> Any:
    arrays = predict(task, surrogate, plan, seed, store, CPU, lambda **_: None)
    assert len(arrays) == 1
    return load(task, plan, arrays[0])


def all_scores(own: Any, truth: Any, kind: str) -> Scores:
    metrics = [m for m in METRICS.values() if kind in m.plans]
    arrays, undefined = score(metrics, own, truth)
    of_gradients = {"information", "pull", "post_fit", "impact", "nuisance_cost"}
    assert undefined.keys() <= of_gradients
    return arrays


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussians-near", "asymmetric"])
def test_a_term_in_x_alone_changes_nothing(name: str, tmp_path: Path) -> None:
    task = REGISTRY.task(name)
    plan = BootstrapPlan(sets=1, multiple=2, bootstraps=3, observations=500)
    store = Store(tmp_path)
    truth = evaluate(task, Wrapped(task), plan, store)
    plain = all_scores(truth, truth, "bootstrap")
    shifted = all_scores(evaluate(task, Wrapped(task, "x"), plan, store), truth, "bootstrap")
    assert set(plain) == set(shifted)
    np.testing.assert_allclose(plain["overlap_M/joint"], 1, atol=2e-3)
    np.testing.assert_allclose(plain["overlap_kM/joint"], 1, atol=2e-3)
    for key, values in plain.items():
        np.testing.assert_allclose(shifted[key], values, atol=2e-3, err_msg=key)


@pytest.mark.slow
def test_a_sharper_surrogate_is_seen_to_be_sharper(tmp_path: Path) -> None:
    """Log-densities times 1.1 make intervals of z narrower by a twentieth, and no other change."""
    task = REGISTRY.task("gaussians-far")
    plan = IndependentPlan(uniform=12, per_point=0)
    store = Store(tmp_path)
    truth = evaluate(task, Wrapped(task), plan, store)
    found = all_scores(evaluate(task, Wrapped(task, "sharp"), plan, store), truth, "independent")
    plain = all_scores(truth, truth, "independent")
    ratio = found["width/z"].mean() / plain["width/z"].mean()
    assert ratio == pytest.approx(1 / math.sqrt(1.1), abs=0.02)
    assert found["overlap_M/z"].mean() < 0.99


# --- held-out simulations ----------------------------------------------------------------------


def held_out(
    own: Array, reference: Array, gradient: Array, density: bool, ratio: bool
) -> HeldOutPrediction:
    context = np.zeros((own.shape[1], gradient.shape[-1]))
    return HeldOutPrediction(
        ("signal", "background"),
        ("z",),
        HeldOut(context, own, reference, gradient, np.array(density), np.array(ratio)),
    )


def test_held_out_metrics_by_hand() -> None:
    """The example has two components, two contexts and two events."""
    own = np.array([[[0.0, 1.0], [2.0, -1.0]], [[0.5, 0.5], [-3.0, 3.0]]])
    reference = np.log(np.array([[[1.0, 3.0], [0.5, 0.5]], [[1.0, 1.0], [2.0, 6.0]]]))
    gradient = np.array([[[1.0, 2.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])[..., None]
    prediction_ = held_out(own, reference, gradient, True, True)
    softplus = {v: math.log(1 + math.exp(v)) for v in (0.0, -1.0, -2.0, 1.0)}
    bce = compute("bce", prediction_)
    # log(1 + r̂) of the reference: log 2 and log 4; log 1.5 twice.
    first = 0.25 * (softplus[0.0] + softplus[-1.0] + math.log(2) + math.log(4))
    second = 0.25 * (softplus[-2.0] + softplus[1.0] + 2 * math.log(1.5))
    np.testing.assert_allclose(bce["signal"], [first, second])
    np.testing.assert_allclose(compute("nll", prediction_)["signal"], [-0.5, -0.5])
    np.testing.assert_allclose(compute("nll", prediction_)["background"], [-0.5, 0])
    mean_ratio = compute("log_mean_ratio", prediction_)
    np.testing.assert_allclose(mean_ratio["signal"], np.log([2, 0.5]))
    np.testing.assert_allclose(mean_ratio["background"], np.log([1, 4]))
    truth = held_out(own, reference, np.full_like(gradient, 2.0), False, False)
    error = compute("score_error", prediction_, truth)
    np.testing.assert_allclose(error["signal.z"], [0.5 * (1 + 0) / 4, 1])
    np.testing.assert_allclose(error["background.z"], [0.25, 0.25])
    assert compute("nll", truth) == compute("bce", truth) == compute("log_mean_ratio", truth) == {}
    np.testing.assert_allclose(compute("not_finite", prediction_)["signal"], [0, 0])
    own[1, 0, 1] = -np.inf
    own[1, 1] = np.nan
    broken = held_out(own, reference, gradient, True, True)
    np.testing.assert_allclose(compute("not_finite", broken)["signal"], [0, 0])
    np.testing.assert_allclose(compute("not_finite", broken)["background"], [0.5, 1])
    assert not np.isfinite(compute("nll", broken)["background"]).any()  # never replaced


def test_log_mean_ratio_of_huge_ratios_is_finite() -> None:
    big = np.full((2, 3, 4), 2000.0)
    found = compute("log_mean_ratio", held_out(big, big, big[..., None], False, True))
    np.testing.assert_allclose(found["signal"], 2000)
    assert np.isfinite(
        compute("bce", held_out(big, big, big[..., None], False, True))["signal"]
    ).all()


def test_held_out_simulations_of_exact_densities(tmp_path: Path) -> None:
    """NLL is the entropy; scores are those of the context scaled to [−1, 1]."""
    task = REGISTRY.task("gaussians-far")
    plan = HeldOutPlan(contexts=16, events=400)
    surrogate = Wrapped(task)
    surrogate.has_density = True
    own = evaluate(task, surrogate, plan, Store(tmp_path))
    assert isinstance(own, HeldOutPrediction)
    nll = compute("nll", own)
    for values in nll.values():
        entropy = 1 + math.log(2 * math.pi)
        assert abs(values.mean() - entropy) < 4 / math.sqrt(16 * 400)
    # The score of z is r times a standard normal. z covers π/2, its scaled form 2.
    root_mean_square = np.sqrt((own.values.score**2).mean((1, 2, 3)))
    np.testing.assert_allclose(root_mean_square, 2 * math.pi / 4, rtol=0.03)
    for values in compute("score_error", own, own).values():
        assert (values == 0).all()
    assert compute("bce", own) == {}


def test_held_out_simulations_of_an_exact_ratio(tmp_path: Path) -> None:
    """The mean over the reference is 1, and BCE is that of the best classifier."""
    task = REGISTRY.task("gaussians-near")
    surrogate = Wrapped(task, "reference", "fixed")
    store = Store(tmp_path)
    own = evaluate(task, surrogate, HeldOutPlan(contexts=16, events=2000), store)
    for values in compute("log_mean_ratio", own).values():
        np.testing.assert_allclose(values, 0, atol=0.1)
    for values in compute("bce", own).values():
        assert (values < math.log(2) + 0.02).all()
        assert values.mean() > 0.6


def test_errors_of_held_out_metrics_are_honest(tmp_path: Path) -> None:
    """Over seeds, log E[r] of an exact ratio is 0 within errors with contexts as units."""
    task = REGISTRY.task("gaussians-near")
    surrogate = Wrapped(task, "reference", "fixed")
    pulls = []
    for seed in range(12):
        store = Store(tmp_path / str(seed))
        own = evaluate(task, surrogate, HeldOutPlan(contexts=24, events=128), store, seed)
        for values in compute("log_mean_ratio", own).values():
            estimate = mean(values[None], np.full(len(values), -1))
            pulls.append(estimate.value / estimate.error)
    assert math.sqrt(np.mean(np.square(pulls))) < 1.6


def test_bins_of_ratios_close_for_exact_ratios() -> None:
    """Weights in a bin are as many as simulations, and a factor of the ratio is their gap."""
    rng = np.random.default_rng(0)
    contexts, n, mean = 40, 4000, 1.2
    own, reference = (
        mean * x - mean**2 / 2
        for x in (rng.normal(mean, 1, (1, contexts, n)), rng.normal(0, 1, (1, contexts, n)))
    )

    def found(factor: float) -> dict[str, np.ndarray]:
        shift = np.log(factor)
        values = HeldOut(
            context=np.zeros((contexts, 1)),
            own=own + shift,
            reference=reference + shift,
            score=np.zeros((1, contexts, n, 1)),
            has_density=np.array(False),
            has_reference=np.array(True),
        )
        prediction = HeldOutPrediction(("signal",), ("z",), values)
        return dict(METRICS["ratio_histogram"].compute(prediction, None))

    exact, twice = found(1.0), found(2.0)
    bins = len(RATIO_EDGES) + 1
    assert len(exact) == 3 * bins
    for i in range(bins):
        gap = exact[f"signal gap {i}"]
        assert abs(gap.mean()) < 4 * gap.std(ddof=1) / np.sqrt(contexts)
    assert sum(exact[f"signal reference {i}"] for i in range(bins)) == pytest.approx(1)
    total = sum(twice[f"signal weighted {i}"].mean() for i in range(bins))
    assert total == pytest.approx(2, rel=0.05)
    assert sum(twice[f"signal gap {i}"].mean() for i in range(bins)) == pytest.approx(-1, abs=0.1)
