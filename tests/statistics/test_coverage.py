"""Coverage of 95 % intervals in long simulations: the tables of docs/protocol.md."""

from __future__ import annotations

import pytest
from crossed_effects import MEMBERS, PAGE, SETS, VARIANCES, documented, simulated
from known_factors import covered


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
    assert row in PAGE.read_text()
