"""Operations on results folders: `bench results`."""

from pathlib import Path

import click

from bench.cli.options import FOLDER
from bench.echo import echo
from bench.errors import counted


@click.group()
def results() -> None:
    """Pack a results folder into one file."""


@results.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
def pack(folder: str) -> None:
    """Move scores and records into one file, DIR/pack.parquet.

    The pack holds scores, plans, records of fits, and likelihoods of a few datasets around their
    maxima. All commands read a packed folder as before, and runs resume on it. New results lie
    beside the pack until the folder is packed again. Weights, predictions and simulations stay
    files.
    """
    from bench.cli.folder import open_results
    from bench.storage.pack import PACK
    from bench.storage.store import Store
    from bench.storage.windows import of_predictions

    of_study = any((Path(folder) / name).exists() for name in ("bootstrap-k", PACK))
    store = Store(Path(folder)) if of_study else open_results(folder, write=True)
    entries, removed = store.pack(of_predictions(store))
    size = (store.root / PACK).stat().st_size / 2**20
    echo(
        f"{counted(entries, 'record')} in {Path(folder) / PACK}, {size:.1f} MiB; "
        f"{counted(removed, 'file')} removed"
    )
