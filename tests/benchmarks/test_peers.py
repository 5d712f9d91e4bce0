"""Training of the suite against that of the sbi package, as ratios in one run.

Nothing is asserted. Simulations, architecture, batch, learning rate and epochs are the same, on one
thread. Seconds are of CPU time, taken in turns, so that other work on the machine has little
effect. Held-out losses are of both networks on the same pairs. Run with `tox -e benchmarks`.
"""

import time

import numpy as np
import pytest
import torch
from bench.methods.sbi_nle import SbiNLE
from bench.methods.sbi_nre import SbiNRE
from bench.methods.sbi_training import SbiTraining, train_network
from bench.tasks.gaussians import near
from torch.nn import functional

from bench.nn.flows import ZukoFlow
from bench.nn.networks import StackedMLP
from bench.nn.stacks import Stack
from bench.nn.training import Training, train

pytest.importorskip("sbi")
EPOCHS, ROUNDS = 3, 3
CPU = torch.device("cpu")


def silent(**fields):
    pass


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def simulations(rows, seed=0, both=True):
    """Return standardised observations (rows, 2) of one or both components, and inputs (rows, 3).

    The inputs are contexts and labels.
    """
    task, rng = near(), torch.Generator().manual_seed(seed)
    z = task.space.draw_context(rows, rng)
    label = torch.randint(2 if both else 1, (rows,), generator=rng)
    parts = [c.simulate(z, rng) for c in task.components("test").values()]
    x = torch.where(label[:, None] == 0, *parts) / 1.06
    return x, torch.cat([4 * z / torch.pi - 1, functional.one_hot(label, 2).float()], 1)


def settings(rows, batch):
    """Return the same training settings for both packages; sbi validates on a tenth."""
    ours = Training(
        epochs=EPOCHS, steps=0, batch_size=batch, learning_rate=1e-3, schedule="constant"
    )
    assert ours.batch_of(rows - rows // 10) == batch
    options = {"training_batch_size": batch, "learning_rate": 1e-3, "clip_max_norm": None}
    return ours, SbiTraining(epochs=EPOCHS, **options)


def compare(benchmark, capsys, batch, rows, ours, theirs):
    """Train both in turns, with different seeds; each returns the held-out loss."""
    seconds, losses = np.zeros((2, 2, ROUNDS))
    ours(99), theirs(99)  # imports, allocations
    for i in range(ROUNDS):
        for k, fit in enumerate((ours, theirs)):
            begin = time.process_time()
            held_out = fit(i)
            seconds[k, i] = time.process_time() - begin
            losses[k, i] = held_out()
    benchmark.pedantic(ours, (0,), rounds=1)
    gap = losses[0] - losses[1]
    facts = {
        "batch": batch,
        "ours_rows_per_s": EPOCHS * rows / np.median(seconds[0]),
        "sbi_rows_per_s": EPOCHS * rows / np.median(seconds[1]),
        "throughput_ratio": np.median(seconds[1]) / np.median(seconds[0]),
        "lowest_ratio": (seconds[1] / seconds[0]).min(),
        "highest_ratio": (seconds[1] / seconds[0]).max(),
        "ours_loss": losses[0].mean(),
        "sbi_loss": losses[1].mean(),
        "loss_difference": gap.mean(),
        "its_error": gap.std(ddof=1) / ROUNDS**0.5,
    }
    benchmark.extra_info.update(facts)
    with capsys.disabled():
        print("\n" + ", ".join(f"{name} {value:,.4g}" for name, value in facts.items()))


@pytest.mark.parametrize("batch", [256, 1024])
def test_classifier(benchmark, capsys, batch):
    """Cross-entropy of joint pairs and of pairs shuffled within a batch."""
    rows = 10 * 128 * batch // 9 + 10
    x, theta = simulations(rows)
    x_new, theta_new = simulations(20_000, seed=1)
    other = theta_new[torch.randperm(20_000, generator=torch.Generator().manual_seed(2))]
    training, sbi_training = settings(rows, batch)
    build = SbiNRE(SbiNRE.Config.model_validate(SbiNRE.configurations["matched"])).build(near())
    held_out = rows // 10

    def entropy(log_odds, apart):
        both = functional.softplus(-log_odds).mean() + functional.softplus(apart).mean()
        return float(both / 2)

    def ours(seed):
        rng = torch.Generator().manual_seed(seed)
        net = StackedMLP.create((5, 120, 120, 120, 1), "relu", [rng]).to(CPU)

        def loss(x, theta):
            # The next context of a shuffled batch is random.
            pairs = torch.cat([theta, theta.roll(1, 1)], 1)
            odds = net(torch.cat([torch.cat([x, x], 1), pairs], 2)).squeeze(-1)
            together, apart = odds.chunk(2, 1)
            return 0.5 * (functional.softplus(-together) + functional.softplus(apart)).mean(1)

        data = [t[None, held_out:] for t in (x, theta)]
        validation = [t[None, :held_out] for t in (x, theta)]
        train(net.parameters(), loss, data, validation, [rng], training, silent)

        @torch.no_grad()
        def evaluate():
            odds = [net(torch.cat([x_new, t], 1)[None])[0, :, 0] for t in (theta_new, other)]
            return entropy(*odds)

        return evaluate

    def theirs(seed):
        rng = torch.Generator().manual_seed(seed)
        net, _ = train_network("NRE_A", build, theta, x, sbi_training, rng, CPU)

        @torch.no_grad()
        def evaluate():
            return entropy(*(net(t, x_new) for t in (theta_new, other)))

        return evaluate

    compare(benchmark, capsys, batch, rows, ours, theirs)


@pytest.mark.parametrize("batch", [256, 1024])
def test_flow(benchmark, capsys, batch):
    """Negative log-density of a zuko spline flow with the paper's architecture."""
    rows = 10 * 128 * batch // 9 + 10
    (x, theta), (x_new, theta_new) = (
        (x, theta[:, :1])
        for x, theta in (simulations(rows, both=False), simulations(20_000, 1, both=False))
    )
    training, sbi_training = settings(rows, batch)
    build = SbiNLE(SbiNLE.Config.model_validate(SbiNLE.configurations["matched"])).build(near())
    held_out = rows // 10

    def ours(seed):
        rng = torch.Generator().manual_seed(seed)
        shape = ZukoFlow(2, 1, 4, 8, (64, 64), 32, "relu")
        flow = Stack.create(shape, [rng]).to(CPU)

        def loss(x, theta):
            return -flow(x, theta).mean(1)

        data = [t[None, held_out:] for t in (x, theta)]
        validation = [t[None, :held_out] for t in (x, theta)]
        train(flow.parameters(), loss, data, validation, [rng], training, silent)

        @torch.no_grad()
        def evaluate():
            return float(loss(x_new[None], theta_new[None]))

        return evaluate

    def theirs(seed):
        rng = torch.Generator().manual_seed(seed)
        net, _ = train_network("NLE_A", build, theta, x, sbi_training, rng, CPU)

        @torch.no_grad()
        def evaluate():
            return float(-net.log_prob(x_new[None], theta_new).mean())

        return evaluate

    compare(benchmark, capsys, batch, rows, ours, theirs)
