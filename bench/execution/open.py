"""Choice of a run's executor: this machine's workers, optionally with a Dask cluster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.execution.executor import Event, Executor
from bench.execution.pool import Workers
from bench.storage.store import Store


@contextmanager
def open_executor(
    store: Store,
    workers: int,
    limits: tuple[float, float],
    on_event: Callable[[Event], None] = lambda event: None,
    scheduler: str | None = None,
) -> Iterator[Executor]:
    """Open an executor; leaving the context stops everything that runs.

    Args:
        store: the results folder.
        workers: worker processes on this machine, at most.
        limits: seconds and GiB that a job may take.
        on_event: called when a job starts, reports progress or ends.
        scheduler: address of the Dask cluster for fits and predictions, as in `connection.connect`;
            if None, this machine's workers do all jobs.
    """
    seconds, gibibytes = limits
    here = Workers(workers, seconds, int(gibibytes * 2**30), on_event)
    if scheduler is None:
        with here:
            yield here
        return
    from bench.execution.dask.cluster import Cluster  # needs the extra [cluster]
    from bench.execution.dask.connection import connect

    with connect(scheduler) as client, Cluster(client, store, here) as cluster:
        yield cluster
