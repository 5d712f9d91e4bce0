"""Connection to a Dask cluster, start of a local one, and properties of its workers."""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import bench
from bench.errors import UsageError
from bench.execution.worker import failure, start_up

if TYPE_CHECKING:
    from distributed import Client, SpecCluster

_CONNECT = 10.0  # seconds that a scheduler may take to answer
_CLOSE = 60.0  # seconds that a local cluster may take to end
_ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})", re.ASCII)
_LOCAL = re.compile(r"local:([1-9]\d{0,3})", re.ASCII)


def check_address(scheduler: str) -> None:
    """Raise UsageError unless the text is a scheduler's address or `local:N`.

    Args:
        scheduler: the address.

    Raises:
        UsageError: if it is wrong, or Dask is not installed.
    """
    found = _ADDRESS.fullmatch(scheduler)
    if not (_LOCAL.fullmatch(scheduler) or (found and 0 < int(found[3]) < 2**16)):
        raise UsageError(
            f"scheduler {scheduler!r} is neither tcp://HOST:PORT (or tls://…), the address of a "
            "Dask scheduler, nor local:N, which starts N workers here"
        )
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--scheduler needs dask.distributed ({error}): pip install 'nlbench[cluster]'"
        ) from error


@contextmanager
def connect(scheduler: str) -> Iterator[Client]:
    """Open a client of a Dask cluster; an address `local:N` starts a cluster of N workers.

    Raises:
        UsageError: if the address is wrong, no scheduler answers there, or workers have another
            version of the suite.
    """
    check_address(scheduler)
    from distributed import Client

    here = _LOCAL.fullmatch(scheduler)
    with ExitStack() as stack:
        stack.enter_context(_silenced())
        cluster = stack.enter_context(_local_cluster(int(here[1]))) if here else None
        try:
            if cluster is None:
                asyncio.run(_greet(scheduler))
            client = Client(cluster or scheduler, timeout=_CONNECT, set_as_default=False)
        except Exception as error:  # any kind of server may answer
            raise UsageError(f"no Dask scheduler answers at {scheduler}") from error
        with client:
            _check_versions(client, scheduler)
            yield client


async def _greet(scheduler: str) -> None:
    """Exchange greetings with a scheduler; a client that never met a scheduler cannot be closed."""
    from distributed import Security
    from distributed.comm import connect

    options = Security().get_connection_args("client")
    comm = await connect(scheduler, timeout=_CONNECT, **options)
    comm.abort()


@contextmanager
def _silenced() -> Iterator[None]:
    """Hold Dask's loggers silent: errors and outcomes of jobs report what happens to the cluster.

    They are not silenced if the suite's own logger is at debug level.
    """
    if logging.getLogger("bench").isEnabledFor(logging.DEBUG):
        yield
        return
    names = ("distributed", "tornado", "asyncio")
    loggers = [
        logger
        for name, logger in list(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in names
    ]
    levels = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)


@contextmanager
def _local_cluster(workers: int) -> Iterator[SpecCluster]:
    """Open a cluster on this machine: one thread per worker and, if available, one GPU each."""
    import dask
    import torch
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = torch.cuda.device_count()
    options: dict[str, Any] = {
        "nthreads": 1,
        "memory_limit": 0,  # jobs have limits of their own
        "silence_logs": logging.ERROR,
        "dashboard": False,
    }
    specification: dict[str, Any] = {}
    for i in range(workers):
        if gpus:
            own = {"resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": str(i % gpus)}}
            specification[str(i)] = {"cls": Nanny, "options": options | own}
        else:
            specification[str(i)] = {"cls": Nanny, "options": options}
    scheduler = {"host": "127.0.0.1", "port": 0, "dashboard": False}
    with tempfile.TemporaryDirectory(prefix="nlbench-", ignore_cleanup_errors=True) as scratch:
        # Processes that the cluster's threads start must not receive Ctrl-C.
        with start_up(), warnings.catch_warnings(), dask.config.set(temporary_directory=scratch):
            warnings.filterwarnings("ignore", "Creating scratch directories")  # on a busy machine
            cluster = SpecCluster(
                specification,
                {"cls": Scheduler, "options": scheduler},
                silence_logs=logging.CRITICAL,
            )
        try:
            yield cluster
        finally:
            cluster.close(timeout=_CLOSE)


def _check_versions(client: Client, scheduler: str) -> None:
    """Raise UsageError if workers cannot import nlbench or have another version of it."""
    try:
        versions = set(client.run(_version).values())
    except Exception as error:  # the import may raise anything
        raise UsageError(
            f"the workers at {scheduler} cannot import nlbench: {failure(error)['error']}"
        ) from error
    if other := versions - {bench.__version__}:
        raise UsageError(
            f"the workers at {scheduler} have nlbench {', '.join(sorted(other))}, and this is "
            f"{bench.__version__}"
        )


def _version() -> str:
    return bench.__version__


def offers_gpus(scheduler: str) -> bool:
    """Return whether any worker of a running cluster has the resource tag GPU.

    Raises:
        UsageError: as `connect`.
    """
    if _LOCAL.fullmatch(scheduler):
        import torch

        return torch.cuda.is_available()
    with connect(scheduler) as client:
        return any(slots(client, "GPU").values())


def slots(client: Client, resource: str | None = None) -> dict[str, int]:
    """Return the number of jobs that each worker can run at a time, by the worker's address.

    Args:
        client: a client of the cluster.
        resource: resource tag whose number counts; the worker's threads count if None.
    """
    workers = client.scheduler_info()["workers"].items()
    if resource is None:
        return {address: int(worker["nthreads"]) for address, worker in workers}
    return {address: int(worker["resources"].get(resource, 0)) for address, worker in workers}
