"""
Epidemic in numpy
=================

A function simulates one outbreak of a disease. Does a ratio network, trained on 20,000 outbreaks,
give intervals that cover? The panels show the coverage along both parameters.
"""

import matplotlib.pyplot as plt
import numpy as np

import bench
from bench.contracts import Simulator


def outbreak(theta, rng):
    """Return weekly new cases in a town of 1,000 people."""
    infection, recovery = theta
    susceptible, infected, weeks = 990, 10, []
    for _ in range(10):
        new = rng.binomial(susceptible, 1 - np.exp(-infection * infected / 1000))
        recovered = rng.binomial(infected, 1 - np.exp(-recovery))
        susceptible, infected = susceptible - new, infected + new - recovered
        weeks.append(new)
    return np.sqrt(weeks)  # networks learn roots of numbers faster


ranges = {"infection": (0.5, 3.0), "recovery": (0.2, 1.5)}
epidemic = Simulator("epidemic", outbreak, ranges)
judged = bench.trust(epidemic, ["lre:tuned"], budget=20_000, toys=500, tolerance=0.1, quiet=True)
print(judged)

# %%
# A line of the table is a parameter. `bench trust` shows the same on a page of its own. Here is its
# figure.

_, axes = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
for panel, place in zip(judged.local_coverage().panels, axes, strict=True):
    panel.draw(panel.frame, place, judged.looks)
    place.set_title(panel.title)
