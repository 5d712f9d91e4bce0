"""Data that a task needs and the package does not contain: how to get it, what is there."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping


def refuse(unreadable: Mapping[str, str]) -> bool:
    """Refuse to go on without files that cannot be read."""
    return False


class Data(ABC):
    """Data of a task, fetched once by `bench data fetch TASK` and then read from a local folder."""

    title: str
    citation: str
    licence: str

    @abstractmethod
    def status(self) -> list[str]:
        """Says what is there, line by line; empty where nothing is."""

    @abstractmethod
    def fetch(
        self,
        source: str | None,
        report: Callable[..., None],
        skip: Callable[[Mapping[str, str]], bool] = refuse,
    ) -> None:
        """Gets the data and makes them ready to use; what was there before is replaced.

        Args:
            source: a local file or folder, or a mirror's URL; the public release where None.
            report: `report(stage=…, done=…, total=…)` shows progress; cheap to call.
            skip: decides whether to go on without files that cannot be read; given the reason for
                each by the file's name. Asked once, and only if other files can be read.

        Raises:
            DataError: if they cannot be had, or are not what they should be.
        """
