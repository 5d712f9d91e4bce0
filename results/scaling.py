"""Measures scaling laws: `python results/scaling.py [--only NAME …]`, to results/scaling.

How seconds grow with events, grid nodes, bootstraps, members, training rows, the population of an
epidemic and the sites of a field, over two decades each, on one thread. An exponent is the slope of
log(seconds) in log(size), by least squares over all sizes and over the upper decade, where
overheads are paid off; its error is from the scatter about the line. Seconds are medians of repeats
that take turns.
"""

import argparse
import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench.tasks.gaussian_process import GaussianField
from bench.tasks.gaussians import near
from bench.tasks.grid import Grid
from bench.tasks.sis import Outbreak
from scipy.stats import linregress
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from bench.inference.likelihood import MixtureLikelihood
from bench.leaderboard.render import markdown_table
from bench.nn.networks import StackedMLP
from bench.nn.steps import GradientSteps
from bench.nn.training import Training, train
from bench.seeds import generator
from bench.studies.drawing import drawn

OUT = Path(__file__).parent / "scaling"
TASK = near()
Call = Callable[[], Any]
SIZES = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Law:
    """What is timed against which size; `make(size)` prepares a call."""

    name: str
    size: str
    sizes: Sequence[int]
    make: Callable[[int], Call]


def times(unit: int) -> tuple[int, ...]:
    return tuple(unit * n for n in SIZES)


def classifier(members: int) -> StackedMLP:
    seeds = [generator("scaling", m) for m in range(members)]
    net = StackedMLP.create((3, 120, 120, 120, 1), "silu", seeds)
    net.to(torch.device("cpu"))
    return net


def likelihood(events: int, nodes: int, bootstraps: int, members: int = 1) -> Call:
    """Evaluates a classifier's likelihoods of resampled datasets on nodes × nodes parameters."""
    net = classifier(members)
    random = generator("scaling", "events")
    x = torch.randn(events, 2, generator=random)
    counts = torch.poisson(torch.ones(bootstraps, events), generator=random)

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        pairs = [x[:, None].expand(-1, len(context), -1), context[None].expand(len(x), -1, -1)]
        inputs = torch.cat(pairs, -1).flatten(0, 1)
        signal = net(inputs.expand(members, -1, -1)).view(members, 1, len(x), len(context))
        return torch.cat([signal, torch.zeros_like(signal)], 1)

    space = TASK.space
    inside = space.from_unit(torch.full((2,), 0.4, dtype=torch.float64))
    weighed = MixtureLikelihood(log_ratio, x, counts, space, TASK.weights, inside, members)
    axis = torch.linspace(0.2, 0.8, nodes, dtype=torch.float64)

    def call() -> None:
        with torch.no_grad():
            weighed.log_likelihood((axis, axis))

    return call


def classify(net: StackedMLP) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(x: Tensor, label: Tensor) -> Tensor:
        logit = net(x).squeeze(-1)
        return binary_cross_entropy_with_logits(logit, label, reduction="none").mean(1)

    return loss


def labelled(members: int, rows: int) -> tuple[Tensor, Tensor]:
    random = generator("scaling", "rows")
    x = torch.randn(members, rows, 3, generator=random)
    return x, (torch.rand(members, rows, generator=random) < 0.5).float()


def step(members: int) -> Call:
    """One gradient step of a stack of classifiers."""
    net = classifier(members)
    steps = GradientSteps(net.parameters(), classify(net), 1e-4, record=False)
    data = labelled(members, 256)
    return lambda: steps(*data)


def epoch(rows: int) -> Call:
    """One epoch of a classifier."""
    net, data = classifier(1), labelled(1, rows)
    held_out = tuple(tensor[:, :100] for tensor in data)
    settings = Training(epochs=1, steps=0, batch_size=1024, learning_rate=1e-4, schedule="constant")
    order = [generator("scaling", "order")]
    parameters, loss = net.parameters(), classify(net)
    return lambda: train(parameters, loss, data, held_out, order, settings, lambda **_: None)


def outbreaks(population: int, what: str) -> Call:
    """The likelihood of ten outbreaks at each of four contexts, their scores, a simulation."""
    task = Outbreak(population=population, infected=max(1, population // 10))
    context = torch.tensor([[1.0, 0.4], [0.8, 0.4], [1.0, 0.3], [0.7, 0.5]], dtype=torch.float64)
    return exact(task, context, what)


def fields(side: int, what: str) -> Call:
    """The likelihood of ten fields at each of four contexts, their scores, a simulation."""
    task = GaussianField(Grid(side))
    _ = task.grid.blocks  # the tables of a grid are made once
    context = torch.tensor([[0.1, 0.2], [0.2, 0.2], [0.3, 0.2], [0.2, 0.5]], dtype=torch.float64)
    return exact(task, context, what)


def exact(task: Any, context: Tensor, what: str) -> Call:
    random = generator("scaling", what)
    if what == "simulation":
        return lambda: task.simulate(context, random)
    x = task.simulate(context[:1].expand(10, -1), random)
    function = task.log_prob if what == "likelihood" else task.score
    return lambda: function(x[:, None], context)


POPULATIONS = {"simulation": times(10), "likelihood": times(10), "score": times(5)}
SIDES = (4, 6, 8, 12, 16, 24, 32, 40)
LAWS = (
    Law("likelihood, classifier", "events", times(250), lambda n: likelihood(n, 17, 1)),
    Law(
        "likelihood, classifier",
        "nodes",
        (25, 64, 121, 256, 529, 1225, 2500),
        lambda n: likelihood(500, round(n**0.5), 1),
    ),
    Law("likelihood, classifier", "bootstraps", times(40), lambda n: likelihood(2000, 33, n)),
    Law("likelihood, classifier", "members", SIZES, lambda n: likelihood(250, 17, 1, n)),
    Law("gradient step, classifier", "members", SIZES, step),
    Law("epoch, classifier", "training rows", times(2000), epoch),
    *(
        Law(f"{what}, sis", "population", sizes, lambda n, what=what: outbreaks(n, what))
        for what, sizes in POPULATIONS.items()
    ),
    *(
        Law(f"{what}, gp", "sites", tuple(s * s for s in SIDES),
            lambda n, what=what: fields(round(n**0.5), what))
        for what in ("simulation", "likelihood", "score")
    ),
)  # fmt: skip


def seconds(call: Call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measure(law: Law, repeats: int) -> Iterator[dict[str, Any]]:
    """Seconds at every size, the median of repeats that take turns."""
    calls = {size: law.make(size) for size in law.sizes}
    for call in calls.values():
        call()
    taken: dict[int, list[float]] = {size: [] for size in calls}
    for _ in range(repeats):
        for size, call in calls.items():
            taken[size].append(seconds(call))
    for size, each in taken.items():
        facts = {"what": law.name, "size": law.size, "value": size, "seconds": median(each)}
        yield facts | {"fastest": min(each), "slowest": max(each), "repeats": repeats}


@dataclass(frozen=True)
class Exponent:
    """Slope of log(seconds) in log(size): over all sizes, and over the upper decade."""

    what: str
    size: str
    low: int
    high: int
    seconds: float  # at the largest size
    exponent: float
    error: float
    upper: float
    upper_error: float


def exponents(rows: Sequence[dict[str, Any]]) -> list[Exponent]:
    out = []
    for key in dict.fromkeys((r["what"], r["size"]) for r in rows):
        mine = [r for r in rows if (r["what"], r["size"]) == key]
        high = mine[-1]["value"]
        line, top = slope(mine), slope([r for r in mine if r["value"] >= high / 10])
        out.append(Exponent(*key, mine[0]["value"], high, mine[-1]["seconds"], *line, *top))
    return out


def slope(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    size, taken = (torch.tensor([float(r[k]) for r in rows]).log() for k in ("value", "seconds"))
    line = linregress(size.numpy(), taken.numpy())
    return float(line.slope), float(line.stderr)


def markdown(found: Sequence[Exponent]) -> str:
    head = ["what", "grows with", "from", "to", "ms at the largest", "exponent"]
    rows = [
        [
            *(e.what, e.size, f"{e.low:,}", f"{e.high:,}", f"{1e3 * e.seconds:.3g}"),
            f"{e.exponent:.2f} ± {e.error:.2f}",
            f"{e.upper:.2f} ± {e.upper_error:.2f}",
        ]
        for e in found
    ]
    return markdown_table([*head, "of the upper decade"], rows)


def draw(figure: Any, rows: Sequence[dict[str, Any]], found: Sequence[Exponent]) -> None:
    """A panel for each size, a line for each quantity."""
    kinds = list(dict.fromkeys(e.size for e in found))
    panels = figure.subplots(2, -(-len(kinds) // 2), squeeze=False).flatten()
    for spare in panels[len(kinds) :]:
        spare.remove()
    for axes, kind in zip(panels, kinds, strict=False):
        for e in (e for e in found if e.size == kind):
            mine = [r for r in rows if (r["what"], r["size"]) == (e.what, kind)]
            size, middle = ([r[k] for r in mine] for k in ("value", "seconds"))
            spread = [[r["seconds"] - r["fastest"] for r in mine],
                      [r["slowest"] - r["seconds"] for r in mine]]  # fmt: skip
            label = f"{e.what}: {e.upper:.2f} ± {e.upper_error:.2f}"
            axes.errorbar(size, middle, spread, fmt="o-", ms=3, lw=1, label=label)
        axes.set(xscale="log", yscale="log", xlabel=kind, ylabel="seconds")
        low, high = axes.get_ylim()
        axes.set_ylim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)))
        axes.yaxis.set_minor_formatter("")
        axes.legend(fontsize="small", frameon=False, loc="lower left", bbox_to_anchor=(-0.25, 1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=dict.fromkeys(law.size for law in LAWS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for law in LAWS:
        if asked.only is None or law.size in asked.only:
            rows += measure(law, asked.repeats)
            print(markdown(exponents(rows[-len(law.sizes) :])).splitlines()[-1], flush=True)
    found = exponents(rows)
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, table in (("seconds", rows), ("exponents", [asdict(e) for e in found])):
        with (asked.out / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    (asked.out / "scaling.md").write_text(markdown(found))
    for form, content in drawn(lambda f: draw(f, rows, found), (12, 7)).items():
        (asked.out / f"scaling.{form}").write_bytes(content)


if __name__ == "__main__":
    main()
