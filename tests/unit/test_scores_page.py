"""docs/scores.md agrees with the committed study."""

import csv
import re
from pathlib import Path

from bench.leaderboard.columns import parenthesised
from bench.studies.equivalence import EquivalenceFactor, Point, shown
from bench.studies.equivalence_tables import better_and_worse, counts

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "scores.md").read_text()
PAGE = " ".join(TEXT.split())
STUDIES = ROOT / "results" / "studies"
SYMBOLS = {"lambda": "λ", "gamma": "γ", "length": "ℓ", "nugget": "τ²", "nu": "ν", "mu": "μ"}
NAMES = {
    "score_error": "score",
    "bce": "held-out cross-entropy",
    "likelihood_ratio_error": "likelihood ratio",
    "mle_distance": "MLE distance",
    "interval_score": "interval score",
}
SIZES = {"3,000": "3k", "10,000": "10k", "30,000": "tuned"}
NOISE = {
    "exact scores": "nler-sa:tuned",
    "1 %": "nler-sa:noise-0.01",
    "10 %": "nler-sa:noise-0.1",
    "50 %": "nler-sa:noise-0.5",
    "no scores": "nler:tuned",
}


def read(name, kind):
    """Rows of a committed table, as the study has them."""
    with (STUDIES / name).open(newline="") as file:
        types = {k: f.type for k, f in kind.__dataclass_fields__.items()}
        return [kind(**{k: types[k](v) for k, v in row.items()}) for row in csv.DictReader(file)]


FACTORS = read("equivalence.csv", EquivalenceFactor)
POINTS = read("equivalence-curves.csv", Point)


def called(task, metric):
    """Name a metric as the page does."""
    kind, _, key = metric.partition("/")
    component, _, parameter = key.rpartition(".")
    mixture = task.startswith("gaussians")
    if kind == "score_error":
        key = f", {SYMBOLS.get(parameter, parameter)}" + (f" ({component})" if mixture else "")
    elif kind == "bce":
        key = f" ({key})" if mixture else ""
    else:
        key = f", {SYMBOLS.get(key, key)}" if key else ""
    return NAMES[kind] + key


def tables():
    """Headings and rows of the page's tables, with the task that a line before names."""
    task, head, rows = "", [], []
    for line in [*TEXT.splitlines(), ""]:
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not head:
                head = cells
            elif set(line) - set("|-: "):
                rows.append(dict(zip(head, cells, strict=True)))
        elif head:
            yield task, head, rows
            head, rows = [], []
        elif found := re.fullmatch(r"`([\w-]+)`:", line):
            task = found[1]


def number(text):
    return int(text.replace(",", ""))


def of_study():
    """Every cell of the study, by what the page's headings say of it."""
    pairs = {
        (r.task, called(r.task, r.metric), r.plain, r.other, r.budget): shown(r) for r in FACTORS
    }
    curves = {
        (p.task, called(p.task, p.metric), p.label, p.budget): parenthesised(p.value, p.error)
        for p in POINTS
    }
    return pairs, curves


def test_factors_are_those_of_the_study():
    pairs, _ = of_study()
    compared = 0
    for _, head, rows in tables():
        for row in rows if head[:2] == ["task", "metric"] else ():
            of = row["task"].strip("`"), row["metric"]
            size = SIZES[row.get("parameters", "30,000")]
            for name in head[2:]:
                if re.fullmatch(r"`lre:scores.*`", name):
                    key = *of, "lre:tuned", name.strip("`"), 10_000
                elif re.fullmatch(r"[\d,]+", name):
                    key = *of, f"nler:{size}", f"nler-sa:{size}", number(name)
                else:
                    continue
                assert row[name] == pairs.get(key, "–"), (row, name)
                compared += 1
    assert compared > 200


def test_learning_curves_are_those_of_the_study():
    _, curves = of_study()
    compared = 0
    for task, head, rows in tables():
        for row in rows:
            for name in head[2:]:
                if head[:2] == ["metric", "method"]:
                    key = task, row["metric"], row["method"].strip("`"), number(name)
                elif name in NOISE:
                    key = row["task"].strip("`"), row["metric"], NOISE[name], 3000
                else:
                    continue
                assert row[name] == curves.get(key, "–"), (row, name)
                compared += 1
    assert compared > 300


def test_comparisons_are_counted_and_chance_is_students():
    found = counts(FACTORS, POINTS)
    sizes = [c for c in found if re.fullmatch(r"nler-sa:(3k|10k|tuned)", c.other)]
    total = [sum(c.comparisons for c in sizes), sum(c.better for c in sizes)]
    worse = [p for c in sizes for p in c.worse]
    assert f"In {total[0]} comparisons" in PAGE
    assert f"in {total[1]} and worse in {len(worse)} (score error of τ²" in PAGE
    assert f"chance alone would make about {sum(c.chance for c in sizes):.0f} worse" in PAGE
    by_name = {c.other: c for c in found}
    for name, sentence in {
        "nler-sa:adaptive": "they are better in {} and worse in {}, beyond two errors",
        "nler-sa:10k-adaptive": "better in {} and worse in {} of 99",
        "nler-sa:3k-adaptive": "and better in {} and worse in {}, most of the worse",
    }.items():
        assert sentence.format(by_name[name].better, len(by_name[name].worse)) in PAGE
    expected = re.findall(r"Chance alone would make about (\d+) worse", PAGE)
    assert expected == [
        f"{by_name[name].chance:.0f}" for name in ("nler-sa:adaptive", "nler-sa:3k-adaptive")
    ]


def test_the_committed_tables_count_the_same():
    assert better_and_worse(counts(FACTORS, POINTS)) in (STUDIES / "equivalence.md").read_text()
