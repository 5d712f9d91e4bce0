"""Speed of a device: agreement with the CPU, events per second, share of the roof.

Every network of the suite takes gradient steps and evaluates, launched one kernel at a time and, on
CUDA, recorded as a graph. The roof is arithmetic: operations counted by PyTorch over the rate of a
large float32 matrix product, measured in the same run.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.boards.render import csv_of, markdown_table
from bench.nn.steps import GradientSteps
from bench.seeds import generator
from bench.studies.device_networks import NETWORKS

NAME = "device"
MEMBERS = (1, 5, 10)
_CPU = torch.device("cpu")
_WARM = 6  # steps before the clock: the fourth is recorded


@dataclass(frozen=True)
class Timing:
    """Seconds of one gradient step or evaluation of a stack.

    Args:
        network: what was timed, a name of `device_networks.NETWORKS`.
        members: networks in the stack.
        batch: rows for each.
        difference_to_cpu: largest difference of an evaluation to the CPU's.
        what: "training" or "evaluation".
        how: "launched" or "recorded".
        seconds: median of the repeats.
        operations: floating-point operations.
    """

    network: str
    members: int
    batch: int
    difference_to_cpu: float
    what: str
    how: str
    seconds: float
    operations: int


def roof(device: torch.device) -> float:
    """Measure operations per second of a float32 matrix product."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device)
    torch.mm(a, a)
    # The fastest of many: other work on the machine must not lower the roof.
    return 2 * size**3 / min(_seconds(lambda: torch.mm(a, a), device, 1) for _ in range(30))


def _seconds(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        _wait(device)
        begin = time.perf_counter()
        call()
        _wait(device)
        taken.append(time.perf_counter() - begin)
    return median(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(
    network: str, members: int, batch: int, device: torch.device, repeats: int
) -> Iterator[Timing]:
    """Time gradient steps and evaluations of a stack.

    Args:
        network: a name of `device_networks.NETWORKS`.
        members: networks in the stack.
        batch: rows for each.
        device: the device.
        repeats: timings, of which the median counts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vmap's fallbacks
        yield from _measure(network, members, batch, device, repeats)


def _measure(
    network: str, members: int, batch: int, device: torch.device, repeats: int
) -> Iterator[Timing]:
    make = NETWORKS[network]
    subject, random = make(members), generator(NAME, "data")
    data = [torch.randn(members, batch, *s, generator=random) for s in subject.shapes]
    subject.net.to(_CPU)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        on_cpu = subject.value(*data)
    forward = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        subject.loss(*data).sum().backward()  # type: ignore[no-untyped-call]
    backward = counter.get_total_flops()
    subject = make(members)
    subject.net.to(device)
    data = [tensor.to(device) for tensor in data]

    def evaluate() -> Tensor:
        with torch.no_grad():
            return subject.value(*data)

    difference = float((evaluate().cpu() - on_cpu).abs().max())
    of = network, members, batch, difference
    for how in ["launched", "recorded"] if device.type == "cuda" else ["launched"]:
        record = how == "recorded"
        steps = GradientSteps(subject.net.parameters(), subject.loss, 1e-4, record=record)
        for _ in range(_WARM):
            steps(*data)
        taken = _seconds(partial(steps, *data), device, repeats)
        yield Timing(*of, "training", how, taken, backward)
    evaluate()
    yield Timing(*of, "evaluation", "launched", _seconds(evaluate, device, repeats), forward)


def markdown(rows: Sequence[Timing], name: str, limit: float) -> str:
    """Render a table.

    Args:
        rows: the timings.
        name: of the device.
        limit: its roof in operations per second.
    """
    head = ["network", "what", "members", "batch", "ms", "M events/s", "share of the roof"]
    head += ["against one member", "largest difference to the CPU"]
    alone = {(r.network, r.batch, r.what, r.how): r.seconds for r in rows if r.members == 1}
    lines = []
    for r in rows:
        one = alone.get((r.network, r.batch, r.what, r.how))
        events = r.members * r.batch / r.seconds / 1e6
        lines.append(
            [
                *(r.network, f"{r.what}, {r.how}", str(r.members), str(r.batch)),
                *(f"{1e3 * r.seconds:.3g}", f"{events:.2g}"),
                f"{r.operations / r.seconds / limit:.1%}",
                "–" if one is None else f"{r.seconds / one:.2f}",
                f"{r.difference_to_cpu:.1g}",
            ]
        )
    title = f"{name}, float32 matrix product {limit / 1e12:.3g} TFLOP/s"
    facts = f"{title}, PyTorch {torch.__version__}; medians of one run."
    return f"{facts}\n\n{markdown_table(head, lines)}"


def csv(rows: Sequence[Timing]) -> str:
    """Render comma-separated values."""
    return csv_of([asdict(row) for row in rows])
