"""
Cost against quality
====================

The interval score of each method against its training time. Grey is the Pareto front: no method
is better for less.
"""

import matplotlib.pyplot as plt

import bench
from bench.report.figures import costs, draw_cost, looks_of

loaded = bench.load("../../results/higgs")
frame = costs(loaded.quantities.query("budget > 0 and plan == 'independent'"))
styles = looks_of(loaded)

_, axes = plt.subplots(figsize=(5, 3), layout="constrained")
draw_cost(frame, axes, styles)
trained = [label for label in styles if label in set(frame["label"])]
handles = [styles[label].handle(line=False) for label in trained]
axes.legend(handles, trained, fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
