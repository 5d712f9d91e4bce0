"""
Divergence against the budget
=============================

The divergence of autoregressive densities and of flows from the exact likelihood, against simulator
calls. Both learn a normalised density from the same simulations.
"""

import matplotlib.pyplot as plt

import bench
from bench.report.figures import draw_budgets, looks_of

loaded = bench.load("../../results/densities", "../../results/known")
frame = loaded.quantities.query("quantity == 'divergence/joint' and family == 'generative'")
styles = looks_of(loaded)

_, panels = plt.subplots(1, 3, figsize=(7, 2.3), sharey=True, layout="constrained")
for axes, task in zip(panels, ("sis", "gp", "student-t"), strict=True):
    draw_budgets(frame.query("task == @task"), axes, styles)
    axes.set(title=task, yscale="log")
panels[0].set_ylabel("divergence (nats)")
shown = sorted(set(frame.query("task in ('sis', 'gp', 'student-t')")["label"]))
handles = [styles[label].handle() for label in shown]
panels[1].legend(handles, shown, fontsize=8, loc="upper right", frameon=False)
