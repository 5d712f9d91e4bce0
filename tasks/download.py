"""Downloads that resume after an interruption and are verified by checksum."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.errors import DataError

_FILES = "https://zenodo.org/records/{record}/files"
_CHUNK = 1 << 16  # bytes lost, at most, if a connection breaks
_TIMEOUT = (30.0, 60.0)  # seconds to connect, and between two parts
_DIGITS = {"sha256": 64, "md5": 32}


def release(
    record: str, folder: Path, readable: tuple[str, ...], report: Callable[..., None]
) -> list[Path]:
    """Download the data files of a Zenodo record, with the checksums of the record.

    Args:
        record: number of the record.
        folder: folder for the files.
        readable: endings of the names of the wanted files.
        report: shows progress.

    Raises:
        DataError: if the record cannot be reached, or a file has another checksum.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    try:
        files = pooch.create(folder, base_url=f"doi:10.5281/zenodo.{record}/")
        files.load_registry_from_doi()
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise DataError(
            f"the record 10.5281/zenodo.{record} cannot be reached ({_brief(error)}); a file that "
            "is here already is taken by --from PATH, a mirror by --from URL"
        ) from error
    address = _FILES.format(record=record)
    return [
        _retrieve(f"{address}/{name}", files.registry[name], folder, report)
        for name in sorted(files.registry)
        if name.endswith(readable)
    ]


def download(
    url: str, folder: Path, readable: tuple[str, ...], report: Callable[..., None]
) -> Path:
    """Download a file; a fragment of the URL, #sha256=… or #md5=…, is its checksum.

    Raises:
        DataError: if it cannot be reached, or its checksum differs.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise DataError(f"{url} is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.path.endswith(readable):
        raise DataError(
            f"{url}: a mirror's address is https://HOST/…/FILE, or http://, and ends in "
            f"{', '.join(readable)}"
        )
    address, _, fragment = url.partition("#")
    algorithm, _, value = fragment.partition("=")
    if fragment and not re.fullmatch(f"[0-9a-fA-F]{{{_DIGITS.get(algorithm, 0)}}}", value or "-"):
        raise DataError(f"{url}: a checksum is written #sha256=, 64 digits, or #md5=, 32 digits")
    return _retrieve(address, f"{algorithm}:{value}" if fragment else None, folder, report)


def _retrieve(url: str, checksum: str | None, folder: Path, report: Callable[..., None]) -> Path:
    """Return the path of a verified file, which is downloaded unless it exists."""
    from pooch.hashes import file_hash, hash_matches

    path = folder / Path(urlsplit(url).path).name
    if checksum and path.is_file() and hash_matches(str(path), checksum):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = _Part(path, url, verified=checksum is not None)

    def is_right() -> bool:
        return checksum is None or hash_matches(str(part.path), checksum)

    if not (checksum and part.size() and is_right()):  # the interrupted download may be complete
        try:
            part.download(report)
        except (OSError, ValueError) as error:
            again = "; again resumes" if part.size() else ""
            raise DataError(f"{url} cannot be downloaded: {_brief(error)}{again}") from error
        if checksum and not is_right():
            algorithm, _, wanted = checksum.rpartition(":")
            found = file_hash(str(part.path), algorithm or "sha256")
            part.remove()
            raise DataError(f"{url}: its {algorithm} is {found}, not {wanted}; it was deleted")
    os.replace(part.path, path)
    part.remove()
    return path


class _Part:
    """Partial download, with a file that notes its address and version.

    Args:
        path: path of the finished file.
        url: its address.
        verified: whether a checksum will detect parts of different versions. If not, a part is
            completed only if the server confirms that the file is unchanged.
    """

    def __init__(self, path: Path, url: str, verified: bool) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self._note = path.with_name(f"{path.name}.tag")
        self._url = url
        self._verified = verified

    def _version(self) -> str | None:
        """Return the version of the part; None if it cannot be completed."""
        try:
            url, _, version = self._note.read_text().partition("\n")
        except (OSError, ValueError):
            return None
        return version if url == self._url and (version or self._verified) else None

    def size(self) -> int:
        """Return the number of bytes that need not be downloaded again."""
        there = self.path.is_file() and self._version() is not None
        return self.path.stat().st_size if there else 0

    def remove(self) -> None:
        """Delete the part and its note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def download(self, report: Callable[..., None]) -> None:
        """Download the missing bytes, or the whole file if it has changed.

        Raises:
            OSError: if the server refuses, or the connection breaks.
        """
        import requests

        there, known = self.size(), self._version()
        headers = {"Accept-Encoding": "identity"}
        if there:
            headers["Range"] = f"bytes={there}-"
        if there and known:
            headers["If-Range"] = known
        with requests.get(self._url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            span = answer.headers.get("Content-Range", "")
            plain = answer.headers.get("Content-Encoding", "identity") == "identity"
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            found = re.fullmatch(rf"bytes {there}-\d+/(\d+)", span)
            continued = (
                there > 0
                and answer.status_code == 206
                and found is not None
                and plain
                and version == known
            )
            if there and not continued and answer.status_code in (206, 416):
                self.remove()
                return self.download(report)
            answer.raise_for_status()
            if answer.status_code != 200 and not continued:
                raise OSError(f"the server answers {answer.status_code} {answer.reason}")
            if answer.status_code == 200:
                there = 0
                self.remove()
                self.path.touch()  # before the note, which describes the part
                if plain:  # else its bytes are not those of the file
                    self._note.write_text(f"{self._url}\n{version}")
            length = str(answer.headers.get("Content-Length", ""))
            total = int(length) if length.isdigit() and plain else None
            if continued and found is not None:  # a server may send less than requested
                total = int(found[1])
            self._append(answer, there, total, report)

    def _append(
        self, answer: Any, done: int, total: int | None, report: Callable[..., None]
    ) -> None:
        import requests

        broken = False
        try:
            with self.path.open("ab") as file:
                for chunk in answer.iter_content(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    report(stage=f"download {self.path.stem}", done=done, total=total)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            broken = True
        if broken or (total is not None and done != total):
            of = "" if total is None else f" of {total:,}"
            raise OSError(f"the connection broke after {done:,}{of} bytes")


def _brief(error: Exception) -> str:
    import requests

    told = isinstance(error, (requests.exceptions.SSLError, requests.exceptions.ProxyError))
    if isinstance(error, requests.ConnectionError) and error.request is not None and not told:
        return f"no connection to {urlsplit(str(error.request.url)).hostname}"
    return " ".join(str(error).split())[:200]
