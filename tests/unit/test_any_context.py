"""Methods on tasks of any number of context parameters: they run, or say why not."""

from collections.abc import Mapping
from functools import cache

import pytest
import torch
from bench.tasks.linear_gaussian import linear_gaussian
from torch import Tensor

from bench.contracts import (
    Method,
    Parameter,
    ParameterSpace,
    ReferenceKind,
    Split,
    Surrogate,
    Task,
    log_ratio_paired,
)
from bench.errors import NotApplicable
from bench.nn.calibration import Calibration, CalibrationKind
from bench.registry.registry import Registry
from bench.testing.fit_harness import FitHarness
from bench.wrappers.calibrated import Calibrated
from bench.wrappers.ensemble import Ensemble

REGISTRY = Registry()
BUDGET = 1000  # simulator calls of a component


class Bump:
    """Unit Gaussian of two features around a fixed mean; events (2,), context ()."""

    size = None

    def __init__(self, mean: float) -> None:
        self.mean = mean

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        return self.mean + torch.randn(*context.shape[:-1], 2, generator=generator)

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        every = x.double() - self.mean + 0 * context.sum(-1, keepdim=True)
        return -0.5 * every.square().sum(-1)

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        return context.double() + 0 * x[..., :1]


class Shares(Task):
    """Mixture of four fixed components: all three parameters are weights."""

    name = "shares"
    version = 1
    observations = 100
    event_shape = (2,)
    reference: ReferenceKind = "evidence"
    space = ParameterSpace(
        [Parameter(n, 0.0, 1.0, "interest", (0.2, 0.8)) for n in ("a", "b", "c")], context=[]
    )
    nominal = torch.zeros(0)
    points = torch.full((1, 3), 0.5, dtype=torch.float64)

    def components(self, split: Split) -> Mapping[str, Bump]:
        return {name: Bump(2.0 * k) for k, name in enumerate(("rest", *self.space.names))}

    def weights(self, theta: Tensor) -> Tensor:
        yields = torch.cat([torch.ones_like(theta[..., :1]), theta], -1)
        return yields / yields.sum(-1, keepdim=True)


TASKS: dict[str, Task] = {str(p): linear_gaussian(p) for p in (1, 7, 20)} | {"none": Shares()}

NO_SCORES = "shares has no context, and so no scores"
NO_BINS = "bins up to 3 features.*use lre"
STEPS = "only gradient-boosting:smooth takes more than two parameters"
REFUSED = {
    "lre:scores": {"none": NO_SCORES},
    "nler-sa:tuned": {"none": NO_SCORES},
    "dle:scores": {"none": NO_SCORES},
    "histogram:default": {"7": NO_BINS, "20": NO_BINS},
    "gradient-boosting:default": {"7": STEPS, "20": STEPS},
}
QUICK = ("exact:default", "lre:unnormalised", "nler:tuned", "nler-sa:tuned", "histogram:default")
LABELS = (
    *QUICK,
    "lre:tuned",
    "lre:scores",
    "lre:published",
    "dle:tuned",
    "dle:scores",
    "dle-nflows:tuned",
    "sbi-nle:default",
    "sbi-nre:default",
    "gradient-boosting:default",
    "gradient-boosting:smooth",
)


def cases() -> list[object]:
    """Return quick methods with all tasks, others with seven parameters and, but sbi's, none."""
    found = []
    for label in LABELS:
        few = ("7",) if label.startswith("sbi") else ("7", "none")
        for task in TASKS:
            quick = label in QUICK or task in REFUSED.get(label, {})
            if quick or task in few:
                found.append(pytest.param(label, task, marks=[] if quick else [pytest.mark.slow]))
    return found


def harness(label: str, task: str) -> FitHarness:
    name, _, configuration = label.partition(":")
    method: type[Method] = REGISTRY.method(name)
    if missing := method.unavailable():
        pytest.skip(missing)
    return FitHarness(method, configuration, TASKS[task])


@cache
def trained(label: str, task: str) -> Surrogate:
    members = (0,) if label.startswith("exact") else (0, 1)
    budget = BUDGET * len(TASKS[task].component_names)
    return harness(label, task).fit(members, budget).surrogate


def check_pairs(surrogate: Surrogate, task: Task) -> None:
    """Compare pairs to the diagonal of all pairs, and demand gradients in every parameter."""
    rng = torch.Generator().manual_seed(0)
    theta = task.draw_parameters(6, rng)
    context = task.space.context_of(theta).float().requires_grad_()
    parts = list(task.components("test").values())
    x = torch.cat(
        [parts[i % len(parts)].simulate(c[None], rng) for i, c in enumerate(context.detach())]
    )
    out = log_ratio_paired(surrogate, x.float(), context)
    with torch.no_grad():
        expected = surrogate.log_ratio(x.float(), context).diagonal(dim1=2, dim2=3)
    assert out.shape[1:] == (len(parts), 6)
    assert bool(out.isfinite().all())
    torch.testing.assert_close(out.detach(), expected, atol=1e-4, rtol=1e-4)
    if context.shape[1]:
        (gradient,) = torch.autograd.grad(out.sum(), context)
        assert bool(gradient.isfinite().all())
        assert bool((gradient != 0).any(0).all())


@pytest.mark.parametrize(("label", "task"), cases())
def test_methods_run_on_any_number_of_contexts(label: str, task: str) -> None:
    found, reason = harness(label, task), REFUSED.get(label, {}).get(task)
    if reason is not None:
        with pytest.raises(NotApplicable, match=reason):
            found.method.check(found.task)
        return
    found.method.check(found.task)
    check_pairs(trained(label, task), TASKS[task])


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
@pytest.mark.parametrize("task", TASKS)
def test_averages_and_maps_of_any_number_of_contexts(task: str, kind: CalibrationKind) -> None:
    """Isotonic maps are lines through the centres of steps, so they have slopes."""
    surrogate = trained("nler:tuned", task)
    rng = torch.Generator().manual_seed(0)
    parts = [
        Calibration.fit(
            kind, torch.randn(200, generator=rng) + 0.5, torch.randn(200, generator=rng), 200
        )
        for _ in range(2 * len(TASKS[task].component_names))
    ]
    every = Calibration.stack(parts)
    maps = Calibration(*(t.view(2, -1, t.shape[-1]) for t in (every.nodes, every.values)))
    calibrated = Calibrated(Calibrated.Config()).restore([surrogate], maps.state())
    check_pairs(calibrated, TASKS[task])
    two = Ensemble(Ensemble.Config.model_validate({"members": 2}))
    check_pairs(two.restore([surrogate, calibrated], {}), TASKS[task])
