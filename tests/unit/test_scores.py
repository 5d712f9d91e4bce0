"""Score terms: units, balance, and training of score-augmented ratios."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bench.methods.dle import DLE
from bench.methods.lre import LRE
from bench.methods.nler import NLER, NLERSA, NLERConfig
from seeded import fit_context

from bench.contracts import ComponentMethod, HasLogProb, HasScore
from bench.errors import NotApplicable
from bench.nn.score_matching import Augmentation, Balance, ScoreTerms, score_scale
from bench.registry.registry import Registry
from bench.seeds import generator
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store
from bench.testing import asymmetric

REGISTRY = Registry([asymmetric.__file__])
SMALL = {"width": 8, "training": {"epochs": 5, "batch_size": 256, "steps": 300}}


def test_scale_of_scores() -> None:
    """Estimated standard deviations agree with the truth, which varies fiftyfold."""
    rng = torch.Generator().manual_seed(0)
    eta = 2 * torch.rand(2, 20_000, 2, generator=rng) - 1
    a, b = eta.unbind(-1)
    true = torch.stack([(2 * a + 0.3 * b).exp(), (1 - a * b + 0.5 * b**2).exp()], -1)
    true = true * torch.tensor([1.0, 7.0])[:, None, None]
    score = true * torch.randn(true.shape, generator=rng)
    scale = score_scale(score, eta)
    torch.testing.assert_close(scale, true, rtol=0.12, atol=0)
    torch.testing.assert_close((score / scale).square().mean(1), torch.ones(2, 2))
    score[0, :, 1] = 0  # a parameter without effect
    assert torch.equal(score_scale(score, eta)[0, :, 1], torch.ones(20_000))
    few = score_scale(score[:, :3], eta[:, :3])
    torch.testing.assert_close(few, few[:, :1].expand_as(few))


def test_scale_of_scores_in_many_dimensions() -> None:
    """Quadratic polynomials of few scores would follow their noise."""
    rng = torch.Generator().manual_seed(0)
    eta = 2 * torch.rand(1, 5000, 20, generator=rng) - 1
    true = (eta + 0.5 * eta.roll(1, -1) ** 2).exp()
    score = true * torch.randn(true.shape, generator=rng)
    off = (score_scale(score, eta) / true).log()
    assert float(off.square().mean().sqrt()) < 0.15  # 41 coefficients of scatter 1.1 / √5000
    few = score_scale(score[:, :200], eta[:, :200])
    torch.testing.assert_close(few, few[:, :1].expand_as(few))
    torch.testing.assert_close(
        (score[:, :200] / few).square().mean(1), torch.ones(1, 20), rtol=1e-4, atol=0
    )


def test_weights_balance_gradients() -> None:
    """Each member and term has its own weight; later updates change the average by a tenth."""
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    factors = torch.tensor([[5.0, 0.1], [2.0, 10.0]])

    def losses(factors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.square().sum(1), torch.stack([f * x.square().sum(1) for f in factors.T], -1)

    balance = Balance(lambda: [x], relative=0.5)
    torch.testing.assert_close(balance(*losses(factors)), 0.5 / factors)
    for _ in range(49):
        torch.testing.assert_close(balance(*losses(2 * factors)), 0.5 / factors)
    moved = 0.9 * 0.5 / factors + 0.1 * 0.25 / factors
    torch.testing.assert_close(balance(*losses(2 * factors)), moved)
    assert x.grad is None
    first, terms = losses(factors)
    nothing = Balance(lambda: [x])
    torch.testing.assert_close(nothing(first, 0 * terms), torch.zeros(2, 2))
    kept = Balance(lambda: [x])
    for _ in range(50):
        kept(first, terms)
    torch.testing.assert_close(kept(first, 0 * terms), 1 / factors)


@pytest.mark.slow
def test_ratios_to_the_evidence(tmp_path: Path) -> None:
    """Components share the denominator, so their difference is that of log-densities."""
    task, store = REGISTRY.task("asymmetric"), Store(tmp_path)
    features = features_of(task, store)
    scores = {"weights": "fixed"}
    settings = SMALL | {"scores": scores, "training": {"batch_size": 256, "epochs": 6}}
    method = NLERSA(NLERConfig.model_validate(settings))
    bank = SimulationBank(task, store, 20_000, [0], "fresh", 0)
    surrogate = method.fit(fit_context(task, bank, features, what="scores"))
    assert bank.spent == 20_000
    assert surrogate.reference == "evidence"
    context = task.nominal[None]
    exact, learned = [], surrogate.log_ratio
    for name, component in task.components("test").items():
        assert isinstance(component, HasLogProb)
        x = component.simulate(context.expand(1000, -1), generator("scores", name)).float()
        own = [c.log_prob(x.double(), context.double()) for c in task.components("test").values()]
        exact = own[0] - own[1]
        ratios = learned(x, context)[..., 0]
        near = exact.abs() < 4  # where both components are likely enough
        error = (ratios[:, 0] - ratios[:, 1] - exact)[:, near].abs().median(1).values
        assert near.sum() > 20
        assert (error < 0.4).all(), (name, error)
    state = surrogate.state()
    assert state is not None
    again = method.restore(task, features, state)
    contexts = task.space.draw_context(5, generator("contexts"))
    assert torch.equal(again.log_ratio(x[:9], contexts), surrogate.log_ratio(x[:9], contexts))


@pytest.mark.slow
def test_scores_help_a_small_budget(tmp_path: Path) -> None:
    """On the near Gaussians, scores improve slopes; noisy scores do not."""
    task, store = REGISTRY.task("gaussians-near"), Store(tmp_path)
    features = features_of(task, store)
    component = task.components("test")["signal"]
    assert isinstance(component, HasScore)
    context = task.space.draw_context(2000, generator("contexts"))
    x = component.simulate(context, generator("x")).float()
    exact = features.score(component.score(x, context), context)
    errors = {}
    for label, settings in {
        "nler": {},
        "fixed": {"scores": {"weights": "fixed"}},
        "adaptive": {"scores": {"weights": "adaptive"}},
        "noisy": {"scores": {"weights": "fixed", "noise": 20.0}},
    }.items():
        method = NLER(NLERConfig.model_validate(SMALL | settings))
        bank = SimulationBank(task, store, 4000, [0], "fresh", 0)
        given = fit_context(task, bank, features, what="scores")
        net = method.fit_component("signal", given).net
        encoded = net.encode(features(x)[None])
        joint = torch.cat([encoded, features.context(context)[None]], -1)
        slopes = net.head.with_slopes(joint, 1)[1][0, 0].detach()
        errors[label] = float((slopes - exact).square().mean() / exact.square().mean())
    assert errors["fixed"] < 0.3 * errors["nler"], errors
    assert errors["adaptive"] < 0.5 * errors["nler"], errors
    assert errors["noisy"] > 2 * errors["fixed"], errors


def slope_error(method: ComponentMethod, store: Store) -> float:
    """Return the mean squared error of slopes over that of zero, for the near signal."""
    task = REGISTRY.task("gaussians-near")
    features = features_of(task, store)
    component = task.components("test")["signal"]
    assert isinstance(component, HasScore)
    context = task.space.draw_context(40, generator("contexts"))
    bank = SimulationBank(task, store, 4000, [0], "fresh", 0)
    part = method.fit_component("signal", fit_context(task, bank, features, what="scores"))
    wrong = right = 0.0
    for eta in context.double():
        x = component.simulate(eta.float().expand(100, 1), generator("x", float(eta))).float()
        exact = component.score(x, eta.expand(100, 1))[:, 0]
        low, high = (part.log_ratio(x, (eta + h)[None].float())[0, :, 0] for h in (-0.02, 0.02))
        wrong += float(((high - low).double() / 0.04 - exact).square().sum())
        right += float(exact.square().sum())
    return wrong / right


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "size"),
    [(LRE, {}), (DLE, {"transforms": 2, "hidden": (16, 16)})],
    ids=["lre", "dle"],
)
def test_the_other_families_take_scores_too(
    method: type[ComponentMethod], size: dict[str, object], tmp_path: Path
) -> None:
    """Ratios to any reference, and densities, have the slopes of log p(x|η)."""
    store = Store(tmp_path)
    short = {**size, "training": {"epochs": 5, "batch_size": 256, "steps": 0}}
    augmented = {**short, "scores": {"weights": "fixed", "share": 1.0}}
    plain, scored = (
        slope_error(method(method.Config.model_validate(settings)), store)
        for settings in (short, augmented)
    )
    assert scored < 0.5 * plain, (plain, scored)


def test_rows_without_scores_do_not_count() -> None:
    augmentation = Augmentation(ScoreTerms(weights="fixed", weight=2.0), lambda: [])
    slopes = torch.tensor([[[1.0], [100.0], [3.0]]])
    standard, per_unit = torch.zeros(1, 3, 1), torch.full((1, 3, 1), 0.5)
    counted = torch.tensor([[1.0, 0.0, 1.0]])
    loss = augmentation(torch.tensor([7.0]), slopes, standard, per_unit, counted)
    assert float(loss) == pytest.approx(7 + 2 * (0.25 + 2.25) / 2)
    assert augmentation.matched(10) == 3


@pytest.mark.slow
def test_a_member_is_what_it_is_alone(tmp_path: Path) -> None:
    """Members are independent up to rounding, since products of stacks round differently."""
    task, store = REGISTRY.task("gaussians-near"), Store(tmp_path)
    features = features_of(task, store)
    short = {"scores": {}, "width": 4, "training": {"epochs": 1, "steps": 60}}
    method = NLERSA(NLERConfig.model_validate(short))

    def fitted(members: list[int]) -> torch.Tensor:
        bank = SimulationBank(task, store, 4000, members, "fresh", 0)
        given = fit_context(task, bank, features, what="scores")
        return method.fit(given).log_ratio(
            torch.randn(50, 2, generator=generator("x")), task.nominal[None]
        )

    torch.testing.assert_close(fitted([0, 1])[1], fitted([1])[0], rtol=2e-3, atol=2e-3)


def test_who_cannot_have_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoScore:
        """Component with a simulator only."""

    task = REGISTRY.task("gaussians-near")
    monkeypatch.setattr(type(task), "components", lambda self, split: {"signal": NoScore()})
    NLER(NLERConfig()).check(task)
    with pytest.raises(NotApplicable, match="'signal' of gaussians-near has no score"):
        NLERSA(NLERConfig(scores=ScoreTerms())).check(task)
