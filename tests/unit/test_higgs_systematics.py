"""Higgs with systematic uncertainties: densities against scipy, yields, and the fitted events."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bench.tasks import higgs_processes as fitted
from bench.tasks.higgs_systematics import DIBOSON, TTBAR, YIELDS, HiggsSystematics
from scipy import special, stats

from bench.contracts import IndependentPlan
from bench.inference.datasets import likelihood_of
from bench.inference.ends import SLACK
from bench.inference.gradient import profile
from bench.inference.likelihood import ExactLikelihood
from bench.seeds import generator
from bench.stages.datasets import sets

TASK = HiggsSystematics()
SHARED = Path(__file__).parents[3] / "shared" / "data" / "fair_universe_events.parquet"


def covariance(triangle: tuple[float, ...], soft: tuple[float, ...], size: float) -> np.ndarray:
    """Return the covariance of a Gaussian at soft MET of a size."""
    full = np.zeros((4, 4))
    full[np.tril_indices(4)] = triangle
    full = full + np.tril(full, -1).T
    met, total, both = soft
    full[2:, 2:] += size**2 * np.array([[met, both], [both, total]])
    return full


@pytest.mark.parametrize(
    ("name", "gaussians", "tau", "jet", "soft"),
    [
        ("signal", fitted.SIGNAL, fitted.SIGNAL_TAU, fitted.SIGNAL_JET, fitted.SIGNAL_SOFT),
        ("Z", fitted.Z, fitted.Z_TAU, fitted.Z_JET, fitted.Z_SOFT),
        ("ttbar", TTBAR, (0.5, -1, -0.3, 0.2), (0, 0, 1.28, 0.34), fitted.SIGNAL_SOFT),
        ("diboson", DIBOSON, (0.5, -1, -0.3, 0.2), fitted.Z_JET, fitted.Z_SOFT),
    ],
)
def test_densities_are_those_of_scipy(name, gaussians, tau, jet, soft):
    component = TASK.components("test")[name]
    context = torch.tensor([[0.95, 1.03, 0.2], [1.02, 0.99, 3.0], [1.0, 1.0, 1.0]])
    x = component.simulate(context[:, None].expand(-1, 50, -1), generator("events", name))
    found = component.log_prob(x, context[:, None])
    total = sum(weight for weight, _, _ in gaussians)
    for row, (z_tau, z_jet, size) in enumerate(context.double().tolist()):
        y = np.log(x[row].double().numpy())
        shift = np.array(tau) * np.log(z_tau) + np.array(jet) * np.log(z_jet)
        each = [
            np.log(weight / total)
            + stats.multivariate_normal.logpdf(
                y, np.array(mean) + shift, covariance(triangle, soft, size)
            )
            for weight, mean, triangle in gaussians
        ]
        expected = special.logsumexp(each, axis=0) - y.sum(-1)
        assert np.allclose(found[row].numpy(), expected, atol=1e-9)


def test_impossible_events():
    component = TASK.components("test")["Z"]
    x = torch.tensor([[50.0, 1.0, -1.0, 100.0], [0.0, 1.0, 30.0, 100.0]])
    assert component.log_prob(x, torch.ones(3)).tolist() == [-torch.inf] * 2


def test_yields():
    theta = torch.tensor([1.2, 1, 1, 1, 1.1, 0.5, 1.02]).double()
    expected = torch.tensor([1.2 * 130, 1.02 * 1540, 1.02 * 1.1 * 270, 1.02 * 0.5 * 60]).double()
    assert torch.allclose(TASK.yields(theta), expected)
    assert torch.allclose(TASK.weights(theta) * TASK.rate(theta), expected)
    assert sum(YIELDS) == TASK.observations
    assert YIELDS[0] >= 0.05 * TASK.observations


def test_the_signal_strength_is_measured():
    """The half-width of μ is under 0.3; no interval is cut or unresolved."""
    plan = IndependentPlan(uniform=3, per_point=0)
    found = list(sets(TASK, plan, 0))
    likelihood = likelihood_of(TASK, ExactLikelihood(TASK), plan, found, torch.device("cpu"))
    truth = TASK.space.to_unit(torch.stack([events.theta for events in found]))
    whole = profile(likelihood, [0], truth, TASK.space.box).whole
    assert float((whole.upper - whole.lower).median()) * 3 / 2 < 0.3  # its bounds are 0 and 3
    assert not bool((whole.cut_lower | whole.cut_upper | whole.missed[..., None, None]).any())
    assert float(whole.error.max()) < SLACK


def test_the_mixtures_approximate_the_shared_events():
    """The density of each fitted feature is close to its events."""
    if not SHARED.is_file():
        pytest.skip("the shared events are not here")
    pd = pytest.importorskip("pandas")
    events = pd.read_parquet(SHARED)
    part = {
        name: np.stack(
            [events[f"PRI_{pt}"] * f(events[f"PRI_{name}_phi"]) for f in (np.cos, np.sin)]
        )
        for name, pt in (("lep", "lep_pt"), ("had", "had_pt"), ("met", "met"))
    }
    lepton, hadron, met = (np.hypot(*part[name]) for name in ("lep", "had", "met"))
    opening = np.cosh(events.PRI_lep_eta - events.PRI_had_eta) - np.cos(
        events.PRI_lep_phi - events.PRI_had_phi
    )
    mass = np.sqrt(2 * lepton * hadron * opening)
    y = np.log(np.stack([mass, lepton / hadron, met, lepton + hadron + met]))
    chosen = np.hypot(*(part["lep"] + part["had"] + part["met"])) > 50
    for gaussians, process, soft in (
        (fitted.SIGNAL, "htautau", fitted.SIGNAL_SOFT),
        (fitted.Z, "ztautau", fitted.Z_SOFT),
    ):
        own = y[:, chosen & (events.detailed_labels == process)]
        weights = np.array([weight for weight, _, _ in gaussians])
        for j in range(4):
            mean = np.array([means[j] for _, means, _ in gaussians])
            deviation = np.sqrt([covariance(t, soft, 0)[j, j] for _, _, t in gaussians])
            below = stats.norm.cdf((own[j][:, None] - mean) / deviation) @ weights
            assert stats.kstest(below / weights.sum(), "uniform").statistic < 0.03
