"""Methods and a metric that break the contract in different ways."""

import os
import sys
import time
from pathlib import Path

import torch

from bench.contracts import FitLog, Method, Metric
from bench.errors import NotApplicable


class Flat:
    """Surrogate with constant log-ratios."""

    reference = None
    has_density = False
    log = FitLog()

    def log_ratio(self, x, context):
        return torch.zeros(1, 2, len(x), len(context))

    def state(self):
        return {"w": torch.zeros(1, 2)}


class Base(Method):
    """Method without a fault, base class of the others."""

    surrogate = Flat

    def fit(self, fit_context):
        return self.surrogate()

    def restore(self, task, features, state):
        return self.surrogate()


class Hangs(Base):
    name = "hangs"

    def fit(self, fit_context):
        if os.fork() == 0:  # a child that outlives its parent, with all open files
            time.sleep(600)
            os._exit(0)
        while True:
            time.sleep(60)


class Hogs(Base):
    name = "hogs"

    def fit(self, fit_context):
        self.block = b"x" * (3 * 2**29)  # 1.5 GiB
        while True:
            time.sleep(60)


class Raises(Base):
    """Method that raises until there is a file `mended` next to this one."""

    name = "raises"

    def fit(self, fit_context):
        if Path(__file__).with_name("mended").exists():
            return Flat()
        raise KeyError("two\nlines")


class Exits(Base):
    name = "exits"

    def fit(self, fit_context):
        os._exit(0)


class Leaves(Base):
    name = "leaves"

    def fit(self, fit_context):
        sys.exit(3)


class NanState(Base):
    name = "nan-state"

    class surrogate(Flat):
        def state(self):
            return {"w": torch.full((1, 2), torch.nan)}


class NanRatio(Base):
    name = "nan-ratio"

    class surrogate(Flat):
        def log_ratio(self, x, context):
            return super().log_ratio(x, context) * torch.nan


class WrongShape(Base):
    name = "wrong-shape"

    class surrogate(Flat):
        def log_ratio(self, x, context):
            return torch.zeros(1, len(x), len(context))


class WrongAxis(Base):
    name = "wrong-axis"

    class surrogate(Flat):
        def state(self):
            return {"w": torch.zeros(7, 2)}


class Overspends(Base):
    name = "overspends"

    def fit(self, fit_context):
        for name in fit_context.task.component_names:
            fit_context.bank.draw(name, fit_context.bank.budget)
        return Flat()


class Declines(Base):
    name = "declines"

    def check(self, task):
        raise NotApplicable("it would rather not")


class DeclinesLate(Base):
    name = "declines-late"

    def fit(self, fit_context):
        raise NotApplicable("it would rather not, on second thoughts")


class Prints(Base):
    name = "prints"

    def fit(self, fit_context):
        print("noise on standard output")
        return Flat()


class ChangesGlobals(Base):
    name = "changes-globals"

    def fit(self, fit_context):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(2)
        torch.manual_seed(0)
        return Flat()


class WrongSignature(Base):
    name = "wrong-signature"

    def fit(self):
        return Flat()


class Abstract(Method):
    name = "abstract"

    def fit(self, fit_context):
        return Flat()


class BadCheck(Base):
    name = "bad-check"

    def check(self, task):
        return task.no_such_thing


class BadInit(Base):
    name = "bad-init"

    def __init__(self):
        pass


def fails(prediction, truth):
    raise ZeroDivisionError("in\nplugin")


broken_metric = Metric("broken", "broken", "Fails.", ("independent",), fails)
