"""Functions of `import bench`: fit, evaluate and run; the command line is built on them."""

from bench.library.evaluation import Evaluation, evaluate
from bench.library.fitting import FittedSurrogate, fit, load_surrogate, task
from bench.library.judging import trust
from bench.library.runs import leaderboard, run
from bench.library.trust_result import Trust

__all__ = [
    "Evaluation",
    "FittedSurrogate",
    "Trust",
    "evaluate",
    "fit",
    "leaderboard",
    "load_surrogate",
    "run",
    "task",
    "trust",
]
