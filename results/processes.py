"""Table of docs/processes.md on averaging, as Markdown: `python results/processes.py`.

An average of networks removes only the part of an error that differs between them. The table
splits the squared distance of each estimate from the exact one, at the largest budget of
`results/processes`.
"""

from pathlib import Path

import bench
from bench.leaderboard.columns import parenthesised
from bench.leaderboard.render import markdown_table
from bench.leaderboard.units import ResamplingUnits
from bench.stats.clustering import ratio

FOLDER = Path(__file__).parent / "processes"
BUDGET = 100_000
METHODS = ("lre:tuned", "dle:tuned", "dle-nflows:tuned")


def main() -> None:
    """Print the table: RMS error, and the share of its square that differs between members."""
    rows = []
    loaded = bench.load(FOLDER)
    for board in loaded.boards:
        if board.plan["kind"] != "independent" or board.budget != BUDGET:
            continue
        names = [parameter.name for parameter in loaded.registry.task(board.task).space.parameters]
        scores = {
            row.label: loaded.results.scores(row.fit, board.plan_folder) for row in board.rows
        }
        exact = scores["exact"]
        assert exact is not None
        units = ResamplingUnits(exact.point, exact.block)
        used, units = units.headline, units[units.headline]
        for label in METHODS:
            own = scores[label]
            assert own is not None
            cells = []
            for name in names:
                # Both are in half-widths of exact's intervals, from the generating parameters.
                error = (own.values[f"bias/{name}"] - exact.values[f"bias/{name}"])[:, used]
                between, square = error.var(0, ddof=1), (error**2).mean(0)
                share = ratio(between[None], square[None], units.strata)
                cells += [f"{square.mean() ** 0.5:.2f}", parenthesised(share.value, share.error)]
            rows.append([f"`{board.task}`", f"`{label}`", *cells])
    head = ["task", "method", "error θ₁", "share θ₁", "error θ₂", "share θ₂"]
    print(markdown_table(head, rows), end="")


if __name__ == "__main__":
    main()
