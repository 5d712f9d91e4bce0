"""Tables how exact intervals of the processes behave at each evaluation point, as Markdown.

`python results/points.py FOLDER…` reads what `bench run results/points.toml` made, and for M = 1
`bench run results/points-single.toml --plugin results/single.py`: coverage of 68.27 % intervals and
95 % regions, and the share of regions that a bound cuts, each with its 95 % interval (Clopper &
Pearson 1934).
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.cli.folder import open_results
from bench.leaderboard.render import markdown_table
from bench.leaderboard.results import Results
from bench.registry.registry import Registry


def share(hits: NDArray[np.float64]) -> str:
    """A share and its interval, in percent."""
    found = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="exact")
    return f"{hits.mean():.0%} [{found.low:.0%}, {found.high:.0%}]"


def rows(folder: str, registry: Registry) -> list[list[str]]:
    """A row for each task and evaluation point, and one for parameters drawn uniformly."""
    results = Results(open_results(folder))
    out = []
    for fit in sorted(results.fits, key=lambda fit: fit.task):
        (plan,) = results.plans
        scores = results.scores(fit, plan)
        if scores is None:
            continue
        task = registry.task(fit.task)
        columns = [f"coverage/{p.name}" for p in task.space.parameters]
        columns += ["region_coverage/", "cut/region"]
        for point in range(-1, len(task.points)):
            here = scores.point == point
            at = "uniform" if point < 0 else ", ".join(f"{v:g}" for v in task.points[point])
            values = [scores.values[name][0, here] for name in columns]
            out.append([fit.task, at, str(int(here.sum())), *map(share, values)])
    return out


if __name__ == "__main__":
    known = Registry([Path(__file__).parent / "single.py"])
    head = ["task", "θ", "datasets", "covers θ₁", "covers θ₂", "95 % region covers", "region cut"]
    print(markdown_table(head, (row for f in sys.argv[1:] for row in rows(f, known))), end="")
