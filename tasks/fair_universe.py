"""Events of the FAIR Universe HiggsML challenge: fetched, checked, split, and kept ready to use.

What is kept of an event are three numbers. The split (train, validation, test) is decided by a hash
of the event's own kinematics, so that it survives another download, another order, further files.

Columns that are read, of the public release (Bhimji et al. 2024, arXiv:2410.02867) and of the 2014
ATLAS Higgs challenge (CERN Open Data record 328, in which the background is not Z→ττ alone):

===================  ========================================  ==============================
what                 FAIR Universe                             HiggsML 2014
===================  ========================================  ==============================
lepton               PRI_lep_pt, PRI_lep_eta, PRI_lep_phi      the same
hadronic tau         PRI_had_pt, PRI_had_eta, PRI_had_phi      PRI_tau_pt, …
process              detailed_labels: htautau is signal,       Label: s is signal,
                     ztautau background; ttbar and diboson     b is background
                     are left out
===================  ========================================  ==============================

Weights are not read: every event counts once.
"""

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import NDArray

from bench.contracts import Data
from bench.errors import DataError

from .columns import Batch, batches
from .download import download, release

RECORD = "15131565"
SPLITS = {"train": 0.35, "validation": 0.10, "test": 0.55}
"""Shares of the events; half and more for tests, because their disjoint blocks are what errors
count, and real files are small."""
PROCESSES = ("signal", "background")
_READABLE = (".parquet", ".csv", ".csv.gz", ".zip")
_WORKING = ".reading-"
_ORDER = tuple((process, split) for process in PROCESSES for split in SPLITS)


class FairUniverse(Data):
    """The events, in a folder of the user's: $NLBENCH_DATA, or where such data belong."""

    title = "FAIR Universe HiggsML Uncertainty Challenge, public dataset"
    citation = "Bhimji et al. (2024), arXiv:2410.02867, doi:10.5281/zenodo.15131565"
    licence = "CC BY 4.0"

    @property
    def folder(self) -> Path:
        """Where the events are kept."""
        root = os.environ.get("NLBENCH_DATA") or platformdirs.user_data_path("nlbench")
        return Path(root) / "higgs-fair"

    @cached_property
    def _manifest(self) -> Mapping[str, Any] | None:
        """What is there; None if nothing is, or it is damaged."""
        try:
            found = json.loads((self.folder / "events.json").read_bytes())
            for (process, split), n in zip(_ORDER, found["counts"], strict=True):
                path = self.folder / found["digest"] / f"{process}-{split}.f32"
                if path.stat().st_size != 12 * n:
                    return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        manifest: Mapping[str, Any] = found
        return manifest

    @property
    def digest(self) -> str | None:
        """Hash of the events that are there, or None."""
        return None if self._manifest is None else str(self._manifest["digest"])

    def read(self, process: str, split: str) -> NDArray[np.float32]:
        """Events, (n, 3) float32 memory-mapped: pT of lepton and tau in GeV, cosh Δη − cos Δφ.

        Raises:
            DataError: if there are none.
        """
        if self._manifest is None:
            raise DataError("the events of higgs-fair are not here: `bench data fetch higgs-fair`")
        n = self._manifest["counts"][_ORDER.index((process, split))]
        if n == 0:
            return np.empty((0, 3), dtype=np.float32)
        path = self.folder / str(self.digest) / f"{process}-{split}.f32"
        return np.memmap(path, dtype="<f4", mode="r", shape=(n, 3))

    def status(self) -> list[str]:
        manifest = self._manifest
        if manifest is None:
            return []
        lines = [f"{self.title}; {self.licence}; {self.citation}", f"folder {self.folder}"]
        lines += [f"from {name}: {rows:,} rows" for name, rows in manifest["sources"]]
        for process in PROCESSES:
            counts = [
                f"{split} {n:,}"
                for (p, split), n in zip(_ORDER, manifest["counts"], strict=True)
                if p == process
            ]
            lines.append(f"{process}: {', '.join(counts)}")
        if manifest["left_out"]:
            lines.append(f"other processes, left out: {manifest['left_out']:,}")
        return lines

    def fetch(self, source: str | None, report: Callable[..., None]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):  # a second fetch waits for the first
            for left in self.folder.glob(f"{_WORKING}*"):  # by one that was killed
                shutil.rmtree(left, ignore_errors=True)
            if source is None:
                files = release(RECORD, self.folder / "downloads", report)
            elif "://" in source:
                files = [download(source, self.folder / "downloads", report)]
            else:
                files = _files(Path(source))
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=_WORKING) as working:
                self._publish(Path(working), _prepare(files, Path(working), report))
        self.__dict__.pop("_manifest", None)

    def _publish(self, working: Path, manifest: Mapping[str, Any]) -> None:
        """Puts what was read in the place of what was there."""
        new = self.folder / manifest["digest"]
        if new.exists():  # and perhaps damaged
            new.rename(working / "before")
        (working / "events").rename(new)
        temporary = working / "events.json"
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")
        temporary.replace(self.folder / "events.json")
        for number, old in enumerate(self.folder.iterdir()):
            if old.is_dir() and len(old.name) == 64 and old != new:
                old.rename(working / f"old-{number}")


def _files(path: Path) -> list[Path]:
    """A file, or the readable files of a folder in order of their names."""
    if path.is_file():
        if not path.name.endswith(_READABLE):
            raise DataError(f"{path} is not readable: allowed are {', '.join(_READABLE)}")
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist")
    found = sorted(p for p in path.iterdir() if p.is_file() and _is_data(p.name, _READABLE))
    if not found:
        raise DataError(f"{path} holds no file that ends in {', '.join(_READABLE)}")
    return found


def _is_data(name: str, readable: tuple[str, ...]) -> bool:
    """Whether a file's name says that it holds events; "._" begins what macOS adds."""
    return name.endswith(readable) and not Path(name).name.startswith("._")


def _prepare(files: list[Path], working: Path, report: Callable[..., None]) -> dict[str, Any]:
    """Reads files batch by batch into one file per process and split; returns the manifest."""
    folder = working / "events"
    folder.mkdir()
    counts = dict.fromkeys(_ORDER, 0)
    hashes = {key: hashlib.sha256() for key in _ORDER}
    sources, left_out = [], 0
    handles = {key: (folder / f"{key[0]}-{key[1]}.f32").open("wb") for key in _ORDER}
    try:
        seen: dict[str, str] = {}
        for path, name in _unpacked(files, working):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            if content in seen:
                raise DataError(f"{name} and {seen[content]} hold the same events twice")
            seen[content] = name
            rows = 0
            for batch, total in batches(path, name):
                rows += len(batch.signal)
                left_out += int(np.sum(~(batch.signal | batch.background)))
                split = np.digitize(_uniform(batch), np.cumsum(list(SPLITS.values()))[:-1])
                events = np.stack([batch.lepton[:, 0], batch.hadron[:, 0], batch.opening], -1)
                for i, key in enumerate(_ORDER):
                    of_process = batch.signal if key[0] == "signal" else batch.background
                    kept = of_process & (split == i % len(SPLITS))
                    chosen = events[kept].astype("<f4").tobytes()
                    handles[key].write(chosen)
                    hashes[key].update(chosen)
                    counts[key] += len(chosen) // 12
                report(stage=f"read {name}", done=rows, total=total)
            sources.append([name, rows])
    finally:
        for handle in handles.values():
            handle.close()
    for process in PROCESSES:
        if not sum(n for key, n in counts.items() if key[0] == process):
            raise DataError(f"{', '.join(str(s[0]) for s in sources)}: no {process} event in it")
    digest = hashlib.sha256(b"".join(h.digest() for h in hashes.values())).hexdigest()
    return {
        "digest": digest,
        "counts": [counts[key] for key in _ORDER],
        "left_out": left_out,
        "sources": sources,
    }


def _unpacked(files: list[Path], working: Path) -> Iterator[tuple[Path, str]]:
    """Files and how to call them; members of archives are unpacked one at a time."""
    for path in files:
        if path.suffix != ".zip":
            yield path, path.name
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                members = [m for m in archive.namelist() if _is_data(m, _READABLE[:-1])]
                if not members:
                    raise DataError(f"{path} holds no parquet or csv file")
                for member in members:
                    own = working / f"member{''.join(Path(member).suffixes[-2:])}"
                    with archive.open(member) as packed, own.open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked, 1 << 20)
                    yield own, f"{path.name}/{Path(member).name}"
                    with suppress(OSError):
                        own.unlink()
        except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
            raise DataError(f"{path} is not a sound zip archive: {error}") from error


def _uniform(batch: Batch) -> NDArray[np.float64]:
    """A number in [0, 1) for each event, by a hash of its six momenta as they are recorded.

    The finaliser of SplitMix64 (Steele, Lea & Flood 2014), chained over the columns.
    """
    state = np.zeros(len(batch.lepton), dtype=np.uint64)
    for column in (*batch.lepton.T, *batch.hadron.T):
        bits = np.ascontiguousarray(column + np.float32(0), dtype="<f4")  # −0 is 0
        state = (state ^ bits.view("<u4").astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
