"""Plugin with further misbehaving methods, tasks and metrics."""

import builtins
import math
import os
import random
import signal
import sys
import threading
import time

import numpy as np
import torch

from bench.contracts import FitLog, Method, Metric


class Flat:
    reference = None
    has_density = False

    def __init__(self):
        self.log = FitLog()

    def log_ratio(self, x, context):
        return torch.zeros(1, 2, len(x), len(context))

    def state(self):
        return {"w": torch.zeros(1, 2)}


class Base(Method):
    def fit(self, fit_context):
        self.crime()
        return Flat()

    def restore(self, task, features, state):
        return Flat()


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("not even this")


class Baser(BaseException):
    pass


class CannotBeTold(Base):
    name = "cannot-be-told"

    def crime(self):
        raise Unspeakable


class NotEvenAnException(Base):
    name = "no-exception"

    def crime(self):
        raise Baser("bare")


class Recurses(Base):
    name = "recurses"

    def crime(self):
        self.crime()


class Spins(Base):
    name = "spins"

    def crime(self):
        sum(range(10**13))  # holds the interpreter's lock


class Crashes(Base):
    name = "crashes"

    def crime(self):
        os.kill(os.getpid(), signal.SIGSEGV)


class ClosesFiles(Base):
    name = "closes-files"

    def crime(self):
        os.closerange(3, 256)


class Daemon(Base):
    """Method that leaves a detached process behind, with all files and locks open."""

    name = "daemon"

    def crime(self):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(25)
            os._exit(0)
        os.wait()
        os._exit(5)


class Chatters(Base):
    name = "chatters"

    def crime(self):
        for _ in range(2000):
            print("x" * 100)


class Spoils(Base):
    """Method that changes all shared state."""

    name = "spoils"

    def crime(self):
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.use_deterministic_algorithms(True)
        torch.exp = torch.log
        torch.nn.functional.softplus = None
        np.seterr(all="raise")
        np.sum = None
        math.sqrt = math.exp
        random.seed = None
        builtins.sorted = None
        os.chdir("/")
        os.environ["OMP_NUM_THREADS"] = "7"
        sys.path.clear()
        sys.setrecursionlimit(60)
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


class Nothing(Base):
    name = "nothing"

    def fit(self, fit_context):
        return None


class OddState(Base):
    name = "odd-state"

    def fit(self, fit_context):
        out = Flat()
        out.state = lambda: {"../../x": [1, 2], 3: None}
        return out


class OddRatio(Base):
    name = "odd-ratio"

    def crime(self):
        pass

    def restore(self, task, features, state):
        out = Flat()
        out.log_ratio = lambda x, context: np.zeros(3)
        return out


class InfiniteRatio(OddRatio):
    name = "infinite-ratio"

    def restore(self, task, features, state):
        out = Flat()
        out.log_ratio = lambda x, context: torch.full((1, 2, len(x), len(context)), math.inf)
        return out


def writes(prediction, truth):
    for p in (prediction, truth):
        if p is not None:
            p.curves.lower[:] = 0
            p.datasets.theta[:] = 7
    return {"": np.zeros(len(prediction.datasets))}


def leaves(prediction, truth):
    sys.exit(3)


def _metric(name, compute):
    return Metric(name, name, "A crime.", ("independent",), compute)


a_writes = _metric("a_writes", writes)
a_leaves = _metric("a_leaves", leaves)
a_none = _metric("a_none", lambda prediction, truth: None)
a_list = _metric("a_list", lambda prediction, truth: [1, 2])
a_shape = _metric("a_shape", lambda prediction, truth: {"": np.zeros(1)})
a_text = _metric("a_text", lambda prediction, truth: {"": ["x"]})
a_nan = _metric("a_nan", lambda p, truth: {"": np.full(len(p.datasets), math.nan)})
a_told = _metric("a_told", lambda prediction, truth: (_ for _ in ()).throw(Unspeakable))
a_plan = Metric("a_plan", "a_plan", "A crime.", ("always",), writes)
