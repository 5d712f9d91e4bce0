"""Speed as ratios in one run, with pinned threads.

Nothing is asserted. Read the printed ratios. Run with `tox -e benchmarks`.
"""

import math
import time
import warnings
from functools import partial
from unittest import mock

import numpy as np
import pytest
import torch
from bench.methods.dle_nflows import NflowsFlow
from bench.tasks.gaussians import near
from nflows.transforms import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bench.inference.intervals import summarise
from bench.inference.lattice import Lattice
from bench.inference.likelihood import MixtureLikelihood
from bench.nn.encoders import FieldEncoder, SeriesEncoder
from bench.nn.flows import ZukoFlow
from bench.nn.networks import StackedMLP
from bench.nn.ratio import RatioNetwork
from bench.nn.ratio_method import PairLoss
from bench.nn.score_matching import ScoreTerms
from bench.nn.stacks import Stack
from bench.nn.steps import GradientSteps
from bench.nn.training import Training, train

GRID = 61


@pytest.fixture(params=[1, 2], ids=lambda n: f"{n}-thread")
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def report(benchmark, **facts):
    benchmark.extra_info.update(facts)
    print("\n" + ", ".join(f"{name} {value:,.3g}" for name, value in facts.items()))


def dataloader_seconds(inputs, labels, batch):
    """Return the seconds of one epoch of a training loop with a DataLoader, as in tutorials."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Linear(3, 120), nn.ReLU(), nn.Linear(120, 120), nn.ReLU()),
        *(nn.Linear(120, 120), nn.ReLU(), nn.Linear(120, 1)),
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=batch, shuffle=True)
    begin = time.perf_counter()
    for x, y in loader:
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(net(x).squeeze(-1), y)
        loss.backward()
        optimiser.step()
    return time.perf_counter() - begin


@pytest.mark.parametrize("batch", [1024, 4096])
def test_classifier_against_a_dataloader_loop(benchmark, threads, batch, capsys):
    rows = 530_000  # enough rows that the limit of 128 steps per epoch does not reduce the batch
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(rows, 3, generator=generator)
    labels = torch.randint(2, (rows,), generator=generator).float()
    settings = Training(
        epochs=1, steps=0, batch_size=batch, learning_rate=1e-3, schedule="constant"
    )

    def epoch():
        net = StackedMLP.create((3, 120, 120, 120, 1), "relu", [torch.Generator().manual_seed(0)])
        net.to(torch.device("cpu"))

        def loss(x, y):
            logit = net(x).squeeze(-1)
            return nn.functional.binary_cross_entropy_with_logits(logit, y, reduction="none").mean(
                1
            )

        data = [inputs[None], labels[None]]
        held_out = [t[:, :1] for t in data]
        order = [torch.Generator().manual_seed(0)]
        return train(net.parameters(), loss, data, held_out, order, settings, lambda **fields: None)

    used = min(batch, max(rows // 128, 64))
    dataloader = min(dataloader_seconds(inputs, labels, used) for _ in range(2))
    benchmark.pedantic(epoch, rounds=2, warmup_rounds=1)
    ours = benchmark.stats.stats.min
    flops = 6 * (3 * 120 + 2 * 120 * 120 + 120)  # forward and backward, per event
    with capsys.disabled():
        report(
            benchmark,
            threads=threads,
            batch=used,
            events_per_s=rows / ours,
            dataloader_events_per_s=rows / dataloader,
            ratio=dataloader / ours,
            gflop_per_s=flops * rows / ours / 1e9,
            roof_gflop_per_s=matrix_roof(),
        )


def matrix_roof():
    """Return the machine's speed of float32 matrix products, in GFLOP/s."""
    a = torch.randn(2048, 2048)
    a @ a
    begin = time.perf_counter()
    for _ in range(3):
        a @ a
    return 3 * 2 * 2048**3 / (time.perf_counter() - begin) / 1e9


class WithMasks(NflowsFlow):
    """nflows with its own splines, which select features by boolean masks."""

    def __call__(self):
        with mock.patch(
            "bench.methods.nflows_splines.SplineBlock",
            MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
        ):
            return super().__call__()


FLOW = (2, 1, 4, 8, (64, 64), 32, "relu")  # the paper's architecture
FLOW_FLOPS = 2 * (32 + 4 * ((2 + 32) * 64 + 64 * 64 + 64 * 46))  # forward, per event
PAIR_FLOPS = 2 * 4 * (2 * 32 + 32 * 32 + 32 * 23)  # per pair, beyond the context


@pytest.mark.parametrize("batch", [1024, 4096])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_flows(benchmark, training, batch, capsys):
    """Events per second of one step on one thread: nflows, zuko, compiled, a stack of five.

    Training steps are never compiled. Evaluation is of rows, and of pairs with eight contexts.
    """
    torch.set_num_threads(1)
    kinds = {
        "nflows with masks": (WithMasks, 1, {"vectorise": False}),
        "nflows": (NflowsFlow, 1, {"vectorise": False}),
        "zuko": (ZukoFlow, 1, {}),
        "five stacked": (ZukoFlow, 5, {}),
    }
    fastest = "zuko"
    if not training:
        fastest = "compiled zuko, pairs"
        kinds["zuko, pairs"] = (ZukoFlow, 1, {})
        kinds[fastest] = (ZukoFlow, 1, {"compile_shape": batch // 8})
        kinds["compiled zuko"] = (ZukoFlow, 1, {"compile_shape": batch})
        kinds["compiled nflows"] = (NflowsFlow, 1, {"vectorise": False, "compile_shape": batch})
    rates = {}

    def step(flow, y, eta):
        if training:
            (-flow(y, eta).mean(1)).sum().backward()
        else:
            with torch.no_grad():
                flow(y, eta)

    for name, (build, members, options) in kinds.items():
        generators = [torch.Generator().manual_seed(m) for m in range(members)]
        flow = Stack.create(build(*FLOW), generators, **options).to(torch.device("cpu"))
        y, eta = torch.randn(members, batch, 2), torch.rand(members, batch, 1)
        if "pairs" in name:
            y, eta = y[:, : batch // 8, None], eta[:, None, :8]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of the compiler
            for _ in range(3):
                step(flow, y, eta)
        seconds = []
        for _ in range(9):
            begin = time.perf_counter()
            step(flow, y, eta)
            seconds.append(time.perf_counter() - begin)
        rates[name] = members * batch / np.median(seconds)
        if name == fastest:
            benchmark.pedantic(step, (flow, y, eta), rounds=5)
    flops = 3 * FLOW_FLOPS if training else PAIR_FLOPS
    roof = matrix_roof()
    with capsys.disabled():
        report(
            benchmark,
            batch=batch,
            **{f"{name} events_per_s": rate for name, rate in rates.items()},
            fastest_to_nflows=rates[fastest] / rates["nflows"],
            fastest_gflop_per_s=flops * rates[fastest] / 1e9,
            roof_gflop_per_s=roof,
            share_of_roof=flops * rates[fastest] / 1e9 / roof,
        )


def by_logaddexp(signal, background, mu):
    """Return the log-mixture by the simplest code, which is safe against underflow."""
    log_mu = np.log(np.maximum(mu, 1e-300))
    return np.logaddexp(log_mu + signal, background) - np.log1p(mu)


def by_ratio(signal, background, mu):
    """Return the log-mixture by optimised code: one logarithm, exponentials outside the grid."""
    return np.log((mu * np.exp(signal) + np.exp(background)) / (1 + mu))


def loop_over_bootstraps(mix, log_ratio, draws, mu, z):
    """Return interval ends of every bootstrap on the whole grid, with parabolas at the maxima."""
    ends = []
    for rows in draws:
        signal, background = log_ratio[:, rows]
        surface = mix(signal, background, mu[:, None, None]).sum(1)  # (mu, z)
        for curve, axis in ((surface.max(1), mu), (surface.max(0), z)):
            top = curve.argmax()
            near_top = slice(max(top - 2, 0), top + 3)
            a, b, _ = np.polyfit(axis[near_top], curve[near_top], 2)
            best = -b / (2 * a)
            half = np.sqrt(max(-0.5 / a, 0))
            ends.append((best - half, best + half))
    return np.array(ends)


def test_evaluation_of_a_set_against_the_obvious_loop(benchmark, threads, capsys):
    task, events, bootstraps = near(), 9000, 100
    generator = torch.Generator().manual_seed(2)
    theta = task.points[4]
    counts = [1500, 7500]
    x = torch.cat(
        [
            c.simulate(theta[1].float().expand(n, 1), generator)
            for c, n in zip(task.components("test").values(), counts, strict=True)
        ]
    )
    draws = torch.randint(events, (bootstraps, 1000), generator=generator)
    table = torch.zeros(bootstraps, events).scatter_add_(1, draws, torch.ones(draws.shape))
    unit = torch.linspace(0, 1, GRID, dtype=torch.float64)
    mu, z = 0.7 * unit, 0.5 * torch.pi * unit
    context = torch.cat([z, theta[1:]])[:, None].float()
    log_ratio = torch.stack(
        [c.log_prob(x[:, None], context[None]) for c in task.components("test").values()]
    )[None].float()
    position = {row.data_ptr(): i for i, row in enumerate(x)}

    def lookup(part, nodes):
        first = position[part.data_ptr()]
        return log_ratio[:, :, first : first + len(part)]

    def ours():
        weighed = MixtureLikelihood(lookup, x, table, task.space, task.weights, theta)
        values, at_truth = weighed.log_likelihood((unit, unit))
        return summarise(Lattice((unit, unit), values, at_truth, False), task.space)

    def loop(mix, first=10):  # the first ten of a hundred, because the loop is slow
        table = log_ratio[0, :, :, :-1].double().numpy()
        begin = time.perf_counter()
        loop_over_bootstraps(mix, table, draws[:first].numpy(), mu.numpy(), z.numpy())
        return (time.perf_counter() - begin) * bootstraps / first

    obvious, by_hand = loop(by_logaddexp), loop(by_ratio)
    benchmark.pedantic(ours, rounds=5, warmup_rounds=1)
    seconds = benchmark.stats.stats.min
    with capsys.disabled():
        report(
            benchmark,
            threads=threads,
            seconds=seconds,
            ratio=obvious / seconds,
            ratio_to_the_loop_optimised_by_hand=by_hand / seconds,
        )


@pytest.mark.parametrize("width", [4, 8, 14], ids=["3k", "10k", "30k"])
@pytest.mark.parametrize("encoder", [SeriesEncoder, FieldEncoder], ids=["series", "field"])
def test_score_terms(benchmark, encoder, width, capsys):
    """Time of a gradient step of NLER with scores against one without, in turns, on one thread."""
    torch.set_num_threads(1)
    shape = (40,) if encoder is SeriesEncoder else (16, 16)
    rng = torch.Generator().manual_seed(0)
    y = torch.randn(1, 256, math.prod(shape), generator=rng)
    eta, scores, units, apart = torch.rand(4, 1, 256, 2, generator=rng)
    kinds = {
        "plain": None,
        "fixed": ScoreTerms(),
        "adaptive": ScoreTerms(weights="adaptive"),
        "all rows": ScoreTerms(share=1.0),
    }
    steps = {}
    for name, terms in kinds.items():
        net = RatioNetwork.create(
            encoder(shape, width),
            0,
            2,
            (6 * width,) * 2,
            "silu",
            [torch.Generator().manual_seed(0)],
        )
        net.to(torch.device("cpu"))
        step = GradientSteps(net.parameters(), PairLoss(net, terms), 1e-3)
        targets = [] if terms is None else [scores, units]
        steps[name] = partial(step, y, eta, *targets, apart)
    seconds = {name: [] for name in kinds}
    for _ in range(500):  # includes ten evaluations of gradient norms, one in 50 steps
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begin)
    benchmark.pedantic(steps["adaptive"], rounds=50)
    # Medians are robust against other work on the machine; norms count with their frequency.
    looks = {name: np.median(times[50::50]) for name, times in seconds.items()}
    others = {name: np.median(np.delete(times, np.s_[::50])) for name, times in seconds.items()}
    means = {name: (looks[name] + 49 * others[name]) / 50 for name in kinds}
    with capsys.disabled():
        report(
            benchmark,
            width=width,
            plain_ms=1e3 * means["plain"],
            **{
                f"{name} to plain": means[name] / means["plain"]
                for name in kinds
                if name != "plain"
            },
        )
