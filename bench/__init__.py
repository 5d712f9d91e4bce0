"""Benchmark suite of neural likelihood surrogates.

Names of the library, such as `bench.fit`, are imported when they are first used: they need torch
and pandas, which are slow to import.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.library import Evaluation as Evaluation
    from bench.library import FittedSurrogate as FittedSurrogate
    from bench.library import Trust as Trust
    from bench.library import evaluate as evaluate
    from bench.library import fit as fit
    from bench.library import leaderboard as leaderboard
    from bench.library import load_surrogate as load_surrogate
    from bench.library import run as run
    from bench.library import task as task
    from bench.library import trust as trust
    from bench.report.load import load as load

if not (Path(__file__).parent / "tasks").is_dir():
    # Python runs from a checkout, where tasks/ and methods/ are beside bench/.
    __path__.append(str(Path(__file__).parents[1]))

__version__ = "0.1.0"

_HOMES = {"load": "bench.report.load"} | dict.fromkeys(
    (
        "Evaluation",
        "FittedSurrogate",
        "Trust",
        "evaluate",
        "fit",
        "leaderboard",
        "load_surrogate",
        "run",
        "task",
        "trust",
    ),
    "bench.library",
)


def __getattr__(name: str) -> Any:
    """Import a name of the library on first access."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the library too."""
    return sorted({*globals(), *_HOMES})
