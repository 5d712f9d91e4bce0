"""What the maps of calibrated cells change: the same networks with and without, on the same data.

Run `bench run results/calibration.toml`, `bench run results/calibration-bases.toml --out
results/calibration`, then `python results/calibration.py [FOLDER]`, which prints Markdown.
"""

import sys

import numpy as np

from bench.leaderboard.results import Results
from bench.stats.clustering import Estimate, mean, ratio
from bench.storage.store import Store

METRICS = ("coverage/z", "interval_score/z", "interval_score/mu", "overlap_M/joint")
OVERLAPS = ("overlap_M/z", "overlap_M/mu")


def show(estimate: Estimate, sign: str = "") -> str:
    """A number with its error, in units of the last digit."""
    digits = 3 if estimate.error < 0.05 else 2
    text = f"{estimate.value:{sign}.{digits}f}({round(estimate.error * 10**digits)})"
    return text.replace("-", "−")


def main(folder: str = "results/calibration") -> None:
    """Prints the table."""
    results = Results(Store.open(folder))
    plan = next(name for name in results.plans if name.startswith("independent"))
    header = ["task", "calibrated", "by", "networks", *METRICS, *OVERLAPS]
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    fits = {(f.task, f.configuration, f.identity["budget"]): f for f in results.fits}
    for fit in sorted(results.fits, key=lambda f: (f.task, f.configuration, f.label)):
        calibration = fit.identity.get("calibration")
        if calibration is None:
            continue
        calls = fit.identity["budget"] - calibration["calls"]
        base = fits.get((fit.task, fit.configuration, calls))
        own, without = (f and results.scores(f, plan) for f in (fit, base))
        if not own or not without:
            continue
        common = [m for m in own.members if m in without.members]
        cells = [fit.task, f"`lre:{fit.configuration}`", calibration["kind"], str(len(common))]
        for metric in (*METRICS, *OVERLAPS):
            new, old = (
                s.values[metric][[s.members.index(m) for m in common]] for s in (own, without)
            )
            point = np.zeros(new.shape[1], int)
            if metric.startswith("interval"):
                cells.append(f"× {show(ratio(new, old, point))}")
            else:
                cells.append(f"{old.mean():.3f} {show(mean(new - old, point), '+')}")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
