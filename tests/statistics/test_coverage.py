"""Coverage of 95 % intervals in long simulations, against the protocol, and expectations."""

from __future__ import annotations

import numpy as np
import pytest
from crossed_effects import MEMBERS, PAGE, SETS, VARIANCES, documented, simulated
from known_factors import covered
from scipy import stats
from scipy.stats import qmc
from test_expected import FLAWS, check_means

from bench.stats.clustering import Strata, two_way_variance


@pytest.mark.parametrize("members", MEMBERS)
def test_intervals_over_members_and_sets(members: int) -> None:
    """If this fails, replace the table by the printed output."""
    ranges = []
    for sets in SETS:
        covered = [simulated(variances, members, sets, 10) for variances in VARIANCES]
        ranges.append((min(covered), max(covered)))
    alone = [simulated((0, 0, 1), members, sets, 10) for sets in SETS]
    ranges.append((min(alone), max(alone)))
    cells = [f"{low:.1f}–{high:.1f}" for low, high in ranges]
    print(f"| {members} | {' | '.join(cells)} |")
    for sets, found in zip((*SETS, 0), ranges, strict=True):
        assert found == pytest.approx(documented()[members, sets], abs=0.15)


@pytest.mark.parametrize("networks", [(3, 3), (5, 5), (10, 10), (3, 5), (5, 3)])
def test_intervals_of_data_equivalence(networks: tuple[int, int]) -> None:
    """If this fails, replace the table by the printed output."""
    found = [
        100 * covered(networks, truth, budget, scatter, 1000)
        for truth, budget in ((10, 3e3), (6, 3e3), (2, 1e4), (10, 9e3))
        for scatter in (0.1, 0.3, 1.0)
    ]
    plain, other = networks
    print(row := f"| {plain} | {other} | {min(found):.1f}–{max(found):.1f} |")
    assert row in (PAGE.parent / "surrogates.md").read_text()


@FLAWS
def test_expectations_have_the_means_of_plain_metrics(
    shift: float, scale: float, scatter: float
) -> None:
    check_means(shift, scale, scatter, 2000)


@pytest.mark.parametrize("sequence", ["random", "sobol"])
@pytest.mark.parametrize("members", [2, 3, 5, 8, 14])
def test_errors_of_expectations(members: int, sequence: str) -> None:
    """From five members on, 95 % intervals cover 93 to 97 %."""
    rng, tables, sets = np.random.default_rng(1), 2000, 71
    covered = 0
    for number in range(tables):
        if sequence == "random":
            theta = rng.uniform(size=(sets, 2))
        else:
            theta = qmc.Sobol(2, seed=number).random(128)[:sets]
        # A smooth dependence on θ, as of expected coverage, whose mean over the box is 0.
        trend = (theta - 0.5) @ [0.06, 0.03] + 0.1 * ((theta[:, 0] - 0.5) ** 2 - 1 / 12)
        values = (
            0.02 * rng.standard_normal((members, 1))
            + trend
            + 0.02 * rng.standard_normal(sets)
            + 0.03 * rng.standard_normal((members, sets))
        )
        strata = Strata(np.zeros(sets, int), theta if sequence == "sobol" else None)
        variance = two_way_variance(values, strata)
        half = stats.t.ppf(0.975, variance.dof) * np.sqrt(variance.total)
        covered += bool(abs(values.mean()) <= half)
    share = covered / tables
    print(f"{sequence}, {members} members: {100 * share:.1f} %")
    if members >= 5:
        assert 0.93 - 0.005 <= share <= 0.97 + 0.005
