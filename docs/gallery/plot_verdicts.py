"""
Coverage and price
==================

Whether the coverage of all parameters holds, and the length of honest intervals relative to exact
ones.
"""

import matplotlib.pyplot as plt

import bench
from bench.report.figures import answers, draw_verdicts

loaded = bench.load("../../results/known")
frame = answers(loaded.leaderboard())
_, axes = plt.subplots(figsize=(5, 2), layout="constrained")
draw_verdicts(frame, axes)
