"""
Worth of exact scores
=====================

Factor of simulator calls that a method without scores needs to reach the quality of one with
scores. Circles, squares and diamonds are three budgets, from small to large; lines are 95 %
intervals.
"""

import matplotlib.pyplot as plt

import bench
from bench.report.figures import draw_equivalence

loaded = bench.load("../../results/higgs", "../../results/studies")
table = loaded.studies["equivalence"]
pair = (table["plain"] == "nler:tuned") & (table["other"] == "nler-sa:tuned")
frame = table[(table["task"] == "sis") & pair]

_, axes = plt.subplots(figsize=(5, 3), layout="constrained")
draw_equivalence(frame, axes)
