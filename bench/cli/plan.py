"""Estimate the cost of a run before it starts: `bench plan`."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from bench.cli.options import Selection, selection
from bench.echo import echo, tell
from bench.errors import counted, duration

if TYPE_CHECKING:  # they import torch, which is slow
    from bench.experiment.calls import Calls
    from bench.experiment.cost import Cost, CostEstimate

LONG = 600.0
"""Seconds of estimated duration from which `bench run` prints its cost first."""


@click.command()
@selection
def plan(selected: Selection) -> None:
    """Estimate the hours and simulator calls that a run takes.

    The arguments are those of `bench run`. Only missing results are counted, and jobs that cannot
    run here are named. Nothing is run. Times hold within a factor of two on machines like those
    where they were measured.
    """
    from bench.experiment.calls import count_calls
    from bench.experiment.selection import uninstalled

    planned = selected.schedule()
    missing = uninstalled(planned.registry, planned.preset.methods).values()
    for reason in missing:
        tell(f"n/a: {reason}")
    for absent in dict.fromkeys(a for a in planned.absent if a.reason not in missing):
        tell(f"n/a: {absent.task}, {absent.label}: {absent.reason}")
    if not planned.jobs:
        echo(f"nothing is missing in {selected.root}")
        return
    for line in lines(planned.cost, selected.worker_count, planned.context.device):
        echo(line)
    if calls := count_calls(planned.jobs, planned.registry, planned.store):
        echo()
        for line in lines_of_calls(calls, selected.scheduler is not None):
            echo(line)


def lines(found: "CostEstimate", workers: int, device: str) -> Iterator[str]:
    """Yield the lines of a table of costs by stage and method, with totals and duration."""
    rows = [["stage", "method", "jobs", "events", "operations", "core-hours", "GPU-hours"]]
    rows += [[*key, str(count), *_numbers(cost)] for key, (count, cost) in found.parts.items()]
    rows += [["total", "", str(found.jobs), *_numbers(found.total)]]
    yield from _aligned(rows, left=2)
    at_once = counted(workers, "worker")
    at_once += " and one GPU" if device == "cuda" else ""
    longest = duration(found.longest)
    yield (
        f"about {duration(found.duration(workers))} with {at_once}; no number of workers makes it "
        f"less than {longest}"
    )
    for method in found.unknown:
        yield f"not counted: {method}, which does not say what it costs"


def lines_of_calls(found: "Sequence[Calls]", cluster: bool = False) -> Iterator[str]:
    """Yield the lines of a table of simulator calls by task: made, by purpose, and charged.

    Args:
        found: the calls.
        cluster: whether jobs run on workers that may share no folder.
    """
    from bench.storage.simulations import PURPOSES

    rows = [["simulator calls", "made", *PURPOSES, "charged"]]
    for calls in found:
        by_purpose = [calls.made.get(purpose, 0) for purpose in PURPOSES]
        numbers = [sum(by_purpose), *by_purpose, calls.charged]
        rows.append([calls.task, *(f"{number:,}" for number in numbers)])
    yield from _aligned(rows, left=1)
    if expensive := [calls.task for calls in found if calls.expensive]:
        yield f"hours do not include the simulator calls of {', '.join(expensive)}"
    for calls in found:
        if calls.unknown:
            yield (
                f"{calls.task}: without the training of {', '.join(calls.unknown)}, which does not "
                "announce what it draws"
            )
    if cluster and expensive:
        yield (
            "on a cluster every worker makes the simulations that its jobs read, unless "
            "NLBENCH_SIMULATIONS names a folder that all workers share"
        )


def _numbers(cost: "Cost") -> list[str]:
    hours = [seconds / 3600 for seconds in (cost.core_seconds, cost.gpu_seconds)]
    return [_short(cost.events), _short(cost.operations), *(f"{h:.2f}" for h in hours)]


def _short(value: float) -> str:
    return f"{value:.1e}" if value else "–"


def _aligned(rows: Sequence[Sequence[str]], left: int) -> Iterator[str]:
    """Yield rows as text with aligned columns, the first `left` of them to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    signs = "<" * left + ">" * (len(widths) - left)
    for row in rows:
        cells = zip(row, signs, widths, strict=True)
        yield "  ".join(f"{text:{sign}{width}}" for text, sign, width in cells).rstrip()
