"""
Members
=======

The coverage of each network, on a density, with the mean and its error. Networks of one method
differ by their training data and initialisation.
"""

import matplotlib.pyplot as plt

import bench
from bench.report.figures import draw_members

loaded = bench.load("../../results/higgs")
chosen = "budget == 1_000_000 and plan == 'independent' and quantity == 'coverage/z'"
members = loaded.members.query(chosen)
means = loaded.quantities.query(chosen)

_, axes = plt.subplots(figsize=(5, 2.8), layout="constrained")
draw_members(members, axes, summary=means, expected=0.6827)
axes.set_xlabel("coverage of z")
