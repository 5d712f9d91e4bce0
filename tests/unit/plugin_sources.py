"""Sources of a task, a method, a metric and a diagnostic, for tests of the registry."""

TASK = """
import torch
from bench.contracts import Parameter, ParameterSpace, Resolution, Task

class Toy(Task):
    name = "toy"
    version = 1
    space = ParameterSpace(
        [Parameter("mu", 0, 1, "interest", (0, 1)), Parameter("z", 1, 3, "nuisance", (1, 2))],
        context=["z"],
    )
    nominal = torch.tensor([2.0])
    points = torch.tensor([[0.5, 2.0]])
    observations = 10
    event_shape = (1,)

    def components(self, split):
        return {}

    def weights(self, theta):
        return theta

toy = Toy()
"""
METHOD = """
from bench.contracts import Method

class Toy(Method):
    name = "toy"

    def fit(self, fit_context):
        return None

    def restore(self, task, features, state):
        return None
"""
METRIC = """
from bench.contracts import Metric

metric = Metric("toy", "toy", "A toy.", ("independent",), lambda prediction, truth: {})
"""
DIAGNOSTIC = """
from bench.contracts import Diagnostic, Finding

diagnostic = Diagnostic("toy", "toy", "A toy.", "event", "samples", lambda evidence: Finding(0.0))
"""
