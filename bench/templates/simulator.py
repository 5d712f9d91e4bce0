"""my-simulator: an epidemic in a household. Change it to your own simulator.

bench trust ./my_simulator.py                        may I trust a surrogate of it?
bench trust ./my_simulator.py --data observed.csv    intervals of observed data
"""

import numpy as np

from bench.contracts import Simulator


def simulate(theta, rng):
    """Return the observation of every parameter set: (n, parameters) to (n, numbers).

    `rng` is a numpy.random.Generator. Draw from it alone: then results can be reproduced.
    """
    infection, recovery = theta.T
    size = 20  # people, of whom one is infected at the start
    infected = np.ones(len(theta), dtype=int)
    susceptible = size - infected
    days = []
    for _ in range(8):
        risk = 1 - np.exp(-infection * infected / size)
        new = rng.binomial(susceptible, risk)
        recovered = rng.binomial(infected, 1 - np.exp(-recovery))
        susceptible, infected = susceptible - new, infected + new - recovered
        days.append(infected)
    return np.stack(days, 1)


my_simulator = Simulator(
    "my-simulator",
    simulate,
    {"infection": (0.5, 3.0), "recovery": (0.2, 1.5)},  # training ranges
    observations=20,  # households in a dataset
    batch=True,  # simulate takes many parameter sets; False if it takes one
    title="Epidemic in households",
)
