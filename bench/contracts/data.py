"""Data of a task that the package does not contain."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping


def refuse(unreadable: Mapping[str, str]) -> bool:
    """Return False: do not continue without files that cannot be read."""
    return False


class Data(ABC):
    """Data of a task, fetched once by `bench data fetch TASK` and then read from a local folder."""

    title: str
    citation: str
    licence: str

    @abstractmethod
    def status(self) -> list[str]:
        """Return a description of the local data, one line per item; empty without data."""

    @abstractmethod
    def fetch(
        self,
        source: str | None,
        report: Callable[..., None],
        skip: Callable[[Mapping[str, str]], bool] = refuse,
    ) -> None:
        """Fetch the data and prepare them for use, replacing earlier data.

        Args:
            source: a local file or folder, or a mirror's URL; the public release where None.
            report: `report(stage=…, done=…, total=…)` shows progress; cheap to call.
            skip: returns whether to continue without files that cannot be read, given the reason
                for each by the file's name. Called once, and only if other files can be read.

        Raises:
            DataError: if the data cannot be obtained, or are not as expected.
        """
