"""Leaderboards of surrogates with known coverage gaps and lengths, without any file."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from planted_scores import MEMBER
from scipy.special import erf, erfinv

from bench.boards import Leaderboard, build
from bench.boards.results import SavedFit, Scores
from bench.inference.box import ROOTS
from bench.registry.registry import Registry

NOMINAL = float(erf(np.sqrt(0.5)))
SIGMA = 0.1  # half-width of exact intervals
NAMES = ("mu", "z")
PLAN = "independent-planted"

_METRICS = Registry().metrics()


@dataclass(frozen=True)
class Planted:
    """Surrogate whose members have coverage gaps and lengths that scatter.

    Args:
        gap: mean coverage gap of 68.27 % intervals.
        length: mean length at honest coverage, relative to exact.
        divergence: mean divergence, nats.
        scatter: standard deviation of the members' gaps.
        noise: standard deviation of coverage among datasets, beyond that of exact.
    """

    gap: float
    length: float = 1.0
    divergence: float = 0.1
    scatter: float = 0.03
    noise: float = 0.05


@dataclass
class InMemory:
    """Results whose scores are kept in memory."""

    fits: list[SavedFit]
    kept: dict[str, Scores]
    plans: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)

    def scores(self, fit: SavedFit, plan: str) -> Scores | None:
        return self.kept.get(fit.folder) if plan in self.plans else None

    def failures(self, fit: SavedFit) -> dict[str, str]:
        return {}


def planted_board(
    rng: np.random.Generator, surrogates: dict[str, Planted], members: int, sets: int, **options
) -> Leaderboard:
    """Draw the scores of surrogates and of the exact likelihood; return their leaderboard."""
    common = {name: 0.05 * rng.standard_normal(sets) for name in NAMES}
    sizes = {name: rng.gamma(50, 1 / 50, sets) for name in NAMES}
    every = {"exact": Planted(0.0, scatter=0.0, noise=0.0, divergence=0.0)} | surrogates
    fits, kept = [], {}
    for label, one in every.items():
        oracle = label == "exact"
        count = 1 if oracle else members
        identity = {"budget": 1000, "training_data": "fresh", "seed": 0}
        identity |= {"budget": 0, "training_data": "none"} if oracle else {}
        fit = SavedFit(f"t/{label}-0", "t", label, "default", oracle, identity)
        fit.members = dict.fromkeys(range(count), MEMBER)
        fits.append(fit)
        values: dict[str, Any] = {}
        for name in NAMES:
            values |= _of_parameter(rng, one, name, count, common[name], sizes[name])
        values["divergence/joint"] = one.divergence * rng.gamma(4, 1 / 4, (count, sets))
        point, block = np.full(sets, -1), np.arange(sets)
        kept[fit.folder] = Scores(tuple(range(count)), point, block, values, {}, {})
    plan = {"plan": {"kind": "independent", "uniform": sets, "per_point": 0}, "seed": 0}
    results: Any = InMemory(fits, kept, {PLAN: plan})
    (board,) = build(results, _METRICS, **options)
    return board


def _of_parameter(
    rng: np.random.Generator,
    one: Planted,
    name: str,
    members: int,
    common: np.ndarray,
    size: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return scores of one parameter: intervals of a Gaussian, too narrow or too wide by a factor.

    The coverage at root r is erf(w r / √2), where w depends on the member alone. Fluctuations of
    a dataset are the same at all thresholds, and vanish where coverage is certain.
    """
    roots = np.array(ROOTS)
    gap = one.gap + one.scatter * rng.standard_normal((members, 1, 1))
    width = np.sqrt(2) * erfinv(np.clip(NOMINAL + gap, 0.01, 0.999))
    mean = erf(width * roots / np.sqrt(2))
    noise = common + one.noise * rng.standard_normal((members, len(common)))
    covers = mean + noise[..., None] * 4 * mean * (1 - mean)
    longer = one.length * (1 + one.scatter * rng.standard_normal((members, 1, 1)))
    length = 2 * SIGMA * longer * width * roots * size[:, None]
    usual = ROOTS.index(1.0)
    shape = members, len(common)
    found = {
        f"coverage/{name}": covers[..., usual],
        f"interval_score/{name}": length[..., usual],
        f"width/{name}": length[..., usual],
        f"expected_coverage/{name}": covers[..., usual],
        f"expected_score/{name}": length[..., usual],
        f"box_width/{name}": length[..., usual],
    }
    for i, root in enumerate(ROOTS):
        found[f"profile_coverage/{name} {root:g}"] = covers[..., i]
        found[f"profile_lower/{name} {root:g}"] = -0.5 * length[..., i]
        found[f"profile_upper/{name} {root:g}"] = 0.5 * length[..., i]
    return {key: np.broadcast_to(value, shape) for key, value in found.items()}
