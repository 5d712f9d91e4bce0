"""
Coverage of bootstrapped datasets
=================================

Datasets that share events cover less than independent ones. The curve is the expectation for sets
of k M events, and short lines add the scatter of the sets. Circles have sets with a fixed number
of signal events, squares with a random one. The band is the coverage of independent datasets.
"""

import matplotlib.pyplot as plt

import bench
from bench.report.figures import draw_coverage_against_k

loaded = bench.load("../../results/higgs", "../../results/studies")
table = loaded.studies["bootstrap-k"]
frame = table[(table["task"] == "gaussians-far") & (table["quantity"] == "coverage/z")]

_, axes = plt.subplots(figsize=(5, 3), layout="constrained")
draw_coverage_against_k(frame, axes)
axes.set(xlabel="k", ylabel="coverage of z")
