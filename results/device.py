"""Measures a device: agreement with the CPU, events per second by network and stack, and the roof.

    python results/device.py [--device cuda] [--members 1 5 10] [--batch 1024] [--out FOLDER]

Every network of the suite takes gradient steps and evaluates, launched one kernel at a time and, on
CUDA, recorded as a graph. The floor is arithmetic: operations counted by PyTorch over the rate of
a large float32 matrix product, measured in the same run. Writes device.csv and device.md.
"""

import argparse
import csv
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.flop_counter import FlopCounterMode

from bench.leaderboard.render import markdown_table
from bench.nn.encoders import FieldEncoder, SeriesEncoder
from bench.nn.flows import ZukoFlow
from bench.nn.networks import StackedMLP
from bench.nn.ratio import RatioNetwork
from bench.nn.ratio_method import PairLoss
from bench.nn.score_matching import ScoreTerms
from bench.nn.stacks import Stack
from bench.nn.steps import GradientSteps
from bench.seeds import generator

CPU = torch.device("cpu")
Kind = Callable[[int], tuple[Any, Callable[..., Tensor], Callable[..., Tensor], list[list[int]]]]


def classifier(members: int) -> tuple[Any, ...]:
    """Three hidden layers of 120, as of `lre`: two features and a context."""
    net = StackedMLP((3, 120, 120, 120, 1), "silu", seeds(members))

    def loss(x: Tensor, label: Tensor) -> Tensor:
        logit = net(x).squeeze(-1)
        target = (label[..., 0] > 0).float()
        return binary_cross_entropy_with_logits(logit, target, reduction="none").mean(1)

    return net, loss, lambda x, _: net(x), [[3], [1]]


def flow(members: int) -> tuple[Any, ...]:
    """The spline flow of `dle`."""
    net = Stack.create(ZukoFlow(2, 1, 4, 8, (64, 64), 32, "relu"), seeds(members))
    return net, lambda y, eta: -net(y, eta).mean(1), net, [[2], [1]]


def encoded(encoder: Any, scores: ScoreTerms | None, members: int) -> tuple[Any, ...]:
    """A ratio network of `nler`, and with scores of `nler-sa`."""
    net = RatioNetwork.create(encoder, 0, 2, (84, 84), "silu", seeds(members))
    size = [math.prod(encoder.event_shape)]
    targets = [] if scores is None else [[2], [2]]

    def value(y: Tensor, eta: Tensor, *_: Tensor) -> Tensor:
        return net.head(torch.cat([net.encoding(y), eta], -1))

    return net, PairLoss(net, scores), value, [size, [2], *targets, [2]]


SCORES = ScoreTerms()
KINDS: dict[str, Kind] = {
    "classifier": classifier,
    "spline flow": flow,
    "series": lambda n: encoded(SeriesEncoder((40,), 14), None, n),
    "series, scores": lambda n: encoded(SeriesEncoder((40,), 14), SCORES, n),
    "field": lambda n: encoded(FieldEncoder((16, 16), 14), None, n),
    "field, scores": lambda n: encoded(FieldEncoder((16, 16), 14), SCORES, n),
}


def seeds(members: int) -> list[torch.Generator]:
    return [generator("device", m) for m in range(members)]


def seconds(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median seconds of a call."""
    taken = []
    for _ in range(repeats):
        wait(device)
        begin = time.perf_counter()
        call()
        wait(device)
        taken.append(time.perf_counter() - begin)
    return median(taken)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def roof(device: torch.device) -> float:
    """Operations per second of a float32 matrix product."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device)
    torch.mm(a, a)
    # The fastest of many: what else the machine does must not lower the roof.
    return 2 * size**3 / min(seconds(lambda: torch.mm(a, a), device, 1) for _ in range(30))


def measure(
    name: str, members: int, batch: int, device: torch.device, repeats: int
) -> Iterator[dict[str, Any]]:
    """Times training and evaluation of a stack."""
    net, loss, value, shapes = KINDS[name](members)
    random = generator("device", "data")
    data = [torch.randn(members, batch, *shape, generator=random) for shape in shapes]
    net.to(CPU)
    with torch.no_grad():
        on_cpu = value(*data)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        value(*data)
    forward = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        loss(*data).sum().backward()
    backward = counter.get_total_flops()
    net, loss, value, _ = KINDS[name](members)
    net.to(device)
    data = [tensor.to(device) for tensor in data]
    with torch.no_grad():
        difference = float((value(*data).cpu() - on_cpu).abs().max())
    facts = {"network": name, "members": members, "batch": batch, "difference_to_cpu": difference}
    for how in ["launched", "recorded"] if device.type == "cuda" else ["launched"]:
        steps = GradientSteps(net.parameters(), loss, 1e-4, record=how == "recorded")
        for _ in range(6):  # the fourth is recorded
            steps(*data)
        taken = seconds(lambda steps=steps: steps(*data), device, repeats)
        yield facts | {"what": "training", "how": how, "seconds": taken, "operations": backward}

    def evaluate() -> None:
        with torch.no_grad():
            value(*data)

    evaluate()
    taken = seconds(evaluate, device, repeats)
    yield facts | {"what": "evaluation", "how": "launched", "seconds": taken, "operations": forward}


def markdown(rows: Sequence[dict[str, Any]], name: str, limit: float) -> str:
    """The table that pages quote."""
    title = f"{name}, float32 matrix product {limit / 1e12:.3g} TFLOP/s"
    head = ["network", "what", "members", "batch", "ms", "M events/s", "share of the roof"]
    head += ["against one member", "largest difference to the CPU"]
    lines = []
    alone = {(r["network"], r["what"], r["how"]): r["seconds"] for r in rows if r["members"] == 1}
    for r in rows:
        events = r["members"] * r["batch"] / r["seconds"] / 1e6
        one = alone.get((r["network"], r["what"], r["how"]))
        share = r["operations"] / r["seconds"] / limit
        lines.append(
            [
                *(r["network"], f"{r['what']}, {r['how']}", str(r["members"]), str(r["batch"])),
                *(f"{1e3 * r['seconds']:.3g}", f"{events:.2g}", f"{share:.1%}"),
                "–" if one is None else f"{r['seconds'] / one:.2f}",
                f"{r['difference_to_cpu']:.1g}",
            ]
        )
    facts = f"{title}, PyTorch {torch.__version__}; medians of one run."
    return f"{facts}\n\n{markdown_table(head, lines)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 5, 10])
    parser.add_argument("--batch", type=int, nargs="+", default=[1024])
    parser.add_argument("--network", choices=KINDS, nargs="+", default=list(KINDS))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("results/device"))
    asked = parser.parse_args()
    device = torch.device(asked.device)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # vmap's fallbacks
    limit = roof(device)
    rows = [
        row
        for name in asked.network
        for batch in asked.batch
        for members in asked.members
        for row in measure(name, members, batch, device, asked.repeats)
    ]
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, one thread"
    asked.out.mkdir(parents=True, exist_ok=True)
    with (asked.out / "device.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    text = markdown(rows, name, limit)
    (asked.out / "device.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
