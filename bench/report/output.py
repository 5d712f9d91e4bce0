"""Output folder of a report: a new report replaces the earlier one as a whole, and nothing else.

A file belongs to an earlier report if that report's list names it and its content is unchanged.
These files are replaced or removed. Everything else belongs to the user and is kept. A report that
would replace a user's file, or follow a link, is refused. The folder itself may be a link to
another folder. The list also says from which results the report was made.

A new report is written to a hidden folder in this one, which is on the same file system, so nothing
outside is changed. Its files are then moved into place, and back if anything fails.
"""

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.errors import StoreError, UsageError, printable

LIST = "report.sha256"
_HEAD = f"# Files that `bench report` wrote; `sha256sum -c {LIST}` checks them.\n"
_FOLDERS = ("figures", "tables")
# Lists may come from others: accept only names of files that a report can have written.
_NAME = rf"[a-z0-9][\w.-]*\.html|references\.bib|(?:{'|'.join(_FOLDERS)})/[\w-][\w.-]*"
_LINE = re.compile(rf"([0-9a-f]{{64}})  ({_NAME})")
_SOURCE = re.compile(r"# made from ([0-9a-f]{64})  (.+)")
_LARGEST = 2**27  # largest size of a report's file in bytes
_ELSEWHERE = "or choose another folder with --out"
_Rename = tuple[Path, Path]


@contextmanager
def opened(root: Path, names: Collection[str] = ()) -> Iterator["Output"]:
    """Open the folder of a report for a new report.

    If no new report is made, nothing is left behind, not even the folder.

    Args:
        root: the folder; created if need be.
        names: files that the report has in any case.

    Raises:
        StoreError: if the folder cannot be written.
        UsageError: if a link or another file is in the place of the report.
    """
    created = [path for path in (root, *root.parents) if not os.path.lexists(path)]
    stage = None
    try:
        try:
            root.mkdir(parents=True, exist_ok=True)
            stage = Path(tempfile.mkdtemp(dir=root, prefix=".report-"))  # on the same file system
        except OSError as error:
            reason = error.strerror or error
            raise StoreError(
                f"cannot write to {root}: {reason}; choose another folder with --out"
            ) from error
        output = Output(root, stage)
        output.refuse(names)
        yield output
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        for path in created:
            with suppress(OSError):  # fails if it is not empty
                path.rmdir()


def made_from(root: Path) -> dict[str, str]:
    """Return the fingerprints of the results that a report was made from, by path.

    It is empty if there is no report in the folder, or one of an older version.
    """
    text = (_content(root / LIST) or b"").decode(errors="replace")
    found = map(_SOURCE.fullmatch, text.splitlines())
    return {source[2]: source[1] for source in found if source is not None}


class Output:
    """Folder of a report, opened for a new one.

    Args:
        root: the folder.
        stage: an empty folder in it, for files that are not yet in place.
    """

    def __init__(self, root: Path, stage: Path) -> None:
        self._root = root
        self._stage = stage

    def refuse(self, names: Collection[str]) -> None:
        """Refuse a report of these files if it would change files of others.

        Raises:
            UsageError: if a link or another file is in the place of one of them.
        """
        for path in (self._root / name for name in (*_FOLDERS, LIST, *names)):
            if path.is_symlink():
                raise UsageError(
                    f"{path} is a link, and reports follow none: remove it, {_ELSEWHERE}"
                )
        for path in (self._root / name for name in _FOLDERS):
            if os.path.lexists(path) and not path.is_dir():
                raise UsageError(f"{path} is not a folder: move it away, {_ELSEWHERE}")
        listed = self._listed()
        for name in names:
            path = self._root / name
            if os.path.lexists(path) and (self._digest(name), name) not in listed:
                raise UsageError(
                    f"{path} is not, or no longer, as a report wrote it: move it away, {_ELSEWHERE}"
                )

    def replace(self, files: Mapping[str, bytes], sources: Mapping[str, str]) -> None:
        """Replace the earlier report; a failed or interrupted replacement is undone.

        Args:
            files: contents by name.
            sources: fingerprints of the results folders, by path.

        Raises:
            StoreError: if the files cannot be written.
            UsageError: if a link or another file is in the place of one of them.
        """
        if wrong := [name for name in files if not re.fullmatch(_NAME, name)]:
            raise StoreError(f"cannot write {wrong[0]!r}: it is no name of a file of a report")
        self.refuse(files)
        earlier = {
            (digest, name) for digest, name in self._listed() if self._digest(name) == digest
        }
        new = {(hashlib.sha256(content).hexdigest(), name) for name, content in files.items()}
        old = {name for _, name in earlier}
        folders = {self._root / name.partition("/")[0] for name in files if "/" in name}
        created = [folder for folder in folders if not folder.exists()]
        emptied = [self._root / name.partition("/")[0] for name in old if "/" in name]
        try:
            for name, content in files.items():
                _write(self._stage / "new" / name, content)
            lists = {"new": _text(new, sources), "both": _text(new | earlier, sources)}
            lists["old"] = _content(self._root / LIST) or _HEAD.encode()
            for which, content in lists.items():
                _write(self._stage / which / LIST, content)
            for folder in folders:
                folder.mkdir(exist_ok=True)
            for name in _FOLDERS:
                (self._stage / "old" / name).mkdir()
            _rename(list(self._renames({*files}, old)))
        except OSError as error:
            where = error.filename or self._root
            raise StoreError(f"cannot write {where}: {error.strerror or error}") from error
        finally:
            for folder in (*created, *emptied):
                with suppress(OSError):  # fails if it is not empty
                    folder.rmdir()

    def _renames(self, new: set[str], old: set[str]) -> Iterator[tuple[_Rename, _Rename | None]]:
        """Yield renames that put the new files in place of the old ones, each with its inverse."""
        root, stage = self._root, self._stage
        # While files move, the list names both, so that the next report knows a killed one's files.
        before = (stage / "old" / LIST, root / LIST)
        if not os.path.lexists(root / LIST):
            before = (root / LIST, stage / "old" / LIST)
        yield (stage / "both" / LIST, root / LIST), before
        for name in sorted(new | old):
            if name in old:
                yield (root / name, stage / "old" / name), (stage / "old" / name, root / name)
            if name in new:
                yield (stage / "new" / name, root / name), (root / name, stage / "new" / name)
        yield (stage / "new" / LIST, root / LIST), None

    def _listed(self) -> set[tuple[str, str]]:
        """Return digests and names of the files that an earlier report wrote.

        Raises:
            UsageError: if the list was not written by a report.
        """
        path = self._root / LIST
        if not os.path.lexists(path):
            return set()
        text = (_content(path) or b"").decode(errors="replace")
        if not text.startswith(_HEAD):
            raise UsageError(f"{path} is not a list of a report: move it away, {_ELSEWHERE}")
        found = map(_LINE.fullmatch, text.splitlines())
        return {(line[1], line[2]) for line in found if line is not None}

    def _digest(self, name: str) -> str:
        """Return the SHA-256 of a file; "" if it is not a regular file, or behind a link."""
        linked = any((self._root / folder).is_symlink() for folder in _FOLDERS)
        content = None if linked else _content(self._root / name)
        return "" if content is None else hashlib.sha256(content).hexdigest()


def _content(path: Path) -> bytes | None:
    """Return a regular file's content; None if it is another type, too large or unreadable."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            regular = stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST
            return file.read() if regular else None
    except OSError:
        return None


def _text(lines: Iterable[tuple[str, str]], sources: Mapping[str, str]) -> bytes:
    head = [f"# made from {digest}  {printable(path)}\n" for path, digest in sources.items()]
    by_name = sorted((name, digest) for digest, name in lines)
    return "".join([_HEAD, *head, *(f"{digest}  {name}\n" for name, digest in by_name)]).encode()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _rename(steps: Sequence[tuple[_Rename, _Rename | None]]) -> None:
    """Rename files one after another; undo all renames if one fails, or on Ctrl-C."""
    begun = []
    try:
        for (source, target), undo in steps:
            begun.append(undo)
            os.rename(source, target)
    except BaseException:
        for undo in filter(None, reversed(begun)):
            with suppress(OSError):  # the last may not have been done
                os.rename(*undo)
        raise
