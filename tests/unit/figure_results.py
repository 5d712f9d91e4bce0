"""Generated results for tests of figures, and readers of drawings."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
from matplotlib.text import Text

from bench.registry.registry import Registry

LEVELS = [round(0.05 * i, 2) for i in range(1, 20)]
REGISTRY = Registry()


def keys(label, task="gaussians-near", budget=1000, plan="independent", **others):
    method, _, configuration = label.partition(":")
    return {
        "task": task,
        "budget": budget,
        "training_data": "fresh",
        "seed": 0,
        "plan": plan,
        "plan_folder": f"{plan}-1",
        "label": label,
        "method": method,
        "configuration": configuration or "default",
        "family": "",
        "ensemble": 0,
    } | others


def numbers(label, board, rng, n):
    """Return quantities and members of one method on one board."""
    base = keys(label, **board)
    quantities, by_member = [], []
    for metric, centre in (("coverage", 0.65), ("width", 0.1), ("overlap_M", 0.9)):
        for key in ("mu", "z", "joint") if metric == "overlap_M" else ("mu", "z"):
            values = centre * (1 + 0.05 * rng.standard_normal(n))
            name = {"quantity": f"{metric}/{key}", "metric": metric, "key": key}
            for member, value in enumerate(values):
                row = {"member": member, "point": -1, "value": value, "error": 0.01, "sets": 100}
                by_member.append(base | name | row)
            told = {"statistic": "", "value": values.mean(), "error": 0.01}
            quantities.append(base | name | told)
            if metric == "width" and label != "exact":
                ratio = {"metric": "width ratio", "statistic": "ratio", "value": 1.1, "error": 0.02}
                quantities.append(base | name | ratio | {"quantity": f"width/{key}/ratio"})
    alone = {"score_ratio": 1 + rng.random(), "likelihood_ratio_error": rng.random()}
    for metric, value in alone.items() if label != "exact" else ():
        name = {"quantity": metric, "metric": metric, "key": "", "statistic": ""}
        quantities.append(base | name | {"value": value, "error": 0.05})
    for key, value in (("seconds", 10 * rng.random() + 1), ("calls", board["budget"])):
        name = {"quantity": f"cost/{key}", "metric": "cost", "key": key, "statistic": ""}
        quantities.append(base | name | {"value": float(value), "error": math.nan})
    return quantities, by_member


def window(label, board, shift, member=0):
    """Return a Gaussian likelihood on nodes, at two points."""
    base = keys(label, **board) | {"member": member}
    x, y = np.linspace(0.05, 0.35, 33), np.linspace(0.5, 1.1, 33)
    grid = np.meshgrid(x, y, indexing="ij")
    fall = -0.5 * (((grid[0] - 0.2 - shift) / 0.05) ** 2 + ((grid[1] - 0.8) / 0.1) ** 2)
    frames, maxima = [], []
    for point in (0, 4):
        at = base | {"point": point, "dataset": point}
        values = {"x": grid[0].ravel(), "y": grid[1].ravel(), "fall": fall.ravel()}
        frames.append(pd.DataFrame(values).assign(**at, x_name="mu", y_name="z"))
        ends = {"x_true": 0.2, "y_true": 0.8, "x_mle": 0.2 + shift, "y_mle": 0.8}
        maxima.append(at | ends)
    return frames, maxima


class Made:
    """Stand-in for the object that `bench.load` returns."""

    def __init__(self, **frames):
        vars(self).update(frames)


def results(labels, n=3, task="gaussians-near", budgets=(1000,), predictions=True, studies=None):
    rng = np.random.default_rng(1)
    quantities, by_member, fits, curves, levels, verdicts = [], [], [], [], [], []
    grids, maxima = [], []
    for label, budget in itertools.product(labels, budgets):
        board = {"task": task, "budget": budget}
        more = numbers(label, board, rng, 1 if label == "exact" else n)
        quantities += more[0]
        by_member += more[1]
        of_fit = {k: v for k, v in keys(label, **board).items() if not k.startswith("plan")}
        for member in range(n if label != "exact" else 0):
            spent = {"status": "done", "seconds": 5.0 + member, "calls": budget}
            fits.append(of_fit | {"member": member} | spent)
            for epoch in range(1, 6):
                losses = {"training": 1 / epoch, "validation": 1 / epoch + 0.01 * member}
                at = {"member": member, "component": "signal", "epoch": epoch}
                curves.append(of_fit | at | losses)
        if label != "exact":
            price = {"honest length": 1.1, "honest length error": 0.02}
            words = {"verdict mu": "holds", "verdict z": "undetermined"}
            gap = {"gap mu": 0.0, "gap mu low": -0.03, "gap mu high": 0.03}
            verdicts.append(keys(label, **board) | words | gap | price)
        if predictions:
            for parameter, level in itertools.product(("mu", "z", "joint"), LEVELS):
                told = {"parameter": parameter, "level": level, "coverage": level - 0.03}
                band = {"low": max(level - 0.1, 0), "high": min(level + 0.1, 1)}
                levels.append(keys(label, **board) | told | band | {"error": 0.02, "datasets": 100})
            found = window(label, board, 0.01 * len(label) if label != "exact" else 0.0)
            grids += found[0]
            maxima += found[1]
    plain = list(keys("exact"))
    of_fits = [k for k in plain if not k.startswith("plan")]

    def frame(rows, columns):
        return pd.DataFrame(rows, columns=None if rows else columns)

    by_quantity = ["quantity", "metric", "key", "statistic", "value", "error"]
    where = ["member", "point", "quantity", "metric", "key", "value", "error", "sets"]
    by_level = ["parameter", "level", "coverage", "error", "low", "high", "datasets"]
    by_node = ["member", "point", "dataset", "x_name", "y_name", "x", "y", "fall"]
    losses = ["member", "component", "epoch", "training", "validation"]
    return Made(
        quantities=frame(quantities, plain + by_quantity),
        members=frame(by_member, plain + where),
        fits=frame(fits, [*of_fits, "member", "status", "seconds", "calls"]),
        curves=frame(curves, of_fits + losses),
        calibration=frame(levels, plain + by_level),
        contours=pd.concat(grids) if grids else frame([], plain + by_node),
        maxima=frame(maxima, [*plain, "point", "x_true", "y_true", "x_mle", "y_mle"]),
        leaderboard=lambda: frame(verdicts, plain),
        studies=studies or {},
        registry=REGISTRY,
        boards=[],
        results=SimpleNamespace(fits=[], plans={}),
    )


def bootstrap_table(task="gaussians-near"):
    rows = []
    for quantity, (k, value) in itertools.product(
        ("coverage/mu", "region_coverage"), ((1, 0.53), (9, 0.66), (math.nan, 0.68))
    ):
        independent = math.isnan(k)
        rows.append(
            {
                "task": task,
                "plan": "independent" if independent else "bootstrap",
                "observations": 1000,
                "multiple": k,
                "stratified": not independent,
                "quantity": quantity,
                "value": value + (0.25 if quantity.startswith("region") else 0),
                "error": 0.01,
                "expected": value,
            }
        )
    return pd.DataFrame(rows)


def equivalence_table():
    base = {"task": "sis", "plan": "independent-1", "plain": "nler:tuned", "other": "nler-sa:tuned"}
    base |= {"members": 5, "plain_members": 5, "largest": 100_000}
    rows = [
        {"metric": "score_error/outbreak.lambda", "value": 10.0, "low": 8.0, "beyond": ">"},
        {"metric": "bce/outbreak", "value": 3.0, "low": 0.0, "beyond": ""},
        {"metric": "mle_distance/lambda", "value": math.nan, "low": math.nan, "beyond": ""},
    ]
    high = {"high": math.inf, "budget": 1000}
    return pd.DataFrame([base | row | high for row in rows])


def texts(canvas):
    """Return all drawn texts, without tick labels beyond limits and those of hidden axes."""
    canvas.draw_without_rendering()
    every = [*canvas.axes, *(child for axes in canvas.axes for child in axes.child_axes)]
    off = {axes for axes in every if not (axes.get_visible() and axes.axison)}
    hidden = {
        label
        for axes in every
        for axis in (axes.xaxis, axes.yaxis)
        for tick in [*axis.majorTicks, *axis.minorTicks]
        for label in (tick.label1, tick.label2)
        if not _within(tick.get_loc(), axis.get_view_interval())
    }
    for axes in off:
        hidden |= {*axes.xaxis.findobj(Text), *axes.yaxis.findobj(Text)}
        hidden |= set() if axes.get_visible() else set(axes.findobj(Text))
    found = (t for t in canvas.findobj(Text) if t.get_visible() and t.get_text().strip())
    return [text for text in found if text not in hidden]


def _within(place, interval):
    low, high = sorted(interval)
    return low - 1e-9 <= place <= high + 1e-9


EVERYTHING = results(
    ["nler:tuned", "nler-sa:tuned", "lre:published", "exact"],
    n=9,
    budgets=(1000, 10_000),
    studies={"bootstrap-k": bootstrap_table(), "equivalence": equivalence_table()},
)
