"""Pulls, post-fit widths, impacts and costs against closed forms and refits."""

import numpy as np
import pytest
import torch

from bench.contracts import Constraint, Datasets, LikelihoodPrediction, ProfileSummary, Task
from bench.metrics.nuisances import impact, nuisance_cost, post_fit, pull


def prediction(theta: np.ndarray, mle: np.ndarray, information: np.ndarray) -> LikelihoodPrediction:
    """Return a prediction of mu, of a scale with a constraint, and of a nuisance without one."""
    rows = len(mle)
    ends = np.zeros((rows, 1))
    return LikelihoodPrediction(
        names=("mu", "scale", "free"),
        low=np.array([0.0, 0.1, -1.0]),
        high=np.array([4.0, 10.0, 1.0]),
        log_scale=np.array([False, True, False]),
        reported=(0,),
        datasets=Datasets(theta, *(np.arange(rows) for _ in range(3))),
        curves=ProfileSummary(
            mle,
            *(ends for _ in range(5)),
            np.zeros(rows),
            np.zeros(rows, dtype=bool),
            information,
            np.zeros((rows, 3)),
        ),
        constraint_width=np.array([np.nan, 0.2 / np.log(100), np.nan]),
    )


def test_pulls_are_in_widths_of_the_constraint() -> None:
    theta = np.array([[1.0, 1.0, 0.0], [1.0, 2.0, 0.0]])
    mle = np.array([[1.5, np.exp(0.3), 0.1], [0.9, 2 * np.exp(-0.1), 0.0]])
    found = pull.compute(prediction(theta, mle, np.full((2, 3, 3), np.nan)), None)
    assert set(found) == {"scale"}
    assert np.allclose(found["scale"], [1.5, -0.5])


def test_post_fit_widths_and_impacts_are_those_of_the_covariance() -> None:
    """They are of a Gaussian likelihood, whose refits at a shifted nuisance are linear."""
    root = np.array([[3.0, 0.0, 0.0], [1.0, 2.0, 0.0], [-0.5, 0.7, 4.0]])
    information = (root @ root.T)[None]
    mle = np.array([[1.0, 2.0, 0.3]])
    own = prediction(mle, mle, information)
    covariance = np.linalg.inv(information[0])
    width = post_fit.compute(own, None)["scale"]
    assert width == pytest.approx(np.sqrt(covariance[1, 1]) / (0.2 / np.log(100)))
    found = impact.compute(own, None)
    assert set(found) == {"mu by scale", "mu by free"}
    for name, j in (("scale", 1), ("free", 2)):
        # Refit of all others with the nuisance shifted by its deviation: Gaussian conditional mean.
        others = [i for i in range(3) if i != j]
        shift = np.sqrt(covariance[j, j])
        refit = -np.linalg.solve(
            information[0][np.ix_(others, others)], information[0][others, j] * shift
        )
        assert found[f"mu by {name}"][0] == pytest.approx(4 * refit[others.index(0)])


def test_costs_are_those_of_conditional_gaussians() -> None:
    """Their variances are Schur complements of the covariance, not inverses of the information."""
    root = np.array([[3.0, 0.0, 0.0], [1.0, 2.0, 0.0], [-0.5, 0.7, 4.0]])
    information = np.stack([np.diag([1.0, -1.0, 1.0]), root @ root.T])
    mle = np.array([[1.0, 2.0, 0.3], [1.0, 2.0, 0.3]])
    found = nuisance_cost.compute(prediction(mle, mle, information), None)
    assert set(found) == {"mu by scale", "mu by free", "mu by all"}
    covariance = np.linalg.inv(information[1])
    for name, fixed in (("scale", [1]), ("free", [2]), ("all", [1, 2])):
        across = covariance[0, fixed]
        explained = across @ np.linalg.solve(covariance[np.ix_(fixed, fixed)], across)
        expected = (covariance[0, 0] / (covariance[0, 0] - explained)) ** 0.5
        assert np.isnan(found[f"mu by {name}"][0])  # indefinite
        assert found[f"mu by {name}"][1] == pytest.approx(expected)


def test_an_indefinite_information_has_no_impact() -> None:
    mle = np.array([[1.0, 2.0, 0.3], [1.0, 2.0, 0.3]])
    information = np.stack([np.diag([1.0, -1.0, 1.0]), np.eye(3)])
    found = impact.compute(prediction(mle, mle, information), None)
    assert np.isnan(found["mu by free"][0])
    assert found["mu by free"][1] == 0


def test_the_lattice_has_no_information() -> None:
    mle = np.array([[1.0, 2.0, 0.3]])
    own = prediction(mle, mle, np.full((1, 3, 3), np.nan))
    for metric in (impact, post_fit, nuisance_cost):
        assert metric.compute(own, None) == {}


def test_widths_of_constraints_are_in_unit_coordinates() -> None:
    class Small(Task):
        name, version = "small", 1
        from bench.contracts import Parameter, ParameterSpace

        space = ParameterSpace(
            [
                Parameter("mu", 0.0, 4.0, "interest", (1.0, 2.0)),
                Parameter("scale", 0.1, 10.0, "nuisance", (0.5, 2.0), "log"),
                Parameter("shift", -2.0, 2.0, "nuisance", (-1.0, 1.0)),
            ],
            context=["shift"],
        )
        constraints = (Constraint("scale", 1.0, 0.2, "log-normal"), Constraint("shift", 0.0, 0.5))

        def components(self, split):
            return {}

        def weights(self, theta):
            return theta

    widths = Small().constraint_widths()
    assert torch.isnan(widths[0])
    assert torch.allclose(widths[1:], torch.tensor([0.2 / np.log(100), 0.125]).double())
