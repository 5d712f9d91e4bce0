"""Tables of docs/scores.md, as Markdown, and its figure.

`python results/scores.py` reads what `bench study equivalence results/scores` wrote into
`results/studies/`: data-equivalence factors by metric and by size of the network, and the learning
curves behind them, mean ± standard error over networks.
"""

from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
from scipy import stats

import bench
from bench.leaderboard.columns import parenthesised
from bench.leaderboard.render import markdown_table
from bench.report.drawings import drawn
from bench.report.figures import equivalence
from bench.studies.equivalence import EquivalenceFactor, shown

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
SHOWN = {
    "sis": ("score_error/*", "bce/*", "likelihood_ratio_error/", "interval_score/lambda"),
    "gp": ("score_error/*", "bce/*", "likelihood_ratio_error/", "interval_score/length"),
    "student-t": ("score_error/*", "bce/*", "likelihood_ratio_error/", "interval_score/nu"),
    "gaussians-near": (
        *("score_error/signal.*", "bce/signal"),
        *("likelihood_ratio_error/", "interval_score/z"),
    ),
}
"""By task, patterns of the metrics whose values the page shows."""
DRAWN = ("nler:*", "nler-sa:tuned", "nler-sa:10k", "nler-sa:3k", "dle:*", "lre:*")
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


def factor(found: pd.DataFrame, **wanted: object) -> str:
    """One factor with its interval; a dash where it was not measured."""
    for column, value in wanted.items():
        found = found[found[column] == value]
    return shown(EquivalenceFactor(**found.iloc[0].to_dict())) if len(found) else "–"


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
    return markdown_table(["task", "metric", *(f"{b:,}" for b in budgets)], rows)


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
    return markdown_table(["task", "metric", "parameters", *(f"{b:,}" for b in budgets)], rows)


def values(points: pd.DataFrame, column: str, wanted: list) -> list[str]:
    """Values in the order that is wanted; a dash where there is none."""
    by = {p[column]: parenthesised(p.value, p.error) for _, p in points.iterrows()}
    return [by.get(key, "–") for key in wanted]


def families(found: pd.DataFrame, budget: int = 10_000) -> str:
    """Factors of standard classifiers, by the weight of scores."""
    others = ("lre:scores", "lre:scores-light")
    rows = []
    for task in ("sis", "gp", "student-t"):
        here = found[(found.task == task) & found.other.isin(others) & (found.budget == budget)]
        for metric in here.metric.unique():
            each = [factor(here, metric=metric, other=other) for other in others]
            rows.append([f"`{task}`", name(task, metric), *each])
    return markdown_table(["task", "metric", *(f"`{other}`" for other in others)], rows)


def shown_metrics(points: pd.DataFrame, task: str) -> list[str]:
    """The metrics of a task whose values the page shows, in its order."""
    known = points[points.task == task].metric.unique()
    return [m for pattern in SHOWN[task] for m in known if fnmatchcase(m, pattern)]


def curves(points: pd.DataFrame, task: str) -> str:
    """Learning curves of a task, in each metric's own units."""
    labels = ["nler:tuned", "nler-sa:tuned", "nler-sa:light", "nler-sa:adaptive"]
    points = points[(points.task == task) & points.label.isin(labels)]
    budgets = sorted(points.budget.unique())
    rows = []
    for metric in shown_metrics(points, task):
        for label in labels:
            here = points[(points.metric == metric) & (points.label == label)]
            rows.append([name(task, metric), f"`{label}`", *values(here, "budget", budgets)])
    return markdown_table(["metric", "method", *(f"{b:,}" for b in budgets)], rows)


def noise(points: pd.DataFrame, budget: int = 3000) -> str:
    """What noise on the scores does."""
    labels = {
        "nler-sa:tuned": "exact scores",
        "nler-sa:noise-0.01": "1 %",
        "nler-sa:noise-0.1": "10 %",
        "nler-sa:noise-0.5": "50 %",
        "nler:tuned": "no scores",
    }
    rows = []
    for task in TASKS:
        for metric in shown_metrics(points, task):
            here = points[
                (points.budget == budget) & (points.task == task) & (points.metric == metric)
            ]
            rows.append([f"`{task}`", name(task, metric), *values(here, "label", list(labels))])
    return markdown_table(["task", "metric", *labels.values()], rows)


def worse(points: pd.DataFrame) -> str:
    """How often scores make a method worse by two errors of the difference, at equal budgets.

    By chance alone the difference over its error is Student's t, with n + m − 2 degrees of freedom
    for n networks against m that scatter alike.
    """
    rows = []
    pairs = {
        **{f"`nler-sa`, {SIZES[size]} parameters": pair for size, pair in PAIRS.items()},
        "`nler-sa:light`": ("nler:tuned", "nler-sa:light"),
        "`nler-sa:adaptive`": ("nler:tuned", "nler-sa:adaptive"),
        "`nler-sa:10k-adaptive`": ("nler:10k", "nler-sa:10k-adaptive"),
        "`nler-sa:3k-adaptive`": ("nler:3k", "nler-sa:3k-adaptive"),
        "`lre:scores`": ("lre:tuned", "lre:scores"),
        "`lre:scores-light`": ("lre:tuned", "lre:scores-light"),
        "`dle:scores`": ("dle:tuned", "dle:scores"),
        "`dle:scores-light`": ("dle:tuned", "dle:scores-light"),
    }
    for what, (plain, other) in pairs.items():
        keys = ["task", "metric", "budget"]
        both = points[points.label == plain].merge(points[points.label == other], on=keys)
        both = both[(both.members_x > 1) & (both.members_y > 1)]
        gap = (both.value_y - both.value_x) / (both.error_x**2 + both.error_y**2) ** 0.5
        beyond = both[gap > 2]
        where = "; ".join(
            f"{name(r.task, r.metric)} on `{r.task}` at {r.budget:,}" for r in beyond.itertuples()
        )
        counts = [len(both), sum(gap < -2), len(beyond)]
        chance = stats.t.sf(2, both.members_x + both.members_y - 2).sum()
        rows.append([what, *map(str, counts), f"{chance:.1f}", where])
    return markdown_table(
        ["method", "comparisons", "better", "worse", "worse by chance", "where"], rows
    )


def draw(task: str) -> None:
    """Draws the factors of a task as `bench report` does, without those of noisy scores."""
    loaded = bench.load(STUDIES.parent / "scores", tasks=[task], methods=DRAWN)
    (figure,) = equivalence.figures(loaded, {})
    files = drawn(figure).files
    for form in ("png", "svg"):
        (STUDIES / f"equivalence-{task}.{form}").write_bytes(files[form])


def main() -> None:
    """Prints every table and draws the figure."""
    found = pd.read_csv(STUDIES / "equivalence.csv", keep_default_na=False, na_values=["nan"])
    points = pd.read_csv(STUDIES / "equivalence-curves.csv")
    draw("sis")
    print("## Factors\n", factors(found), sep="\n")
    print("## By size\n", sizes(found), sep="\n")
    print("## Better and worse by two errors\n", worse(points), sep="\n")
    for task in TASKS:
        print(f"## {task}\n", curves(points, task), sep="\n")
    print("## Families\n", families(found), sep="\n")
    print("## Noise\n", noise(points), sep="\n")


if __name__ == "__main__":
    main()
