"""Check of the samples of surrogates."""

import torch
from torch import Tensor

from bench.contracts import sample
from bench.errors import NotApplicable
from bench.testing.guard import guarded
from bench.testing.method_under_test import MethodUnderTest, rng
from bench.testing.report import Skipped, expect, expect_tensor

SAMPLES = "the surrogate's sample"


def samples(of: MethodUnderTest) -> None:
    """Check shape, dtype and values of samples, and that they depend on the generator alone."""
    surrogate, task = of.surrogate, of.harness.task
    context = task.space.draw_context(20, rng("contexts of samples"))

    def drawn(number: int) -> Tensor:
        with guarded():
            torch.seed()  # so that numbers of the global generator differ
            return sample(surrogate, context, rng(number))

    try:
        first = drawn(1)
    except NotApplicable as reason:
        raise Skipped(str(reason)) from reason
    shape = of.members, len(task.component_names), len(context), *task.event_shape
    expect_tensor(first, shape, "samples (members, components, contexts, *event)", SAMPLES)
    expect(first.dtype == torch.float32, "samples in float32", first.dtype, SAMPLES)
    bad = int((~first.isfinite()).sum())
    expect(not bad, "finite samples", f"{bad} not finite", SAMPLES)
    expect(
        torch.equal(first, drawn(1)),
        "equal samples of equal generators",
        "others",
        f"{SAMPLES}: draw with its generator",
    )
    expect(
        not torch.equal(first, drawn(2)),
        "other samples of another generator",
        "the same",
        f"{SAMPLES}: draw with its generator",
    )
