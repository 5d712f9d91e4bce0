"""
Data of a task
==============

Features of each component of `gaussians-near` with their densities, and a field of `gp`.
"""

import matplotlib.pyplot as plt

from bench.registry.registry import Registry
from bench.report.figures import draw_example, draw_features, examples

tasks = Registry()
near, field = tasks.task("gaussians-near"), tasks.task("gp")

_, (left, right) = plt.subplots(1, 2, figsize=(6, 2.8), layout="constrained")
draw_features(examples(near), left, task=near)
draw_example(examples(field), right, task=field)
