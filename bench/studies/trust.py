"""Verdicts of `bench trust` against the truth, for many trainings on tasks with a likelihood.

A verdict sees whether intervals of the first datasets contain the true values, and nothing else.
The true gap of the same network is known from the other datasets: the posterior probability of its
intervals under the exact likelihood, minus the nominal one.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy import stats

from bench.boards.judgement import NOMINAL, of_parameters
from bench.boards.render import csv_of, markdown_table
from bench.boards.results import Results, Scores
from bench.boards.units import ResamplingUnits
from bench.errors import UsageError
from bench.stats.decision import Word, together
from bench.studies.numbers import code

NAME = "trust"
TRUE = "delivered_coverage"
"""Metric of the true coverage, which results/trust.py defines."""

_SURE = 2.0  # standard errors by which a true gap is surely on a side
_BOUND = 0.95  # confidence of upper limits of error rates


@dataclass(frozen=True)
class Training:
    """One line of the table: one trained network.

    Args:
        task, method, budget, member: the network.
        gap: its largest true gap of any parameter.
        error: standard error of that gap.
        word: the verdict on all parameters.
    """

    task: str
    method: str
    budget: int
    member: int
    gap: float
    error: float
    word: Word


@dataclass(frozen=True)
class Side:
    """Verdicts on networks whose true gap lies on one side of the tolerance.

    Args:
        name: the side.
        wrong: the false verdict there.
        words: number of networks by verdict.
    """

    name: str
    wrong: Word
    words: Counter[Word]

    @property
    def limit(self) -> float:
        """Upper limit of the rate of false verdicts (Clopper & Pearson 1934)."""
        wrong, n = self.words[self.wrong], self.words.total()
        return float(stats.beta.ppf(_BOUND, wrong + 1, n - wrong)) if n > wrong else 1.0


def trainings(
    results: Results, toys: int, tolerance: float = 0.05, level: float = 0.95
) -> Iterator[Training]:
    """Judge every network of a results folder by its first datasets.

    Args:
        results: the folder, with the metric of the true coverage.
        toys: number of datasets that a verdict sees; the others tell the true gap.
        tolerance: largest gap that holds.
        level: confidence level of the verdicts on a network together.
    """
    for fit in sorted(results.fits, key=lambda fit: (fit.task, fit.budget, fit.label)):
        for folder, plan in results.plans.items():
            scores = None if fit.oracle else results.scores(fit, folder)
            if scores is None or not any(key.startswith(f"{TRUE}/") for key in scores.values):
                continue
            if len(scores.point) <= toys:
                raise UsageError(f"{fit.label} on {fit.task} has no datasets beyond {toys:,}")
            units = ResamplingUnits.of(plan, scores)
            seen = np.arange(len(scores.point)) < toys
            names = [key.partition("/")[2] for key in scores.values if key.startswith(f"{TRUE}/")]
            for row, member in enumerate(scores.members):
                own = of_parameters(_of(scores, row, seen), units[seen], names, tolerance, level)
                true = np.stack([scores.values[f"{TRUE}/{name}"][row, ~seen] for name in names])
                gaps = true.mean(-1) - NOMINAL
                worst = int(np.abs(gaps).argmax())
                error = true[worst].std(ddof=1) / np.sqrt(true.shape[-1])
                word = together(one.verdict.word for one in own)
                yield Training(
                    fit.task, fit.label, fit.budget, member, float(gaps[worst]), float(error), word
                )


def _of(scores: Scores, row: int, seen: np.ndarray) -> Scores:
    """Return the scores of one member on some datasets, without the true coverage."""
    known = {k: v for k, v in scores.values.items() if not k.startswith(f"{TRUE}/")}
    return replace(
        scores,
        members=(scores.members[row],),
        point=scores.point[seen],
        block=scores.block[seen],
        values={key: values[row : row + 1, seen] for key, values in known.items()},
    )


def sides(
    found: Sequence[Training], tolerance: float = 0.05, margin: float = 0.01, errors: float = 0.0
) -> list[Side]:
    """Count verdicts within and beyond the tolerance, by more than a margin.

    Args:
        found: the networks.
        tolerance: largest gap that holds.
        margin: least distance of a gap from the tolerance.
        errors: least distance in standard errors of the gap.

    Example:
        >>> one = Training("higgs", "lre:tuned", 1000, 0, -0.12, 0.01, "fails")
        >>> within, beyond = sides([one, replace(one, gap=0.01, word="holds")])
        >>> within.words, round(beyond.limit, 2)
        (Counter({'holds': 1}), 0.95)
    """

    def beyond(one: Training) -> float:
        away = abs(one.gap) - tolerance
        return away if abs(away) > max(margin, errors * one.error) else 0.0

    words = {
        name: Counter(one.word for one in found if sign * beyond(one) > 0)
        for name, sign in (("within", -1), ("beyond", 1))
    }
    return [Side("within", "fails", words["within"]), Side("beyond", "holds", words["beyond"])]


def markdown(found: Sequence[Training], tolerance: float = 0.05) -> str:
    """Render the table by tasks and budgets, and the error rates."""
    groups: dict[tuple[str, str, int], list[Training]] = {}
    for one in found:
        groups.setdefault((one.task, one.method, one.budget), []).append(one)
    words: tuple[Word, ...] = ("holds", "undetermined", "fails")
    rows = []
    for (task, method, budget), members in groups.items():
        gaps = np.array([one.gap for one in members])
        counts = Counter(one.word for one in members)
        rows.append(
            [
                code(task),
                code(method),
                f"{budget:,}",
                str(len(members)),
                f"{100 * gaps.min():+.1f} to {100 * gaps.max():+.1f}",
                *(str(counts[word]) for word in words),
            ]
        )
    head = ["task", "method", "budget", "networks", "true gap, points", *words]
    tables = [markdown_table(head, rows)]
    rows = [
        [
            f"{side.name} ± {100 * tolerance:g} points{how}",
            str(side.words.total()),
            *(str(side.words[word]) for word in words),
            f"{100 * side.words[side.wrong] / max(side.words.total(), 1):.1f} %",
            f"{100 * side.limit:.1f} %",
        ]
        for errors, how in ((0.0, ""), (_SURE, f", by {_SURE:g} errors"))
        for side in sides(found, tolerance, errors=errors)
    ]
    head = ["true gap", "networks", *words, "false", "at most, 95 %"]
    tables.append(markdown_table(head, rows))
    errors = np.array([one.error for one in found])
    tables.append(
        f"True gaps have errors of {100 * np.median(errors):.1f} points, at most "
        f"{100 * errors.max():.1f}. Networks within a point of the tolerance count on neither "
        "side.\n"
    )
    return "\n".join(tables)


def csv(found: Sequence[Training]) -> str:
    """Render all trainings as CSV."""
    return csv_of([asdict(one) for one in found])
