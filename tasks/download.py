"""Downloads with pooch: verified by checksum, resumed where they broke off."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.errors import DataError

_FILES = "https://zenodo.org/records/{record}/files"
_CHUNK = 1 << 16  # what is lost, at most, where a connection breaks
_TIMEOUT = (30.0, 60.0)  # seconds to connect, and between two parts


def release(record: str, folder: Path, report: Callable[..., None]) -> list[Path]:
    """Downloads the data files of a Zenodo record, with the checksums that the record gives.

    Raises:
        DataError: if it cannot be reached, or a file is not what the record says.
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
        if name.endswith((".zip", ".parquet", ".csv", ".csv.gz"))
    ]


def download(url: str, folder: Path, report: Callable[..., None]) -> Path:
    """Downloads a file; a fragment of the URL, #sha256=… or #md5=…, is its checksum.

    Raises:
        DataError: if it cannot be reached, or its checksum is another one.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise DataError(f"{url} is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not Path(parts.path).name:
        raise DataError(f"{url}: a mirror's address is https://HOST/…/FILE, or http://")
    address, _, fragment = url.partition("#")
    algorithm, _, value = fragment.partition("=")
    if fragment and (algorithm not in ("sha256", "md5") or not value):
        raise DataError(f"{url}: a checksum is written #sha256=… or #md5=…")
    return _retrieve(address, f"{algorithm}:{value}" if fragment else None, folder, report)


def _retrieve(url: str, checksum: str | None, folder: Path, report: Callable[..., None]) -> Path:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    name = Path(urlsplit(url).path).name
    if checksum is None:  # without one, what an earlier download left may be something else
        (folder / name).unlink(missing_ok=True)

    def fetch(address: str, target: str, _: Any) -> None:
        _resume(address, folder / f"{name}.part", report)
        os.replace(folder / f"{name}.part", target)

    try:
        found = pooch.retrieve(url, checksum, fname=name, path=folder, downloader=fetch)
    except (OSError, ValueError) as error:
        raise DataError(f"{url} cannot be downloaded: {_brief(error)}; again resumes") from error
    return Path(found)


def _resume(url: str, part: Path, report: Callable[..., None]) -> None:
    """Downloads what is missing of a file; the whole of it if it has changed in the meantime."""
    import requests

    tag = part.with_suffix(".tag")  # which version of the file the part is of
    there = part.stat().st_size if part.is_file() and tag.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if there:
        headers |= {"Range": f"bytes={there}-", "If-Range": tag.read_text()}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing is missing, or the part is of something else
            part.unlink()
            tag.unlink()
            return _resume(url, part, report)
        answer.raise_for_status()
        done = there if answer.status_code == 206 else 0
        total = done + int(answer.headers["Content-Length"]) if _sized(answer) else None
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if not done:
            tag.unlink(missing_ok=True)
            part.write_bytes(b"")
        if version:  # not before the part is empty: it says what the part is of
            tag.write_text(version)
        with part.open("ab") as file:
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                report(stage=f"download {part.stem}", done=done, total=total)
    if total is not None and done != total:
        raise OSError(f"the connection broke after {done:,} of {total:,} bytes")
    tag.unlink(missing_ok=True)


def _sized(answer: Any) -> bool:
    return str(answer.headers.get("Content-Length", "")).isdigit()


def _brief(error: Exception) -> str:
    import requests

    if isinstance(error, requests.ConnectionError) and error.request is not None:
        return f"no connection to {urlsplit(str(error.request.url)).hostname}"
    return " ".join(str(error).split())[:200]
