"""Worker process of the pool: start-up, execution of jobs and messages to the parent.

A worker exchanges pickled messages through a pipe with its parent, `pool`, and with no other
process.
"""

from __future__ import annotations

import ctypes
import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import FunctionType
from typing import Any

from bench.errors import BenchError, message_of, raised_at

Fields = dict[str, Any]

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "PYTHONSAFEPATH": "1",
    # glibc returns large blocks to the system at once and faults their pages in anew for every
    # tensor. Keeping them makes the evaluation of networks 1.3 to 1.7 times faster.
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**29),
}
_REPORT_EVERY = 0.1  # seconds between two progress messages of one job
CLOCK = {"simulating", "simulated"}
"""Names of a job's messages around simulations, which its own time limit does not count.

"simulating" is the allowed time, in multiples of the limit; "simulated" is the seconds taken.
"""


@contextmanager
def start_up() -> Iterator[None]:
    """Hold the environment and signal mask that a new worker inherits, and restore the parent's.

    A spawned process first imports the parent's main module, which may import torch, so the
    environment must already set the number of threads. Before that it imports multiprocessing,
    and must not take a signal.py in the current folder for Python's own. It also starts with
    Ctrl-C blocked, because only the parent handles it.
    """
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    mask = None
    try:
        os.environ.update(_ENVIRONMENT)
        if sys.platform != "win32":
            resource_tracker.ensure_running()  # otherwise spawn does it, and unblocks Ctrl-C
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if sys.platform != "win32" and mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def serve(connection: Connection) -> None:
    """Run one job after another until the pipe closes; this is the main function of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.pop("PYTHONSAFEPATH", None)  # not for processes that a job starts
    if sys.stdout and sys.stderr:  # otherwise these descriptors belong to other files
        os.dup2(2, 1)  # print statements of jobs must not reach the parent's output
        if isinstance(sys.stdout, io.TextIOWrapper):  # a killed worker would lose buffered lines
            sys.stdout.reconfigure(line_buffering=True)
    _die_with_parent()
    threading.Thread(target=_exit_with_parent, daemon=True).start()

    connection.send_bytes(_message("ready"))
    with suppress(EOFError, OSError):
        while True:
            connection.send_bytes(_perform(connection.recv_bytes(), connection.send_bytes))


def _perform(payload: bytes, send: Callable[[bytes], None]) -> bytes:
    """Run one job and return its final message; no other reference to the job remains."""
    last, start = float("-inf"), time.perf_counter()
    before: Fields = {}

    def report(**fields: Any) -> None:
        """Send the fields to the parent, unless the last message is less than 0.1 s old."""
        nonlocal last
        if fields.keys() & CLOCK:
            send(_message("clock", **fields))
            return
        now = time.monotonic()
        if now - last >= _REPORT_EVERY:
            last = now
            send(_message("progress", **fields))

    try:
        job = pickle.loads(payload)  # noqa: S301 (from our own parent)
        send(_message("begun"))  # a first job has had to import torch
        if torch := sys.modules.get("torch"):
            # An earlier job may have changed these settings.
            torch.set_num_threads(1)
            torch.set_default_dtype(torch.float32)
            torch.set_grad_enabled(True)
        before = _shared_state()
        start = time.perf_counter()
        value = job.perform(report)
        fields = {"status": "done", "value": value}
    except BaseException as error:  # sys.exit() too: the worker continues
        fields = failure(error)
    seconds = time.perf_counter() - start
    ending = {"seconds": seconds, "spoilt": _is_spoilt(before)}
    try:
        return _message("finished", **ending, **fields)
    except Exception as error:  # the value cannot be pickled
        return _message("finished", **ending, **failure(error))


def _is_spoilt(before: Fields) -> bool:
    """Return whether a job has changed any shared state that existed before it."""
    try:
        now = _shared_state()
        return any(now.get(name) != value for name, value in before.items())
    except Exception:  # a job may have broken even this function's tools
        return True


_SHARED = ("builtins", "math", "random", "numpy", "torch", "torch.nn", "torch.nn.functional")


def _shared_state() -> Fields:
    """Return the process state that jobs share and must leave unchanged.

    It contains settings and the identity of the object behind every public name in the suite's own
    modules and a few others that jobs use.
    """
    state: Fields = {f"environment {name}": value for name, value in os.environ.items()}
    state["recursion"] = sys.getrecursionlimit()
    with suppress(OSError):  # the folder may be gone
        state["folder"] = os.getcwd()
    for name, module in sorted(sys.modules.items()):
        if name in _SHARED or name.startswith("bench."):
            names = {k: _identity(v) for k, v in vars(module).items() if not k.startswith("_")}
            state |= {f"{name}.{k}": v for k, v in names.items()}
    if numpy := sys.modules.get("numpy"):
        state["numpy errors"] = numpy.geterr()
    if torch := sys.modules.get("torch"):
        state["torch"] = (
            str(torch.get_default_dtype()),
            str(torch.get_default_device()),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
        )
    return state


def _identity(value: object) -> int:
    """Identify an object, or the one inside a wrapper that torch has put around its own function.

    The first optimiser wraps `torch.manual_seed`. Without this, every first training would cost the
    worker.
    """
    while isinstance(value, FunctionType) and hasattr(value, "__wrapped__"):
        if not str(value.__globals__.get("__name__")).startswith("torch."):
            break  # a plugin's
        value = value.__wrapped__
    return id(value)


def _message(kind: str, /, **fields: Any) -> bytes:
    # Plain pickle: Connection.send would move torch's tensors to shared memory.
    return pickle.dumps((kind, fields))


def messages(connection: Connection) -> Iterator[tuple[str, Fields]]:
    """Yield the messages that a worker has sent so far, and "closed" if its pipe is closed."""
    try:
        while connection.poll():
            payload = connection.recv_bytes()
            try:
                kind, fields = pickle.loads(payload)  # noqa: S301 (from our own child)
            except Exception as error:
                kind, fields = "unreadable", failure(error)
            yield kind, fields
    except (EOFError, OSError):
        yield "closed", {}


def _die_with_parent() -> None:
    """Make Linux kill this process when its parent dies, even if C code of a job blocks threads."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _exit_with_parent() -> None:
    """Exit this process when its parent is gone, even during a job."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def failure(error: BaseException) -> Fields:
    """Return an exception as fields of text, because the object may not survive pickling."""
    return {
        "status": "failed",
        "error": message_of(error) or type(error).__name__,
        "error_type": type(error).__name__,
        "at": "" if isinstance(error, BenchError) else raised_at(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
