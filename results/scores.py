"""Tables of docs/scores.md, as Markdown.

`python results/scores.py` reads what `bench study equivalence results/scores` wrote into
`results/studies/`: data-equivalence factors by metric and by size of the network, and the learning
curves behind them, mean ± standard error over networks.
"""

from pathlib import Path

import pandas as pd

from bench.studies.equivalence import Row, shown

STUDIES = Path(__file__).parent / "studies"
TASKS = ("sis", "gp", "student-t", "gaussians-near")
SYMBOLS = {"lambda": "λ", "gamma": "γ", "length": "ℓ", "nugget": "τ²", "nu": "ν", "mu": "μ"}
NAMES = {
    "score_error": "score",
    "bce": "held-out cross-entropy",
    "likelihood_ratio_error": "likelihood ratio",
    "mle_distance": "MLE distance",
    "interval_score": "interval score",
}
PAIRS = {size: (f"nler:{size}", f"nler-sa:{size}") for size in ("3k", "10k", "tuned")}
SIZES = {"3k": "3,000", "10k": "10,000", "tuned": "30,000"}


def name(task: str, metric: str) -> str:
    """What a metric is called on the page."""
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


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def factor(found: pd.DataFrame, **wanted: object) -> str:
    """One factor with its interval; a dash where it was not measured."""
    for column, value in wanted.items():
        found = found[found[column] == value]
    return shown(Row(**found.iloc[0].to_dict())) if len(found) else "–"


def factors(found: pd.DataFrame) -> str:
    """Factors of networks of 30,000 parameters, by task, metric and budget."""
    plain, other = PAIRS["tuned"]
    found = found[(found.plain == plain) & (found.other == other)]
    budgets = sorted(found.budget.unique())
    rows = [
        [f"`{task}`", name(task, metric)]
        + [factor(found, task=task, metric=metric, budget=b) for b in budgets]
        for task in TASKS
        for metric in found[found.task == task].metric.unique()
    ]
    return table(["task", "metric", *(f"{b:,}" for b in budgets)], rows)


def sizes(found: pd.DataFrame) -> str:
    """Factors by size of the network, in score errors and likelihood ratios."""
    budgets = [1000, 3000, 10000]
    rows = []
    for task in TASKS:
        metrics = [m for m in found[found.task == task].metric.unique() if m.startswith("score_e")]
        for metric in [*metrics, "likelihood_ratio_error/"]:
            for size, (plain, other) in PAIRS.items():
                here = found[(found.task == task) & (found.plain == plain) & (found.other == other)]
                each = [factor(here, metric=metric, budget=b) for b in budgets]
                if set(each) != {"–"}:
                    rows.append([f"`{task}`", name(task, metric), SIZES[size], *each])
    return table(["task", "metric", "parameters", *(f"{b:,}" for b in budgets)], rows)


def curves(points: pd.DataFrame, task: str, labels: list[str]) -> str:
    """Learning curves of a task, in each metric's own units."""
    points = points[(points.task == task) & points.label.isin(labels)]
    budgets = sorted(points.budget.unique())
    rows = []
    for metric in points.metric.unique():
        for label in labels:
            here = points[(points.metric == metric) & (points.label == label)].set_index("budget")
            if len(here):
                each = [
                    f"{here.value[b]:.3g} ± {here.error[b]:.1g} ({here.members[b]})"
                    if b in here.index
                    else "–"
                    for b in budgets
                ]
                rows.append([name(task, metric), f"`{label}`", *each])
    return table(["metric", "method", *(f"{b:,}" for b in budgets)], rows)


def worse(points: pd.DataFrame) -> str:
    """How often scores make a method worse by two errors of the difference, at equal budgets."""
    rows = []
    for size, (plain, other) in PAIRS.items():
        keys = ["task", "metric", "budget"]
        both = points[points.label == plain].merge(points[points.label == other], on=keys)
        both = both[(both.members_x > 1) & (both.members_y > 1)]
        gap = (both.value_y - both.value_x) / (both.error_x**2 + both.error_y**2) ** 0.5
        beyond = both[gap > 2]
        where = "; ".join(
            f"{name(r.task, r.metric)} on `{r.task}` at {r.budget:,}" for r in beyond.itertuples()
        )
        rows.append([SIZES[size], str(len(both)), str(sum(gap < -2)), str(len(beyond)), where])
    return table(["parameters", "comparisons", "better", "worse", "where"], rows)


def main() -> None:
    """Prints every table."""
    found = pd.read_csv(STUDIES / "equivalence.csv", keep_default_na=False, na_values=["nan"])
    points = pd.read_csv(STUDIES / "equivalence-curves.csv")
    print("## Factors\n", factors(found), sep="\n")
    print("## By size\n", sizes(found), sep="\n")
    print("## Better and worse by two errors\n", worse(points), sep="\n")
    for task in TASKS:
        chosen = points[points.task == task]
        for part in (["tuned", "adaptive", "scores"], ["3k", "10k"]):
            known = sorted(chosen.label.unique(), key=lambda x: ("-sa" in x, x))
            labels = [x for x in known if x.partition(":")[2] in part]
            if labels:
                print(f"## {task}\n", curves(points, task, labels), sep="\n")


if __name__ == "__main__":
    main()
