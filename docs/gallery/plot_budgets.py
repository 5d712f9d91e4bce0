"""
Quality against the budget
==========================

The interval score relative to exact's, against the simulator calls of one training.
"""

import matplotlib.pyplot as plt

import bench
from bench.report.figures import draw_budgets, looks_of

loaded = bench.load("../../results/processes")
chosen = "task == 'sis' and quantity == 'score_ratio' and plan == 'independent'"
frame = loaded.quantities.query(chosen)
styles = looks_of(loaded)

_, axes = plt.subplots(figsize=(5, 3), layout="constrained")
draw_budgets(frame, axes, styles, ratio=True)
axes.set_ylabel("interval score / exact")
trained = [label for label in styles if label != "exact"]
axes.legend([styles[label].handle() for label in trained], trained, fontsize=8, frameon=False)
