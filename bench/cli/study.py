"""`bench study`: questions about the protocol, the tasks, saved results and speed."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import COUNT, MOST, PLUGIN, SEED, STUDIES, WORKERS, with_default
from bench.cli.study_diagnostics import COMMANDS as OF_DIAGNOSTICS
from bench.cli.study_results import COMMANDS as OF_RESULTS
from bench.cli.study_speed import COMMANDS as OF_SPEED
from bench.cli.study_tasks import COMMANDS as OF_TASKS
from bench.echo import tell, tell_each
from bench.errors import BenchError

if TYPE_CHECKING:  # they import torch, which takes its time
    from bench.execution.executor import Outcome
    from bench.studies.bootstrap_k import Sample


@click.group()
def study() -> None:
    """Study the protocol, tasks, saved results and speed."""


for command in (*OF_TASKS, *OF_RESULTS, *OF_DIAGNOSTICS, *OF_SPEED):
    study.add_command(command)


@study.command(name="bootstrap-k")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="GLOB",
    help="Take these tasks, which have an exact likelihood; repeatable.  "
    "[default: gaussians-far and -near]",
)
@click.option(
    "--k",
    "multiples",
    type=COUNT,
    multiple=True,
    help="Take sets of k times M events; repeatable.  [default: 1 2 3 5 9]",
)
@click.option(
    "--observations",
    type=COUNT,
    multiple=True,
    help="Take datasets of M observations; repeatable.  [default: the task's with every k, five "
    "times as many with k ≤ 3]",
)
@with_default(
    "--sets",
    click.IntRange(2, MOST),
    12,
    "Draw so many sets of k M events at each evaluation point.",
)
@with_default(
    "--bootstraps", click.IntRange(2, MOST), 100, "Resample each set to M events so many times."
)
@click.option(
    "--multinomial",
    is_flag=True,
    help="Let numbers of signal events scatter between sets; the paper fixes them.",
)
@with_default(
    "--independent",
    COUNT,
    1800,
    "Compare with so many independent datasets, spread over the points.",
)
@SEED
@WORKERS
@STUDIES
@PLUGIN
def bootstrap_k(
    tasks: tuple[str, ...],
    multiples: tuple[int, ...],
    observations: tuple[int, ...],
    sets: int,
    bootstraps: int,
    multinomial: bool,
    independent: int,
    seed: int,
    workers: int | None,
    out: str,
    plugins: tuple[str, ...],
) -> None:
    """Measure coverage of datasets resampled from larger sets.

    Datasets of M events resampled from a set of k M events share the set's fluctuation. Exact
    68.27 % intervals then cover 2 Φ(1/√(1 + 1/k)) − 1. A table compares the coverage with this
    formula. By default this takes about 12 minutes on two cores. An interrupted study resumes, and
    finished work is reused.
    """
    from bench.experiment.run import reason
    from bench.registry.registry import Registry
    from bench.storage.store import Store
    from bench.studies import bootstrap_k as subject
    from bench.studies.comparison import measured
    from bench.studies.render import FORMATS, figures, table

    begin = time.perf_counter()
    registry = Registry(plugins)
    chosen, skipped = subject.choose(registry, tasks or subject.TASKS)
    wanted = subject.samples(
        registry,
        chosen,
        multiples=multiples or subject.MULTIPLES,
        observations=observations,
        sets=sets,
        bootstraps=bootstraps,
        stratified=not multinomial,
        independent=independent,
        seed=seed,
    )
    store = Store(Path(out))
    tell_each("skipped", skipped)
    reused = sum(subject.is_done(store, sample) for sample in wanted)
    failed = count = 0

    def on_outcome(sample: "Sample", outcome: "Outcome") -> None:
        nonlocal failed, count
        count += 1
        if outcome.status == "done":
            tell(f"{count}/{len(wanted) - reused} {sample.label}: {outcome.seconds:.0f} s")
        else:
            failed += 1
            tell(f"failed: {sample.label}: {reason(outcome)}")

    subject.run(wanted, store, registry.plugins, workers or os.cpu_count() or 1, on_outcome)
    rows = measured(wanted, store)
    if not rows:
        raise BenchError("nothing was measured")
    tables = {form: render(rows).encode() for form, render in FORMATS.items()}
    for form, content in (tables | figures(rows)).items():
        store.write_bytes(f"{subject.NAME}.{form}", content)
    click.echo(table(rows), nl=False)  # harmless, and has styles of its own
    tell(
        f"{count - failed} made, {reused} reused, {failed} failed "
        f"in {time.perf_counter() - begin:.0f} s; results in {store.root}"
    )
    if tell_each("not loaded", registry.failures) or failed:
        raise SystemExit(1)
