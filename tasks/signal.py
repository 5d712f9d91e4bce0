"""Signal strength μ, shared by the tasks that search for a signal over a background."""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from bench.contracts import Parameter, ParameterSpace, Task

SIGNAL_STRENGTH = Parameter("mu", 0.0, 0.7, "interest", (0.08, 0.35), symbol="μ")
"""Expected number of signal events divided by that of background events.

The bound at 0 is physical: intervals end there.
"""


class SignalAndBackground(Task):
    """Mixture of signal and background with one nuisance parameter, the context of both.

    A fraction μ/(1+μ) of events is signal, as in Sluijter, Diefenbacher, Bhimji & Nachman (2025).
    Evaluation points are μ = 0.1, 0.2, 0.3 at each of three values of the nuisance parameter.

    Args:
        nuisance: the nuisance parameter.
        points: its values at the evaluation points.
    """

    observations = 1000
    event_shape = (2,)

    def __init__(self, nuisance: Parameter, points: Sequence[float]) -> None:
        self.space = ParameterSpace([SIGNAL_STRENGTH, nuisance], context=[nuisance.name])
        self.reported = self.space.names
        self.points = torch.tensor(list(product((0.1, 0.2, 0.3), points)), dtype=torch.float64)

    def weights(self, theta: Tensor) -> Tensor:
        mu = theta[..., 0]
        return torch.stack([mu, torch.ones_like(mu)], -1) / (1.0 + mu).unsqueeze(-1)
