"""
Stored simulations of an expensive simulator
============================================

A slow simulator ran once, and its simulations are in a file. One row in five tests the network,
which learns from the others. No call is made again.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bench
from bench.contracts import Parameter, StoredTask


def slow(theta, rng):
    """Return eight positions of a damped oscillator, measured with noise."""
    frequency, damping = theta
    times = np.linspace(0.5, 4.0, 8)
    return np.exp(-damping * times) * np.cos(frequency * times) + rng.normal(0, 0.1, 8)


rng = np.random.default_rng(0)
ranges = np.array([[1.0, 3.0], [0.1, 1.0]])
theta = rng.uniform(*ranges.T, size=(9000, 2))
file = Path(tempfile.mkdtemp()) / "simulations.npz"
np.savez(file, theta=theta, x=[slow(row, rng) for row in theta])

# %%
# The file holds pairs of parameters and observations. Test datasets are in the inner range.

oscillator = StoredTask(
    "oscillator",
    file,
    [
        Parameter("frequency", 1.0, 3.0, "interest", (1.4, 2.6)),
        Parameter("damping", 0.1, 1.0, "interest", (0.28, 0.82)),
    ],
)
judged = bench.trust(oscillator, ["lre:tuned"], budget=6000, tolerance=0.1, quiet=True)
print(judged)

# %%
# Few test datasets give wide bands.

_, axes = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
for panel, place in zip(judged.local_coverage().panels, axes, strict=True):
    panel.draw(panel.frame, place, judged.looks)
    place.set_title(panel.title)
