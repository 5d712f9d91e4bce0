"""Real events: read, checked, split, fetched. Files are generated."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from bench.tasks import download as downloads
from bench.tasks.fair_universe import SPLITS, FairUniverse
from bench.tasks.higgs_fair import HiggsFair
from pyarrow import csv, parquet

from bench.errors import BenchError, DataError, NotApplicable

SHARED = Path(__file__).parents[3] / "shared" / "data"
SIGNAL_SHARE = 0.6


def silent(**_: object) -> None:
    """Shows no progress."""


def fair_universe(n: int, seed: int = 0) -> pa.Table:
    """Events of the public schema: two processes that are used, one that is left out."""
    rng = np.random.default_rng(seed)
    label = rng.choice(["htautau", "ztautau", "ttbar"], n, p=[SIGNAL_SHARE - 0.05, 0.4, 0.05])
    columns = {
        "PRI_lep_pt": 20 + rng.exponential(15, n),
        "PRI_lep_eta": rng.normal(0, 1.2, n),
        "PRI_lep_phi": rng.uniform(-np.pi, np.pi, n),
        "PRI_had_pt": 26 + rng.exponential(15, n),
        "PRI_had_eta": rng.normal(0, 1.2, n),
        "PRI_had_phi": rng.uniform(-np.pi, np.pi, n),
        "PRI_met": rng.exponential(20, n),
        "weights": np.ones(n),
    }
    rounded = {name: np.round(values, 3).astype(np.float32) for name, values in columns.items()}
    return pa.table({**rounded, "detailed_labels": label})


def higgs_ml(table: pa.Table) -> pa.Table:
    """The same events in the schema of 2014, which knows no further backgrounds."""
    kept = table.filter(pa.compute.not_equal(table["detailed_labels"], "ttbar"))
    label = ["s" if v == "htautau" else "b" for v in kept["detailed_labels"].to_pylist()]
    names = [n.replace("PRI_had", "PRI_tau") for n in kept.column_names]
    renamed = kept.rename_columns(names).drop_columns(["detailed_labels"])
    return renamed.append_column("Label", pa.array(label))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FairUniverse:
    monkeypatch.setenv("NLBENCH_DATA", str(tmp_path / "data"))
    return FairUniverse()


def fetched(data: FairUniverse, table: pa.Table, path: Path) -> dict[str, set[tuple[float, ...]]]:
    """Writes a file, fetches it, and returns the events of each process and split."""
    if path.name.endswith(".parquet"):
        parquet.write_table(table, path, row_group_size=700)
    else:
        csv.write_csv(table, path)
    data.fetch(str(path), silent)
    return events(data)


def events(data: FairUniverse) -> dict[str, set[tuple[float, ...]]]:
    return {
        f"{process} {split}": {tuple(row) for row in data.read(process, split).tolist()}
        for process in ("signal", "background")
        for split in SPLITS
    }


def test_the_split_survives_other_orders_formats_and_further_files(
    data: FairUniverse, tmp_path: Path
) -> None:
    table = fair_universe(3000)
    first = fetched(data, table, tmp_path / "a.parquet")
    digest = data.digest
    assert sum(map(len, first.values())) == sum(v != "ttbar" for v in table[-1].to_pylist())
    for name in ("signal", "background"):
        total = sum(len(first[f"{name} {split}"]) for split in SPLITS)
        for split, share in SPLITS.items():
            assert len(first[f"{name} {split}"]) / total == pytest.approx(share, abs=0.04)
    shuffled = table.take(np.random.default_rng(1).permutation(len(table)))
    assert fetched(data, shuffled, tmp_path / "b.parquet") == first
    assert data.digest != digest  # another order gives other datasets
    assert fetched(data, table, tmp_path / "c.csv") == first
    assert data.digest == digest
    assert fetched(data, higgs_ml(table), tmp_path / "d.csv") == first
    more = tmp_path / "folder"
    more.mkdir()
    parquet.write_table(table, more / "a.parquet")
    parquet.write_table(fair_universe(500, 1), more / "b.parquet")
    data.fetch(str(more), silent)
    both = events(data)
    assert all(first[key] < both[key] for key in first)
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.parquet", "inner/a.parquet")
        archive.writestr("inner/notes.json", "{}")
        archive.writestr("__MACOSX/inner/._a.parquet", "what macOS adds")
    data.fetch(str(tmp_path / "z.zip"), silent)
    assert events(data) == first
    assert data.status()[2] == "from z.zip/a.parquet: 3,000 rows"
    assert data.digest is not None
    left = {path.name for path in data.folder.iterdir()}
    assert left == {data.digest, "events.json", ".lock"}  # and nothing of what was there before
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "c.csv").read_bytes())
    data.fetch(str(tmp_path / "bom.csv"), silent)
    assert events(data) == first


def test_what_is_kept_is_what_the_release_calls_visible_mass_and_ratio(
    data: FairUniverse,
) -> None:
    sample = SHARED / "fair_universe_sample_1000.parquet"
    if not sample.is_file():
        pytest.skip("the public sample is not here")
    data.fetch(str(sample), silent)
    table = parquet.read_table(sample)
    used = pa.compute.is_in(table["detailed_labels"], pa.array(["htautau", "ztautau"]))
    expected = table.filter(used)
    kept = np.concatenate(
        [data.read(p, split) for p in ("signal", "background") for split in SPLITS]
    ).astype(np.float64)
    mass = np.sort(np.sqrt(2 * kept[:, 0] * kept[:, 1] * kept[:, 2]))
    # The release's mass is not quite massless, and its momenta are rounded.
    assert np.abs(mass / np.sort(expected["DER_mass_vis"].to_numpy()) - 1).max() < 2e-3
    ratio = np.sort(kept[:, 0] / kept[:, 1])
    np.testing.assert_allclose(ratio, np.sort(expected["DER_pt_ratio_lep_had"]), rtol=1e-5)


def test_the_shared_events_are_all_read(data: FairUniverse) -> None:
    source = SHARED / "fair_universe_events.parquet"
    if not source.is_file():
        pytest.skip("the real events are not here")
    data.fetch(str(source), silent)
    held = {p: sum(len(data.read(p, s)) for s in SPLITS) for p in ("signal", "background")}
    assert held == {"signal": 23_791, "background": 10_018}
    # Enough background for five disjoint blocks of a thousand events: errors are defined.
    assert len(data.read("background", "test")) >= 5000
    HiggsFair().check()


def changed(column: str, row: int, value: object) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        at = table.column_names.index(column)
        return table.set_column(at, column, pa.array(values, table[column].type))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop_columns(["PRI_had_eta", "PRI_lep_pt"]),
            r"bad.parquet \(800 rows\) lacks columns PRI_lep_pt, PRI_had_eta of the FAIR Universe",
        ),
        (
            lambda t: t.rename_columns([n.replace("had", "tau") for n in t.column_names]),
            r"bad.parquet \(800 rows\) lacks columns PRI_had_pt, .* of the FAIR Universe schema",
        ),
        (
            lambda t: t.drop_columns(["PRI_had_pt", "detailed_labels"]),
            r"bad.parquet \(800 rows\) follows no known schema; it must have PRI_lep_pt",
        ),
        (
            changed("PRI_had_eta", 700, float("nan")),
            r"bad.parquet, rows 0 to 800: PRI_had_eta is not finite in 1 rows",
        ),
        (changed("PRI_lep_phi", 3, float("inf")), r"PRI_lep_phi is not finite in 1 rows"),
        (changed("PRI_lep_phi", 3, None), r"PRI_lep_phi is not finite in 1 rows"),
        (changed("PRI_lep_pt", 3, -1.0), r"PRI_lep_pt is not positive in 1 rows"),
        (
            changed("detailed_labels", 5, "wjets"),
            r"detailed_labels is 'wjets' in 1 rows; allowed are htautau, ztautau, ttbar, diboson",
        ),
        (changed("detailed_labels", 5, None), r"detailed_labels is empty in 1 rows"),
        (
            changed("PRI_had_eta", 9, -999.0),
            r"PRI_lep_eta, PRI_had_eta and the angles give no visible mass in 1 rows",
        ),
        (lambda t: t.slice(0, 0), r"bad.parquet has no rows"),
        (
            lambda t: t.filter(pa.compute.equal(t["detailed_labels"], "htautau")),
            r"bad.parquet: no background event in it",
        ),
    ],
)
def test_files_that_are_refused(
    data: FairUniverse, tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    good = fetched(data, fair_universe(500), tmp_path / "good.parquet")
    parquet.write_table(change(fair_universe(800, 2)), tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=message):
        data.fetch(str(tmp_path / "bad.parquet"), silent)
    assert events(FairUniverse()) == good  # what was there is still there


def test_what_is_no_data_is_refused_in_one_line(data: FairUniverse, tmp_path: Path) -> None:
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 but not more")
    (tmp_path / "words.csv").write_text(
        "PRI_lep_pt,PRI_lep_eta,PRI_lep_phi,PRI_had_pt,PRI_had_eta,PRI_had_phi,detailed_labels\n"
        "30,1,2,many,1,2,htautau\n"
    )
    (tmp_path / "cut.zip").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").write_text("")
    for name, message in {
        "cut.parquet": "cut.parquet cannot be read: ",
        "words.csv": "words.csv cannot be read: .*many",
        "cut.zip": "is not a sound zip archive",
        "empty": "holds no file that ends in .parquet",
        "empty.csv": "empty.csv follows no known schema",
        "nowhere": "does not exist",
    }.items():
        with pytest.raises(DataError, match=message) as error:
            data.fetch(str(tmp_path / name), silent)
        assert "\n" not in str(error.value)
    assert data.status() == []
    with pytest.raises(NotApplicable, match="bench data fetch higgs-fair"):
        HiggsFair().check()


def test_damaged_events_count_as_missing(data: FairUniverse, tmp_path: Path) -> None:
    fetched(data, fair_universe(500), tmp_path / "a.parquet")
    assert data.digest is not None
    path = data.folder / data.digest / "signal-train.f32"
    path.write_bytes(path.read_bytes()[:-12])
    assert FairUniverse().digest is None
    with pytest.raises(BenchError):
        FairUniverse().read("signal", "train")
    data.fetch(str(tmp_path / "a.parquet"), silent)  # puts them right
    assert FairUniverse().digest is not None


def test_the_same_file_twice_is_refused(data: FairUniverse, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("a.parquet", "b.parquet"):
        parquet.write_table(fair_universe(300), tmp_path / "folder" / name)
    with pytest.raises(DataError, match=r"and a\.parquet hold the same events twice"):
        data.fetch(str(tmp_path / "folder"), silent)


class _Server(BaseHTTPRequestHandler):
    """Serves `content`, in parts where asked to; breaks off after `breaks` bytes, once each."""

    content = b""
    tag = '"1"'
    breaks: ClassVar[list[int]] = []
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        asked = self.headers.get("Range") if self.headers.get("If-Range") == self.tag else None
        _Server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(self.content):
            self.send_response(416)
            self.end_headers()
            return
        body = self.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", self.tag)
        self.end_headers()
        self.wfile.write(body[: _Server.breaks.pop(0)] if _Server.breaks else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    parquet.write_table(fair_universe(5000), tmp_path / "source.parquet")
    _Server.content = (tmp_path / "source.parquet").read_bytes()
    _Server.tag, _Server.breaks, _Server.asked = '"1"', [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    Thread(target=partial(server.serve_forever, poll_interval=0.05), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/mirror/events.parquet"
    server.shutdown()
    server.server_close()


def test_downloads_resume_and_are_verified(data: FairUniverse, mirror: str) -> None:
    sha256 = hashlib.sha256(_Server.content).hexdigest()
    address = f"{mirror}#sha256={sha256}"
    _Server.breaks = [70_000]
    with pytest.raises(DataError, match="cannot be downloaded"):
        data.fetch(address, silent)
    seen: list[int] = []
    data.fetch(address, lambda **k: seen.append(k["done"]) if "download" in k["stage"] else None)
    assert _Server.asked == [None, "bytes=65536-"]
    assert seen[-1] == len(_Server.content)
    assert data.digest is not None
    data.fetch(address, silent)  # nothing is downloaded twice
    assert len(_Server.asked) == 2
    assert not list((data.folder / "downloads").glob("*.part*"))


def test_a_file_that_changed_meanwhile_is_downloaded_anew(data: FairUniverse, mirror: str) -> None:
    _Server.breaks = [70_000]
    with pytest.raises(DataError):
        data.fetch(mirror, silent)
    _Server.tag = '"2"'
    data.fetch(mirror, silent)
    assert _Server.asked == [None, None]
    assert data.digest is not None


def test_a_wrong_checksum_is_refused(data: FairUniverse, mirror: str) -> None:
    with pytest.raises(DataError, match="hash of downloaded file"):
        data.fetch(f"{mirror}#sha256={'0' * 64}", silent)
    assert data.digest is None
    with pytest.raises(DataError, match="a checksum is written"):
        data.fetch(f"{mirror}#crc=1", silent)
    with pytest.raises(DataError, match="address is https://HOST"):
        data.fetch("ftp://127.0.0.1/x.parquet", silent)


def test_the_release_is_verified_by_what_its_record_says(
    data: FairUniverse, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record's answer is played; its files come from the mirror."""
    import pooch

    def load(self: pooch.Pooch) -> None:
        assert self.base_url == "doi:10.5281/zenodo.15131565/"
        md5 = hashlib.md5(_Server.content, usedforsecurity=False).hexdigest()
        self.registry = {"events.parquet": f"md5:{md5}", "notes.json": "md5:0"}

    monkeypatch.setattr(pooch.Pooch, "load_registry_from_doi", load)
    monkeypatch.setattr(downloads, "_FILES", mirror.rpartition("/")[0])
    data.fetch(None, silent)
    assert data.status()[2] == "from events.parquet: 5,000 rows"
    assert len(_Server.asked) == 1
