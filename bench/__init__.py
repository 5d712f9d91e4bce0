"""Benchmark suite of neural likelihood surrogates."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.report.load import load as load

if not (Path(__file__).parent / "tasks").is_dir():
    # Python runs from a checkout, where tasks/ and methods/ are beside bench/.
    __path__.append(str(Path(__file__).parents[1]))

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `bench.load` on first access: it needs torch and pandas, which are slow to import."""
    if name == "load":
        from bench.report.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
