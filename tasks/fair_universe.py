"""Events of the FAIR Universe HiggsML challenge: download, conversion and storage.

Three numbers of each event are stored.

Columns that are read, of the public release (Bhimji et al. 2024, arXiv:2410.02867) and of the 2014
ATLAS Higgs challenge (CERN Open Data record 328, in which the background is not Z→ττ alone):

===================  ========================================  ==============================
what                 FAIR Universe                             HiggsML 2014
===================  ========================================  ==============================
lepton               PRI_lep_pt, PRI_lep_eta, PRI_lep_phi      the same
hadronic tau         PRI_had_pt, PRI_had_eta, PRI_had_phi      PRI_tau_pt, …
process              detailed_labels: htautau is signal,       Label: s is signal,
                     ztautau background; ttbar, diboson        b is background
===================  ========================================  ==============================
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from bench.contracts import Data
from bench.contracts.data import refuse
from bench.errors import DataError, counted, printable

from .download import download, release
from .event_files import (
    FURTHER,
    MAIN,
    PARTS,
    PROCESSES,
    READABLE,
    Manifest,
    counts_of,
    files_of,
    prepare,
)

RECORD = "15131565"
_WORKING = ".reading-"


class FairUniverse(Data):
    """Events in a folder of the user's: $NLBENCH_DATA, or the system's folder for user data."""

    title = "FAIR Universe HiggsML Uncertainty Challenge, public dataset"
    citation = "Bhimji et al. (2024), arXiv:2410.02867, doi:10.5281/zenodo.15131565"
    licence = "CC BY 4.0"

    @property
    def folder(self) -> Path:
        """Folder of the events."""
        root = os.environ.get("NLBENCH_DATA") or platformdirs.user_data_path("nlbench")
        return Path(os.path.expanduser(root)) / "higgs-fair"

    @cached_property
    def _manifest(self) -> Manifest | None:
        """List of the events; None if there are none, or they are damaged."""
        try:
            found = Manifest.model_validate_json((self.folder / "events.json").read_bytes())
            for (process, split), n in zip(PARTS, found.counts, strict=True):
                path = self.folder / found.digest / f"{process}-{split}.f32"
                if n and path.stat().st_size != 12 * n:
                    return None
        except (OSError, ValueError):
            return None
        return found

    @property
    def digest(self) -> str | None:
        """Hash of the stored signal and background events, or None."""
        return None if self._manifest is None else self._manifest.digest

    @property
    def further_digest(self) -> str | None:
        """Hash of the stored events of ttbar and dibosons; empty if they were left out, or None."""
        return None if self._manifest is None else self._manifest.further

    def read(self, process: str, split: str) -> NDArray[np.float32]:
        """Return events (n, 3), float32 and memory-mapped: pT of lepton and tau, cosh Δη − cos Δφ.

        The pT are in GeV.

        Raises:
            DataError: if there are none, or they were removed.
        """
        if self._manifest is None:
            raise DataError("the events of higgs-fair are not here: `bench data fetch higgs-fair`")
        n = self._manifest.counts[PARTS.index((process, split))]
        if n == 0:
            return np.empty((0, 3), dtype=np.float32)
        path = self.folder / self._manifest.digest / f"{process}-{split}.f32"
        try:
            return np.memmap(path, dtype="<f4", mode="r", shape=(n, 3))
        except FileNotFoundError as error:
            raise DataError(
                "the events of higgs-fair were replaced meanwhile; run again"
            ) from error

    def status(self) -> list[str]:
        manifest = self._manifest
        if manifest is None:
            return []
        lines = [f"{self.title}; {self.licence}; {self.citation}", f"folder {self.folder}"]
        for number, (name, rows) in enumerate(manifest.sources):
            schema = f", {manifest.schemas[number]} schema" if manifest.schemas else ""
            lines.append(f"from {printable(name)}: {counted(rows, 'row')}{schema}")
        lines += [f"unreadable, left out: {printable(reason)}" for reason in manifest.unreadable]
        held = PROCESSES if manifest.further else MAIN
        lines += [f"{process}: {counts_of(manifest, process)}" for process in held]
        if not manifest.further:
            lines.append(f"{', '.join(FURTHER)}: left out by an earlier version; fetch again")
        if manifest.repeated:
            lines.append(f"recorded again, counted once: {manifest.repeated:,}")
        return lines

    def fetch(
        self,
        source: str | None,
        report: Callable[..., None],
        skip: Callable[[Mapping[str, str]], bool] = refuse,
    ) -> None:
        if source is not None and not source.strip():
            raise DataError("--from is empty: it takes a file, a folder or a mirror's URL")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _acquired(FileLock(self.folder / ".lock"), report):
                self._fetch(source, report, skip)
        except OSError as error:
            raise DataError(
                f"{error.filename or self.folder}: {error.strerror or error}"
            ) from error
        self.__dict__.pop("_manifest", None)

    def _fetch(
        self,
        source: str | None,
        report: Callable[..., None],
        skip: Callable[[Mapping[str, str]], bool],
    ) -> None:
        for left in self.folder.glob(f"{_WORKING}*"):  # left by a killed process
            shutil.rmtree(left, ignore_errors=True)
        downloads = self.folder / "downloads"
        if source is None:
            files = release(RECORD, downloads, READABLE, report)
        elif "://" in source:
            files = [download(source, downloads, READABLE, report)]
        else:
            files = files_of(Path(os.path.expanduser(source)))
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=_WORKING) as working:
            self._publish(Path(working), prepare(files, Path(working), report, skip))

    def _publish(self, working: Path, manifest: Manifest) -> None:
        """Replace the stored events by the new ones."""
        new = self.folder / manifest.digest
        if new.exists():  # it may be damaged
            new.rename(working / "before")
        (working / "events").rename(new)
        temporary = working / "events.json"
        temporary.write_text(manifest.model_dump_json(indent=1) + "\n")
        temporary.replace(self.folder / "events.json")
        for number, old in enumerate(self.folder.iterdir()):
            if old.is_dir() and len(old.name) == 64 and old != new:
                old.rename(working / f"old-{number}")


def _acquired(lock: FileLock, report: Callable[..., None]) -> AbstractContextManager[object]:
    """Acquire a lock; report every second while another process holds it."""
    while True:
        try:
            return lock.acquire(timeout=1)
        except Timeout:
            report(stage="wait for another `bench data fetch`", done=0, total=None)
