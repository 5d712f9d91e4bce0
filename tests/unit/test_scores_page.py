"""Statements of docs/results/scores.md agree with the committed studies."""

import csv
from pathlib import Path

import pytest

from bench.studies.equivalence import EquivalenceFactor, Point
from bench.studies.equivalence_tables import better_and_worse, counts

STUDIES = Path(__file__).parents[2] / "results" / "studies"


def read(name, kind):
    """Rows of a committed table, as the study has them."""
    with (STUDIES / name).open(newline="") as file:
        types = {k: f.type for k, f in kind.__dataclass_fields__.items()}
        return [kind(**{k: types[k](v) for k, v in row.items()}) for row in csv.DictReader(file)]


FACTORS = read("equivalence.csv", EquivalenceFactor)
POINTS = read("equivalence-curves.csv", Point)


def factors(task, metric, label="nler-sa:tuned"):
    """Return the factors of a metric by budget."""
    key = task, metric, label
    return {f.budget: f for f in FACTORS if (f.task, f.metric, f.other) == key}


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("sis", "score_error/outbreak.gamma"),
        ("sis", "likelihood_ratio_error/"),
        ("student-t", "score_error/field.nu"),
        ("student-t", "interval_score/nu"),
        ("gaussians-near", "score_error/signal.z"),
        ("gaussians-near", "interval_score/z"),
    ],
)
def test_scores_save_simulations(task, metric):
    assert all(f.low > 1 for f in factors(task, metric).values())


def test_scores_save_little_on_gp():
    assert all(f.value < 2 for f in FACTORS if (f.task, f.other) == ("gp", "nler-sa:tuned"))
    assert all(f.low < 1 for f in factors("gp", "interval_score/length").values())


def test_the_light_weight_on_gp_is_within_the_errors_of_the_other():
    light, other = (
        factors("gp", "interval_score/length", label)[3_000]
        for label in ("nler-sa:light", "nler-sa:tuned")
    )
    assert 1 < light.low < other.high


@pytest.mark.parametrize(("label", "task"), [("lre:scores", "sis"), ("dle:scores", "sis")])
def test_worse_comparisons_are_intervals_and_estimates(label, task):
    (found,) = (c for c in counts(FACTORS, POINTS) if c.other == label)
    assert {p.task for p in found.worse} == {task}
    assert {p.metric.partition("/")[0] for p in found.worse} == {"interval_score", "mle_distance"}


def test_training_takes_longest_on_sis_and_shortest_on_student_t():
    with (STUDIES / "score-times.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["calls"] == "10000"]
    ratios = {row["task"]: float(row["ratio"]) for row in rows}
    assert min(ratios, key=ratios.get) == "student-t"
    assert max(ratios, key=ratios.get) == "sis"


def test_the_committed_tables_count_the_same():
    assert better_and_worse(counts(FACTORS, POINTS)) in (STUDIES / "equivalence.md").read_text()
