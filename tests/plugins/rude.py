"""Task, method and metric with texts that control terminals: escapes, bells, forged lines."""

import numpy as np

from bench.contracts import FitLog, Method, Metric, Parameter, ParameterSpace
from bench.errors import NotApplicable
from bench.testing.asymmetric import AsymmetricGaussians

RUDE = "\x1b[31mred\x9b31m\x07\u202egnp.exe\nforged line\x85\u2028forged too\r"


class RudeTask(AsymmetricGaussians):
    name = "rude"
    title = f"A title {RUDE}"
    citation = f"An author {RUDE} (2020)"
    feature_names = (f"x {RUDE}", f"y {RUDE}")
    space = ParameterSpace(
        [
            Parameter("mu", 0.0, 0.7, "interest", (0.08, 0.35), symbol=f"μ{RUDE}", unit=RUDE),
            Parameter("z", 0.5, 2.0, "nuisance", (0.7, 1.4), scale="log", symbol=f"z{RUDE}"),
        ],
        context=["z"],
    )


class Absent(AsymmetricGaussians):
    name = "absent"

    def check(self):
        raise NotApplicable(f"no data {RUDE}")


class RudeName(AsymmetricGaussians):
    name = "rude-name"
    space = ParameterSpace(
        [
            Parameter(f"mu{RUDE}", 0.0, 0.7, "interest", (0.08, 0.35)),
            Parameter("z", 0.5, 2.0, "nuisance", (0.7, 1.4), scale="log"),
        ],
        context=["z"],
    )


class Unspeakable(AsymmetricGaussians):
    name = f"unspeakable{RUDE}"


class RudeMethod(Method):
    name = "rude-method"
    title = f"A title {RUDE}"
    citation = f"An author {RUDE} (2021)"
    family = f"A family {RUDE}"

    def fit(self, fit_context):
        fit_context.report(stage=f"fit [red]{RUDE}", done=1, total=2)
        raise ValueError(f"an exception {RUDE}")

    def restore(self, task, features, state):
        raise ValueError(f"an exception {RUDE}")


class Declines(RudeMethod):
    name = "rude-declines"

    def check(self, task):
        raise NotApplicable(f"it would rather not {RUDE}")


class Fine(RudeMethod):
    """Method with constant log-ratios."""

    name = "rude-fine"

    class Flat:
        reference = None
        has_density = False
        log = FitLog(1, [{}])

        def log_ratio(self, x, context):
            return x.new_zeros(1, 2, len(x), len(context)) - x.sum() * 0

        def state(self):
            import torch

            return {"w": torch.zeros(1, 2)}

    def fit(self, fit_context):
        return self.Flat()

    def restore(self, task, features, state):
        return self.Flat()


def measure(prediction, truth):
    return {"": np.zeros(len(prediction.datasets))}


def fail(prediction, truth):
    raise ValueError(f"an exception {RUDE}")


rude, absent, rude_name, unspeakable = RudeTask(), Absent(), RudeName(), Unspeakable()
rude_metric = Metric("rude_metric", "Rude", "A count of nothing.", ("independent",), measure)
rude_failure = Metric("rude_failure", "Failure", "A metric that fails.", ("independent",), fail)
