"""
Mixture with nuisance parameters
================================

Events are signal or background. The share of signal is of interest. The position of the signal and
the slope of the background are nuisances, and another experiment has measured the position. Here
are the intervals of an observed dataset, and its profile likelihood.
"""

import matplotlib.pyplot as plt
import numpy as np

import bench
from bench.contracts import Constraint, Simulator


def events(theta, rng):
    """Return one event for every row of parameters, (n, 3) to (n,)."""
    share, position, slope = theta.T
    is_signal = rng.random(len(theta)) < share
    signal = rng.normal(position, 0.3)
    return np.where(is_signal, signal, rng.exponential(1 / slope))


ranges = {"share": (0.0, 1.0), "position": (1.0, 3.0), "slope": (0.5, 1.5)}
mixture = Simulator(
    "mixture",
    events,
    ranges,
    observations=50,
    nuisances=["position", "slope"],
    constraints=[Constraint("position", centre=2.0, width=0.1)],
    batch=True,
)
judged = bench.trust(mixture, ["lre:tuned"], budget=20_000, toys=300, tolerance=0.1, quiet=True)
print(judged)

# %%
# The observed data have a share of 0.3, a position of 2.05, and a measured position of 2.

truth = np.tile([0.3, 2.05, 1.0], (50, 1))
observed = events(truth, np.random.default_rng(5))[:, None]
print(judged.intervals(observed, measured={"position": 2.0}).T.to_string(header=False))

# %%
# The interval ends where the profile reaches 1, the calibrated one at the dashed line.

_, axes = plt.subplots(figsize=(5, 3), layout="constrained")
(panel,) = judged.profiles(observed, measured={"position": 2.0}).panels
panel.draw(panel.frame, axes, judged.looks)
axes.set_xlabel("share of signal")
