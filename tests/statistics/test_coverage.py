"""Coverage of 95 % intervals in long simulations: the tables of docs/protocol.md."""

from __future__ import annotations

import pytest
from crossed_effects import MEMBERS, SETS, VARIANCES, documented, simulated


@pytest.mark.parametrize("members", MEMBERS)
def test_intervals_over_members_and_sets(members: int) -> None:
    """Where this fails, paste what it prints."""
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
