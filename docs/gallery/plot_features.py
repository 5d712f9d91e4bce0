"""
Data of a task
==============

Densities of the features of each component, and example datasets of a process.
"""

import matplotlib.pyplot as plt

from bench.registry.registry import Registry
from bench.report.figures import draw_example, draw_features, samples

tasks = Registry()
near, field = tasks.task("gaussians-near"), tasks.task("gp")

_, (left, right) = plt.subplots(1, 2, figsize=(6, 2.8), layout="constrained")
draw_features(samples.drawn(near), left, task=near)
left.set_title("gaussians-near")
draw_example(samples.drawn(field), right, task=field)
right.set_title("gp")
