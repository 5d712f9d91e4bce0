"""Downloads from servers that abort, change files, ignore ranges, or send wrong data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import numpy as np
import pytest
from bench.tasks import download as module

from bench.errors import DataError

CONTENT = np.random.default_rng(0).bytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
READABLE = (".parquet", ".csv")


class _Server(BaseHTTPRequestHandler):
    """Server of `content`, in ranges if requested; aborts after `breaks` bytes, once each."""

    content = CONTENT
    tag: str | None = '"1"'
    status = 200
    headers_sent: ClassVar[dict[str, str]] = {}
    blind = False  # continues for any requested version
    most = 1 << 30  # bytes per answer to a range request
    breaks: ClassVar[list[int]] = []
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        _Server.asked.append(asked)
        if not self.blind and self.headers.get("If-Range", self.tag) != self.tag:
            asked = None
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(self.content):
            self.send_response(416)
            self.end_headers()
            return
        body = self.content[start : start + self.most if asked else None]
        self.send_response(206 if asked else self.status)
        sent = {"Content-Length": str(len(body)), "ETag": self.tag}
        if asked:
            end = start + len(body) - 1
            sent["Content-Range"] = f"bytes {start}-{end}/{len(self.content)}"
        for name, value in (sent | self.headers_sent).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: _Server.breaks.pop(0)] if _Server.breaks else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[str]:
    for name, value in {
        "content": CONTENT,
        "tag": '"1"',
        "status": 200,
        "headers_sent": {},
        "blind": False,
        "most": 1 << 30,
        "breaks": [],
        "asked": [],
    }.items():
        setattr(_Server, name, value)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    Thread(target=partial(server.serve_forever, poll_interval=0.05), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/mirror/events.parquet"
    server.shutdown()
    server.server_close()


@pytest.fixture
def download(tmp_path: Path) -> Callable[..., Path]:
    def call(url: str, report: Callable[..., None] = lambda **_: None) -> Path:
        return module.download(url, tmp_path / "downloads", READABLE, report)

    return call


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "downloads").iterdir()}


def test_downloads_resume_and_are_verified(
    download: Callable[..., Path], mirror: str, tmp_path: Path
) -> None:
    address = f"{mirror}#sha256={SHA256}"
    _Server.breaks = [70_000]
    with pytest.raises(DataError, match=r"broke after 65,536 of 200,000 bytes; again resumes$"):
        download(address)
    seen: list[int] = []
    path = download(address, lambda **k: seen.append(k["done"]))
    assert _Server.asked == [None, "bytes=65536-"]
    assert seen[-1] == len(CONTENT)
    assert path.read_bytes() == CONTENT
    download(address)  # downloads nothing
    assert len(_Server.asked) == 2
    assert names(tmp_path) == {"events.parquet"}


@pytest.mark.parametrize("blind", [False, True])
def test_parts_of_two_versions_are_never_joined(
    download: Callable[..., Path], mirror: str, blind: bool
) -> None:
    _Server.breaks = [70_000]
    with pytest.raises(DataError):
        download(mirror)
    _Server.tag, _Server.blind = '"2"', blind
    _Server.content = CONTENT[::-1]
    assert download(mirror).read_bytes() == CONTENT[::-1]
    assert _Server.asked == [None, "bytes=65536-", *([None] if blind else [])]


def test_a_short_answer_to_a_range_is_not_the_whole(
    download: Callable[..., Path], mirror: str
) -> None:
    _Server.breaks, _Server.most = [70_000], 65_536
    for done in ("65,536", "131,072", "196,608"):
        with pytest.raises(DataError, match=f"after {done} of 200,000 bytes; again resumes"):
            download(mirror)
    assert download(mirror).read_bytes() == CONTENT


def test_an_encoded_answer_to_a_range_is_not_joined(
    download: Callable[..., Path], mirror: str
) -> None:
    _Server.breaks = [70_000]
    with pytest.raises(DataError):
        download(mirror)
    _Server.headers_sent = {"Content-Encoding": "br"}
    download(mirror)
    assert _Server.asked == [None, "bytes=65536-", None]


def test_a_part_is_of_one_address(download: Callable[..., Path], mirror: str) -> None:
    _Server.breaks = [70_000]
    with pytest.raises(DataError):
        download(mirror)
    download(mirror.replace("mirror", "other"))
    assert _Server.asked == [None, None]


@pytest.mark.parametrize("checksum", ["", f"#sha256={SHA256}"])
def test_without_versions_only_a_checksum_lets_resume(
    download: Callable[..., Path], mirror: str, checksum: str
) -> None:
    _Server.tag, _Server.breaks = None, [70_000]
    with pytest.raises(DataError) as error:
        download(mirror + checksum)
    assert str(error.value).endswith("again resumes") == bool(checksum)
    assert download(mirror + checksum).read_bytes() == CONTENT
    assert _Server.asked == [None, "bytes=65536-" if checksum else None]


def test_a_complete_part_is_not_lost(
    download: Callable[..., Path], mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The complete part survives Ctrl-C during its checksum."""
    import pooch.hashes

    def interrupted(*_: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pooch.hashes, "hash_matches", interrupted)
        with pytest.raises(KeyboardInterrupt):
            download(f"{mirror}#sha256={SHA256}")
    assert download(f"{mirror}#sha256={SHA256}").read_bytes() == CONTENT
    assert _Server.asked == [None]


def test_without_a_checksum_a_complete_part_is_asked_for_again(
    download: Callable[..., Path], mirror: str, tmp_path: Path
) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "events.parquet.part").write_bytes(CONTENT)
    (tmp_path / "downloads" / "events.parquet.tag").write_text(f'{mirror}\n"1"')
    assert download(mirror).read_bytes() == CONTENT
    assert _Server.asked == ["bytes=200000-", None]


def test_a_failing_mirror_takes_nothing_away(
    download: Callable[..., Path], mirror: str, tmp_path: Path
) -> None:
    there = download(f"{mirror}#sha256={SHA256}")
    with pytest.raises(DataError, match=r"no connection to 127\.0\.0\.1$"):
        download("http://127.0.0.1:1/events.parquet")
    assert there.read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused(
    download: Callable[..., Path], mirror: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"its sha256 is {SHA256}, not 0000.*; it was deleted"):
        download(f"{mirror}#sha256={'0' * 64}")
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    "end", ["#crc=1", "#sha256=", "#sha256", f"#md5={SHA256}", "#md5=" + 31 * "0", "#=" + "0" * 64]
)
def test_a_checksum_that_cannot_be_one_is_refused_at_once(
    download: Callable[..., Path], mirror: str, end: str
) -> None:
    with pytest.raises(DataError, match="a checksum is written #sha256=, 64 digits, or #md5="):
        download(mirror + end)
    assert not _Server.asked


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/x.parquet",
        "https://example.org/",
        "https://example.org/..",
        "https://example.org/files/x.zip/content",
        "https://example.org/get?file=x.csv",
    ],
)
def test_other_addresses_are_refused_at_once(download: Callable[..., Path], url: str) -> None:
    with pytest.raises(DataError, match=r"address is https://HOST.* ends in \.parquet, \.csv$"):
        download(url)


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "404 .*parquet$"), (204, "the server answers 204"), (300, "the server answers 300")],
)
def test_other_answers_are_refused(
    download: Callable[..., Path], mirror: str, status: int, message: str
) -> None:
    _Server.status = status
    with pytest.raises(DataError, match=message):
        download(mirror)


def test_an_encoded_answer_is_longer_than_it_says(
    download: Callable[..., Path], mirror: str
) -> None:
    import gzip

    _Server.content = gzip.compress(bytes(50_000))
    _Server.headers_sent = {"Content-Encoding": "gzip"}
    _Server.breaks = [20]
    with pytest.raises(DataError, match="cannot be downloaded") as error:
        download(mirror)
    assert "resumes" not in str(error.value)
    assert download(mirror).read_bytes() == bytes(50_000)


def test_the_release_is_verified_by_what_its_record_says(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record's answer is simulated; its files come from the mirror."""
    import pooch

    def load(self: pooch.Pooch) -> None:
        assert self.base_url == "doi:10.5281/zenodo.15131565/"
        md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
        self.registry = {"events.parquet": f"md5:{md5}", "notes.json": "md5:0"}

    monkeypatch.setattr(pooch.Pooch, "load_registry_from_doi", load)
    monkeypatch.setattr(module, "_FILES", mirror.rpartition("/")[0])
    (path,) = module.release("15131565", tmp_path, READABLE, lambda **_: None)
    assert path.read_bytes() == CONTENT
    assert len(_Server.asked) == 1
