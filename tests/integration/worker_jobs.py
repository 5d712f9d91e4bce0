"""Jobs for tests of workers, in a module that a spawned worker can import by name."""

import os
import signal
import sys
import time
from pathlib import Path

from bench.execution.executor import Call

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


class Travelling(Call):
    """Call whose function also receives the job's context."""

    def perform(self, report):
        return self.function(report=report, context=self.context, **self.arguments)


def add(report, a, b):
    return a + b


def pid(report):
    return os.getpid()


def train(report):
    """Take a step of an optimiser, which makes torch wrap some of its functions."""
    import torch

    weight = torch.nn.Parameter(torch.ones(2))
    optimiser = torch.optim.Adam([weight])
    weight.sum().backward()
    optimiser.step()
    return os.getpid()


def wait_for(report, path, seconds=120.0):
    """Wait until another job has made the file."""
    end = time.monotonic() + seconds
    while not Path(path).exists():
        assert time.monotonic() < end, "nobody made the file"
        time.sleep(0.02)


def touch(report, path):
    Path(path).touch()


def simulate(report, limits, seconds, then=0.0):
    """Report a simulation for a while, and continue."""
    report(simulating=limits)
    time.sleep(seconds)
    report(simulated=seconds)
    time.sleep(then)


def boom(report):
    raise ValueError("two\nlines")


def leave(report):
    sys.exit("enough")


def unpicklable(report):
    return lambda: None


class Awkward(Exception):
    """Exception that can be pickled but not restored from its arguments."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")


def raise_awkward(report):
    raise Awkward(7, "awkward")


def return_awkward(report):
    return Awkward(7, "awkward")


def hang(report, path=None):
    if path:
        Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(60)


def hog(report, mebibytes, seconds=60.0):
    block = b"x" * (mebibytes * 2**20)
    time.sleep(seconds)
    return len(block)


def exit_quietly(report):
    os._exit(3)


def kill_itself(report):
    os.kill(os.getpid(), signal.SIGKILL)


def close_pipes(report):
    os.closerange(3, 100)
    time.sleep(60)


def count(report, steps, pause):
    for step in range(steps):
        report(kind="step", step=step, steps=steps)
        time.sleep(pause)


def report_nonsense(report):
    report(what=lambda: None)


def threads(report, ask_for=None):
    import torch

    before = torch.get_num_threads()
    if ask_for:
        torch.set_num_threads(ask_for)
    return before, [os.environ.get(name) for name in THREAD_VARIABLES]


def scale(report, values):
    values *= 2
    return values


def note(report, context, path, seconds=0.0):
    """Append process id, parent's id and folder to a file."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()} {os.getppid()} {context.root}\n")
    report(stage="noted", done=1, total=2)
    time.sleep(seconds)
    return Path(path).name


def hang_once(report, context, path):
    """Call `note`, and then hang unless the file existed before."""
    if Path(path).exists():
        return note(report, context, path)
    note(report, context, path)
    hang(report)


def meet(report, context, own, other):
    """Make a file, and wait for that of a concurrent job."""
    Path(own).touch()
    wait_for(report, other)


def hang_there(report, context, path=None):
    hang(report, path)


def run(workers, *jobs):
    return {outcome.key: outcome for outcome in workers.run(jobs)}
