"""
Coverage gaps
=============

The coverage of each method minus that of exact intervals, in points, with the simultaneous interval
on which the verdict depends. Coverage holds where the interval is inside the band.
"""

import matplotlib.pyplot as plt

import bench
from bench.report.figures import draw_gaps

loaded = bench.load("../../results/known")
frame = loaded.leaderboard().query("task == 'higgs'")

_, (gaps, lengths) = plt.subplots(1, 2, figsize=(7, 2), sharey=True, layout="constrained")
draw_gaps(frame, gaps, parameter="z")
draw_gaps(frame, lengths)
gaps.set_xlabel("coverage gap of z (points)")
lengths.set_xlabel("honest length / exact")
