"""Planted defects, the evidence of networks, and grades of diagnostics."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import bench
from bench.contracts import Diagnostic, Finding, FitLog, Parameter, StoredTask
from bench.diagnostics import learned, two_sample, weights
from bench.errors import NotApplicable, UsageError
from bench.inference.likelihood import ExactLikelihood
from bench.seeds import generator
from bench.stages.diagnose import EvidenceSource, diagnose
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store
from bench.studies import diagnostics as study
from bench.studies import grades
from bench.studies.diagnostics import Examined
from bench.studies.planted import SIZES, Defect, Kind, Planted

CPU = torch.device("cpu")


def planted(folder: Path, name: str, kind: Kind, size: float) -> tuple[Planted, SimulationStore]:
    task, simulations = bench.task(name), SimulationStore(Store(folder))
    return Planted(task, features_of(task, simulations), Defect(kind, size)), simulations


def ratios(
    surrogate: Planted, simulations: SimulationStore, n: int = 40_000
) -> tuple[Tensor, Tensor, Tensor]:
    """Return observations of the evidence, contexts drawn apart, and ratios (K, n)."""
    bank = SimulationBank(surrogate.task, simulations, n, [0], "shared", 1)
    x = bank.reference(n, "evidence", split="heldout").x[0]
    context = surrogate.task.space.draw_context(n, generator("test"))
    return x, context, surrogate.log_ratio_paired(x, context)[0].exp()


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("name", ["exponential", "gaussians-near"])
def test_planted_densities_are_normalised(tmp_path: Path, name: str, kind: Kind) -> None:
    """The mean ratio over the evidence is 1, but for an offset in nats."""
    if name == "exponential" and kind == "rotation":
        pytest.skip("one feature cannot be turned")
    size = SIZES[kind][-1]
    surrogate, simulations = planted(tmp_path, name, kind, size)
    _, context, ratio = ratios(surrogate, simulations)
    unit = surrogate.task.space.context[0]
    if kind == "nats":
        share = (context[:, 0] - unit.low) / (unit.high - unit.low)
        ratio = (
            ratio
            * (-size * share if unit.scale != "log" else -size * _log_share(context, unit)).exp()
        )
    error = ratio.std(1) / math.sqrt(ratio.shape[1])
    assert bool(((ratio.mean(1) - 1).abs() < 4 * error).all())


def _log_share(context: Tensor, parameter: object) -> Tensor:
    low, high = parameter.low, parameter.high  # type: ignore[attr-defined]
    return (context[:, 0] / low).log() / math.log(high / low)


def test_no_defect_is_the_exact_likelihood(tmp_path: Path) -> None:
    surrogate, _ = planted(tmp_path, "gaussians-near", "offset", 0.0)
    x, context = torch.randn(20, 2), surrogate.task.space.draw_context(7, generator("test"))
    exact = ExactLikelihood(surrogate.task)
    found = surrogate.without_reference().log_ratio(x, context)
    torch.testing.assert_close(found, exact.log_ratio(x, context))
    apart = surrogate.log_ratio(x, context) - found
    assert float(apart.std((1, 3)).max()) < 1e-6  # one term of each observation
    pairs = surrogate.log_ratio_paired(x[:7], context)
    torch.testing.assert_close(pairs, surrogate.log_ratio(x[:7], context).diagonal(dim1=2, dim2=3))


def test_defects_have_their_sizes(tmp_path: Path) -> None:
    """Moments of weighted observations show narrower features and missing tails."""
    moments = {}
    for kind, size in (("offset", 0.0), ("narrower", 0.1), ("tail", 0.03), ("mode", 0.03)):
        surrogate, simulations = planted(tmp_path, "gaussians-near", kind, size)  # type: ignore[arg-type]
        x, context, ratio = ratios(surrogate, simulations)
        unit = (context - context.amin(0)) / (context.amax(0) - context.amin(0))
        region = surrogate._regions[0]
        y = surrogate.features(x).double() - region.mean(unit.double())
        weight = ratio[0] / ratio[0].sum()
        moments[kind] = float((weight * y.square().sum(-1)).sum())
    assert moments["narrower"] / moments["offset"] == pytest.approx(0.81, abs=0.03)
    assert moments["tail"] < 0.95 * moments["offset"]


def test_defects_need_exact_vectors_of_few_parameters(tmp_path: Path) -> None:
    for name in ("sis", "linear-gaussian-5"):
        with pytest.raises(UsageError, match="planted in exact densities of vectors"):
            next(study.planted(bench.task(name), [], 1, Store(tmp_path)))


EVENTS = [weights.closure, weights.normalisation, learned.classifier, two_sample.frechet_physics]


def source(folder: Path, kind: Kind, size: float, seed: int = 0) -> EvidenceSource:
    surrogate, simulations = planted(folder, "exponential", kind, size)
    return EvidenceSource(
        surrogate.task, surrogate, simulations, seed, CPU, 1000, 4000, common=4000
    )


def test_diagnostics_of_exact_ratios_find_nothing(tmp_path: Path) -> None:
    found = [diagnose(EVENTS, source(tmp_path, "offset", 0.0, seed)) for seed in range(12)]
    for diagnostic in EVENTS:
        p_values = [one[diagnostic.name].finding.p_value for one in found]  # type: ignore[union-attr]
        assert np.mean(np.array(p_values) < 0.05) < 0.4, diagnostic.name
        assert len({*p_values}) > 6


def test_diagnostics_of_wrong_ratios_find_them(tmp_path: Path) -> None:
    found = diagnose(EVENTS, source(tmp_path, "offset", 0.2))
    for diagnostic in EVENTS:
        if diagnostic is not weights.normalisation:  # it is normalised
            assert found[diagnostic.name].finding.p_value < 0.01, diagnostic.name  # type: ignore[union-attr]
    assert all(one.seconds > 0 for one in found.values())


def test_samples_miss_an_offset_that_datasets_multiply(tmp_path: Path) -> None:
    """10⁻³ nats per observation are 1 nat of a dataset of 1000, and invisible in samples."""
    exact, off = (
        diagnose([two_sample.sliced_ks, learned.classifier], source(tmp_path, "nats", size))
        for size in (0.0, 0.001)
    )
    for name in exact:
        own, other = exact[name].finding, off[name].finding
        assert own is not None
        assert other is not None
        assert abs(own.statistic - other.statistic) < 0.02
    surrogate, _ = planted(tmp_path, "exponential", "nats", 0.001)
    x, ends = (
        torch.ones(1000, 1),
        torch.tensor([[p.low, p.high] for p in surrogate.task.space.context]),
    )
    total = (
        surrogate.without_reference().log_ratio(x, ends.T)
        - ExactLikelihood(surrogate.task).log_ratio(x, ends.T)
    ).sum(2)
    assert float(total[0, 0, 1] - total[0, 0, 0]) == pytest.approx(1.0, abs=1e-3)


def test_what_does_not_apply_has_a_reason(tmp_path: Path) -> None:
    own = source(tmp_path, "offset", 0.0)
    own.surrogate = ExactLikelihood(own.task)
    found = diagnose([weights.normalisation, learned.classifier, weights.closure], own)
    assert found["normalisation"].finding is None
    assert "no reference" in found["normalisation"].reason
    assert found["classifier"].finding is not None  # exact densities sample


def test_diagnostics_that_fail_are_named(tmp_path: Path) -> None:
    def of(compute: object) -> Diagnostic:
        return replace(weights.closure, name="mine", compute=compute)  # type: ignore[arg-type]

    def fails(evidence: object) -> Finding:
        raise ZeroDivisionError("no events")

    def refuses(evidence: object) -> Finding:
        raise NotApplicable("too few events")

    found = diagnose([of(fails), weights.normalisation], source(tmp_path, "offset", 0.0))
    assert found["mine"].reason.startswith("it fails: ZeroDivisionError: no events")
    assert found["mine"].failed
    assert found["normalisation"].finding is not None
    for wrong in (0.5, Finding(math.inf), Finding(0.0, 2.0), Finding(math.nan)):
        one = of(lambda evidence, wrong=wrong: wrong)
        found = diagnose([one], source(tmp_path, "offset", 0.0))
        assert found["mine"].reason.startswith("it returned")
    found = diagnose([of(refuses)], source(tmp_path, "offset", 0.0))
    assert found["mine"].reason == "too few events"


def test_planted_defects_are_kept_and_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "TOYS", 10)
    store, task = Store(tmp_path), bench.task("exponential")
    first = next(study.planted(task, [weights.closure], 1, store))
    assert (first.label, first.gap, [*first.p_values]) == ("none", 0.0, ["closure"])
    assert study.every(store) == [first]
    second = next(study.planted(task, [weights.closure], 1, store))
    assert (second.label, second.size) == ("offset", 0.01)


def examined(label: str, number: int, bad: float, gap: float, **options: object) -> Examined:
    found = Examined(
        "task",
        label,
        0,
        1000,
        number,
        "",
        gap,
        0.01,
        abs(gap),
        {"closure": bad, "effective-size": -bad},
        {"closure": 0.5},
        {"closure": 0.1, "effective-size": 0.1},
        {"closure": 100, "effective-size": 100},
        {},
        {"closure": 1, "effective-size": 1},
    )
    return replace(found, **options)


def test_grades_of_known_numbers() -> None:
    """A perfect diagnostic, and its mirror image with the other direction."""
    rng = np.random.default_rng(0)
    gaps = np.concatenate([rng.uniform(0, 0.04, 40), rng.uniform(0.06, 0.3, 20)])
    own = [examined(f"m{i % 5}", i, gap, -gap) for i, gap in enumerate(gaps)]
    perfect, mirror = grades.grades(own, [weights.closure, weights.effective_size])
    for one in (perfect, mirror):
        assert (one.networks, one.tasks) == (60, 1)
        assert one.power is not None
        assert one.area is not None
        assert one.between is not None
        assert one.within is not None
        assert (one.power.value, one.area.value) == (1, 1)
        assert (one.between.value, one.within.value) == pytest.approx((1, 1))
        assert one.area.error < 0.1  # of one task, by the bootstrap
    noise = [replace(o, statistics={"closure": float(rng.normal())}) for o in own]
    (useless,) = grades.grades(noise, [weights.closure])
    assert useless.area is not None
    assert abs(useless.area.value - 0.5) < 0.2


def test_few_networks_have_no_grade() -> None:
    own = [examined("m", i, 0.1 * i, 0.01 * i) for i in range(8)]
    (found,) = grades.grades(own, [weights.closure])
    assert (found.tasks, found.power, found.area) == (0, None, None)
    assert found.within is not None


def test_powers_without_p_values_compare_with_exact_ratios() -> None:
    rng = np.random.default_rng(0)
    exact = [examined("none", i, x, 0, budget=0) for i, x in enumerate(rng.normal(size=200))]
    off = [
        examined("tail", i, x + 3, 0, budget=0, size=0.1, p_values={"closure": 0.01})
        for i, x in enumerate(rng.normal(size=50))
    ]
    found = {
        (one.defect, one.diagnostic): one
        for one in grades.powers([*exact, *off], [weights.closure, weights.effective_size])
    }
    assert found["none", "closure"].power.value == 0
    assert found["tail", "closure"].power.value == 1
    assert 0.02 < found["none", "effective-size"].power.value < 0.06
    assert 0.8 < found["tail", "effective-size"].power.value < 1
    assert found["tail", "closure"].repetitions == 50


def test_errors_of_shares_cover() -> None:
    """Intervals of two errors contain the probability in about 95 % of simulations, also at 0."""
    rng = np.random.default_rng(0)
    for probability in (0.02, 0.3, 0.95):
        inside = []
        for _ in range(400):
            one = grades.share(rng.random(40) < probability)
            inside.append(abs(one.value - probability) < 2 * one.error)
        assert np.mean(inside) > 0.88


def test_tables_name_every_diagnostic() -> None:
    own = [examined("m", i, 0.1 * i, 0.01 * i) for i in range(30)]
    found = grades.grades(own, [weights.closure])
    assert {*grades.csv(found).splitlines()[0].split(",")} == {*grades.COLUMNS}
    assert "`closure`" in grades.markdown(found)
    power = grades.powers(
        [replace(o, budget=0, label="tail", size=0.1) for o in own], [weights.closure]
    )
    assert set(grades.csv_powers(power).splitlines()[0].split(",")) == {*grades.POWERS}
    assert "tail 0.1" in grades.markdown_powers(power)


def stored(folder: Path, observations: int) -> StoredTask:
    """Return stored datasets of normals whose means are skewed."""
    rng = np.random.default_rng(0)
    theta = rng.beta(1, 1.5, (6000, 1)) * 8 - 4
    np.savez(folder / "pairs.npz", theta=theta, x=rng.normal(theta, 1.0, (6000, observations)))
    mean = Parameter("mean", -4.0, 4.0, "interest", (-2.4, 2.4))
    return StoredTask("stored", folder / "pairs.npz", [mean], observations=observations)


class Normal:
    """The exact density of the stored datasets."""

    reference = None
    has_density = True
    log = FitLog()

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        return (
            -0.5 * ((x[:, None, 0] - context[None, :, 0]) ** 2 + math.log(2 * math.pi))[None, None]
        )

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        return (context + torch.randn(context.shape, generator=generator))[None, None]


@pytest.mark.parametrize("observations", [1, 20])
def test_stored_datasets_give_independent_samples(tmp_path: Path, observations: int) -> None:
    """Exact densities have uniform p-values, and contexts are those of the file."""
    task, simulations = stored(tmp_path, observations), SimulationStore(Store(tmp_path / "s"))
    own = EvidenceSource(task, Normal(), simulations, 0, CPU)
    found = diagnose([weights.closure, two_sample.frechet_physics], own)
    for one in found.values():
        assert one.finding is not None, one.reason
        assert one.finding.p_value > 0.01
    samples = own._kept["samples"]
    contexts = [rows[:, 1] for rows in (samples.simulated, samples.generated)]  # type: ignore[attr-defined]
    for some in contexts:
        assert len(some) > 200
        assert len({*some}) > 0.99 * len(some)  # single precision
    assert len({*contexts[0]} & {*contexts[1]}) < 0.01 * len(contexts[0])


def test_few_observations_have_no_closure(tmp_path: Path) -> None:
    few = source(tmp_path, "offset", 0.0)
    few.events = 100
    assert "are needed" in diagnose([weights.closure], few)["closure"].reason
    few = source(tmp_path, "offset", 0.0)
    few.surrogate = Broken(few.task)
    for name, one in diagnose(EVENTS, few).items():
        assert one.finding is None, name
        assert one.reason == "log-ratios of reference observations are NaN or infinite"


class Broken(ExactLikelihood):
    reference = "evidence"  # type: ignore[assignment]

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        return super().log_ratio(x, context) * torch.nan

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        return super().log_ratio_paired(x, context) * torch.nan


def test_other_diagnostics_and_versions_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "TOYS", 10)
    store, task = Store(tmp_path), bench.task("exponential")
    store.write("diagnostics/other/one/0000", {"status": "done", "examined": {"task": "x"}})
    next(study.planted(task, [weights.closure], 1, store))
    both = next(study.planted(task, [weights.closure, weights.effective_size], 1, store))
    assert {*both.statistics} == {"closure", "effective-size"}
    newer = replace(weights.closure, version=2)
    again = next(study.planted(task, [newer, weights.effective_size], 1, store))
    assert again.versions == {"closure": 2, "effective-size": 1}
    assert study.every(store) == [again]
