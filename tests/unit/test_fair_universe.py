"""Generated events of the challenge: reading, checks and splits."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from bench.tasks.event_files import SPLITS
from bench.tasks.fair_universe import FairUniverse
from bench.tasks.higgs import BACKGROUND, SIGNAL
from bench.tasks.higgs_fair import HiggsFair
from planted_events import SHARED, fair_universe, higgs_ml, silent
from pyarrow import csv, parquet
from scipy import stats

from bench.errors import BenchError, DataError, NotApplicable


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FairUniverse:
    monkeypatch.setenv("NLBENCH_DATA", str(tmp_path / "data"))
    return FairUniverse()


def fetched(data: FairUniverse, table: pa.Table, path: Path) -> dict[str, set[tuple[float, ...]]]:
    """Write a file, fetch it, and return the events of each process and split."""
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
    assert data.status()[2] == "from z.zip/a.parquet: 3,000 rows, FAIR Universe schema"
    assert data.digest is not None
    left = {path.name for path in data.folder.iterdir()}
    assert left == {data.digest, "events.json", ".lock"}  # earlier data are removed
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
    # The release's mass includes small particle masses, and its momenta are rounded.
    assert np.abs(mass / np.sort(expected["DER_mass_vis"].to_numpy()) - 1).max() < 2e-3
    ratio = np.sort(kept[:, 0] / kept[:, 1])
    np.testing.assert_allclose(ratio, np.sort(expected["DER_pt_ratio_lep_had"]), rtol=1e-5)


def test_the_shared_events_are_all_read(data: FairUniverse) -> None:
    source = SHARED / "fair_universe_events.parquet"
    if not source.is_file():
        pytest.skip("the shared events are not here")
    data.fetch(str(source), silent)
    held = {p: sum(len(data.read(p, s)) for s in SPLITS) for p in ("signal", "background")}
    assert held == {"signal": 23_791, "background": 10_018}
    # Enough background for five disjoint blocks of a thousand events, so errors are defined.
    assert len(data.read("background", "test")) >= 5000
    HiggsFair().check()


def test_a_selection_at_26_gev_works_in_both_directions(data: FairUniverse) -> None:
    """At a larger energy scale events pass the selection, at a smaller one they fail it."""
    source = SHARED / "fair_universe_events.parquet"
    if not source.is_file():
        pytest.skip("the shared events are not here")
    data.fetch(str(source), silent)
    for process, shares in (
        ("signal", {0.93: 0.876, 1.0: 0.933, 1.07: 0.980}),
        ("background", {0.93: 0.799, 1.0: 0.894, 1.07: 0.970}),
    ):
        pt_had = np.concatenate([data.read(process, split)[:, 1] for split in SPLITS])
        assert pt_had.min() == pytest.approx(23.0, abs=0.06)
        for scale, share in shares.items():
            assert np.mean(pt_had * scale >= 26) == pytest.approx(share, abs=5e-4)


def test_the_mixtures_of_higgs_approximate_the_shared_events(data: FairUniverse) -> None:
    """Kolmogorov-Smirnov distances are 0.014 at most, with p-values from 2·10⁻⁴ to 0.46."""
    source = SHARED / "fair_universe_events.parquet"
    if not source.is_file():
        pytest.skip("the shared events are not here")
    data.fetch(str(source), silent)
    for process, mixture, expected in (
        ("signal", SIGNAL, ((0.0138, 2e-4), (0.0064, 0.28))),
        ("background", BACKGROUND, ((0.0085, 0.46), (0.0101, 0.25))),
    ):
        held = np.concatenate([data.read(process, split) for split in SPLITS]).astype(np.float64)
        lepton, hadron, opening = held.T
        features = (0.5 * np.log(2 * lepton * hadron * opening), np.log(lepton / hadron))
        weights = np.array([weight for weight, _, _ in mixture])
        for i, (feature, (distance, p_value)) in enumerate(zip(features, expected, strict=True)):
            mean = np.array([means[i] for _, means, _ in mixture])
            width = np.sqrt([spreads[i] for _, _, spreads in mixture])
            below = stats.norm.cdf((np.sort(feature)[:, None] - mean) / width) @ weights
            found = stats.kstest(below / weights.sum(), "uniform")
            assert found.statistic == pytest.approx(distance, abs=1e-4)
            assert found.pvalue == pytest.approx(p_value, rel=0.2)


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
            r"bad.parquet \(800 rows\) follows no known schema; it must have PRI_lep_pt, .*"
            r"detailed_labels \(FAIR Universe\) or PRI_lep_pt, .*PRI_tau_phi, Label "
            r"\(HiggsML 2014\); it has PRI_lep_pt, .*, PRI_had_phi, PRI_met, weights$",
        ),
        (  # format of another release of the events of 2014
            lambda t: t.rename_columns([*t.column_names[:-1], "label_sb"]),
            r"bad.parquet \(800 rows\) lacks column detailed_labels of the FAIR Universe schema "
            r"\(PRI_lep_pt, .*, detailed_labels\); it has PRI_lep_pt, .*PRI_had_pt, .*label_sb$",
        ),
        (
            lambda t: pa.table({f"\x1b[31m{i:>99}": [1.0] for i in range(99)}),
            r"follows no known schema; .*; it has \\x1b.*, .* and 59 more$",
        ),
        (
            changed("PRI_had_eta", 700, float("nan")),
            r"bad.parquet, rows 0 to 800: PRI_had_eta is not finite in 1 row",
        ),
        (changed("PRI_lep_phi", 3, float("inf")), r"PRI_lep_phi is not finite in 1 row"),
        (changed("PRI_lep_phi", 3, None), r"PRI_lep_phi is not finite in 1 row"),
        (changed("PRI_lep_pt", 3, -1.0), r"PRI_lep_pt is not positive in 1 row"),
        (
            changed("detailed_labels", 5, "wjets"),
            r"detailed_labels is 'wjets' in 1 row; allowed are htautau, ztautau, ttbar, diboson",
        ),
        (changed("detailed_labels", 5, None), r"detailed_labels is empty in 1 row"),
        (
            changed("PRI_had_eta", 9, -999.0),
            r"bad.parquet, rows 0 to 800: PRI_had_eta is not within ±10 in 1 row",
        ),
        (changed("PRI_lep_phi", 9, 180.0), r"PRI_lep_phi is not within ±3.2 in 1 row"),
        (
            lambda t: t.set_column(1, "PRI_lep_eta", t["PRI_had_eta"]).set_column(
                2, "PRI_lep_phi", t["PRI_had_phi"]
            ),
            r"PRI_lep_eta, PRI_had_eta and the angles give no visible mass in 800 rows",
        ),
        (
            lambda t: t.append_column("PRI_had_pt", t["PRI_lep_pt"]),
            r"bad.parquet \(800 rows\) has column PRI_had_pt twice",
        ),
        (
            lambda t: t.set_column(0, "PRI_lep_pt", t["PRI_lep_pt"].cast(pa.string())),
            r"bad.parquet \(800 rows\): PRI_lep_pt is of type string, and must be numbers",
        ),
        (
            lambda t: t.set_column(8, "detailed_labels", t["PRI_lep_pt"]),
            r"detailed_labels is of type float, and must be text",
        ),
        (lambda t: t.slice(0, 0), r"bad.parquet has no rows"),
        (
            lambda t: t.filter(pa.compute.equal(t["detailed_labels"], "htautau")),
            r"bad.parquet: too few background events, train 0, validation 0, test 0; every part",
        ),
        (lambda t: t.slice(0, 9), r"bad.parquet: too few \w+ events, train "),
    ],
)
def test_files_that_are_refused(
    data: FairUniverse, tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    good = fetched(data, fair_universe(500), tmp_path / "good.parquet")
    parquet.write_table(change(fair_universe(800, 2)), tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=message):
        data.fetch(str(tmp_path / "bad.parquet"), silent)
    assert events(FairUniverse()) == good  # earlier data are kept


def test_what_is_no_data_is_refused_in_one_line(data: FairUniverse, tmp_path: Path) -> None:
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 but not more")
    (tmp_path / "words.csv").write_text(
        "PRI_lep_pt,PRI_lep_eta,PRI_lep_phi,PRI_had_pt,PRI_had_eta,PRI_had_phi,detailed_labels\n"
        "30,1,2,many,1,2,htautau\n"
    )
    (tmp_path / "apart.csv").write_text((tmp_path / "words.csv").read_text().replace(",", ";"))
    (tmp_path / "large.csv").write_text(
        (tmp_path / "words.csv").read_text().replace("many", "1e39")
    )
    (tmp_path / "cut.zip").write_bytes(b"PK")
    with zipfile.ZipFile(tmp_path / "bent.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.csv", "PRI_lep_pt" * 1000)
    bent = bytearray((tmp_path / "bent.zip").read_bytes())
    bent[50:80] = bytes(30)
    (tmp_path / "bent.zip").write_bytes(bent)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").write_text("")
    for name, message in {
        "cut.parquet": "cut.parquet cannot be read: ",
        "words.csv": "words.csv cannot be read: PRI_had_pt: .*many",
        "apart.csv": "apart.csv: names of columns must be separated by commas",
        "large.csv": "large.csv, rows 0 to 1: PRI_had_pt is not finite in 1 row",
        "bent.zip": "bent.zip is not a sound zip archive",
        "notes.txt": "is not readable: allowed are .parquet, .csv, .csv.gz, .zip",
        "cut.zip": "is not a sound zip archive",
        "empty": "holds no file that ends in .parquet",
        "empty.csv": "empty.csv follows no known schema",
        "nowhere": "does not exist",
    }.items():
        with pytest.raises(DataError, match=message) as error:
            data.fetch(str(tmp_path / name), silent)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="--from is empty"):
        data.fetch(" ", silent)
    with pytest.raises(DataError, match="does not exist"):
        data.fetch("~no-such-user/x.csv", silent)
    with pytest.raises(DataError, match="/dev/null is neither a file nor a folder"):
        data.fetch("/dev/null", silent)
    assert data.status() == []
    with pytest.raises(NotApplicable, match="bench data fetch higgs-fair"):
        HiggsFair().check()


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Make a folder of two readable files and three unreadable ones, one of them an archive."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    csv.write_csv(fair_universe(900), folder / "a.csv")
    parquet.write_table(higgs_ml(fair_universe(600, 1)), folder / "d.parquet")
    parquet.write_table(fair_universe(50, 2).drop_columns(["PRI_had_pt"]), folder / "b.parquet")
    (folder / "e.csv").write_text("x,y\n1,2\n")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:  # the archive's first file is readable
        parquet.write_table(fair_universe(70, 3), tmp_path / "good.parquet")
        archive.write(tmp_path / "good.parquet", "good.parquet")
        archive.write(folder / "e.csv", "words.csv")
    return folder


BAD = {
    "b.parquet": "b.parquet (50 rows) lacks column PRI_had_pt",
    "c.zip": "c.zip/words.csv follows no known schema",
    "e.csv": "e.csv follows no known schema",
}


def test_files_that_cannot_be_read_are_all_named(data: FairUniverse, mixed: Path) -> None:
    with pytest.raises(DataError, match=r"^3 of 5 files cannot be read: ") as refused:
        data.fetch(str(mixed), silent)
    assert all(reason in str(refused.value) for reason in BAD.values())
    assert str(refused.value).endswith("; --skip-unreadable goes on without them")
    assert "\n" not in str(refused.value)
    assert data.status() == []
    for name in ("a.csv", "d.parquet"):
        (mixed / name).unlink()
    with pytest.raises(DataError, match=r"b.parquet .*; c.zip/words.csv .*; e.csv "):
        data.fetch(str(mixed), silent, lambda unreadable: pytest.fail("there is no other file"))


def test_files_that_cannot_be_read_are_left_out(data: FairUniverse, mixed: Path) -> None:
    asked = []

    def skip(unreadable: Mapping[str, str]) -> bool:
        asked.append(unreadable)
        return True

    data.fetch(str(mixed), silent, skip)
    found, digest = events(data), data.digest
    (named,) = asked
    assert list(named) == list(BAD)
    assert all(named[name].startswith(reason) for name, reason in BAD.items())
    assert data.status()[2:7] == [
        "from a.csv: 900 rows, FAIR Universe schema",
        f"from d.parquet: {len(higgs_ml(fair_universe(600, 1)))} rows, HiggsML 2014 schema",
        *(f"unreadable, left out: {reason}" for reason in named.values()),
    ]
    for name in BAD:
        (mixed / name).unlink()
    data.fetch(str(mixed), silent, lambda unreadable: pytest.fail("all can be read"))
    assert events(data) == found
    assert data.digest == digest


def test_a_refusal_names_the_columns(data: FairUniverse, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("x\n1\n")
    with pytest.raises(DataError, match="follows no known schema") as refused:
        data.fetch(str(tmp_path / "other.csv"), silent)
    momenta = {f"PRI_{p}_{q}" for p in ("lep", "had", "tau") for q in ("pt", "eta", "phi")}
    named = re.findall(r"PRI_\w+|detailed_labels|Label", str(refused.value))
    assert set(named) == momenta | {"detailed_labels", "Label"}


def test_damaged_events_count_as_missing(data: FairUniverse, tmp_path: Path) -> None:
    fetched(data, fair_universe(500), tmp_path / "a.parquet")
    assert data.digest is not None
    path = data.folder / data.digest / "signal-train.f32"
    path.write_bytes(path.read_bytes()[:-12])
    assert FairUniverse().digest is None
    with pytest.raises(BenchError):
        FairUniverse().read("signal", "train")
    data.fetch(str(tmp_path / "a.parquet"), silent)  # repairs the data
    assert FairUniverse().digest is not None


@pytest.mark.parametrize("also", ["a.csv", "a.csv.gz", "b.parquet", "z.zip"])
def test_an_event_that_is_recorded_again_counts_once(
    data: FairUniverse, tmp_path: Path, also: str
) -> None:
    table = fair_universe(900)
    once = fetched(data, table, tmp_path / "once.parquet")
    (tmp_path / "folder").mkdir()
    parquet.write_table(table, tmp_path / "folder" / "a.parquet")
    again = tmp_path / "folder" / also
    if also == "z.zip":
        with zipfile.ZipFile(again, "w") as archive:
            archive.write(tmp_path / "once.parquet", "a.parquet")
    elif also == "b.parquet":  # has duplicates of its own, and other events
        parquet.write_table(pa.concat_tables([table, table, fair_universe(50, 1)]), again)
    elif also == "a.csv":
        csv.write_csv(table, again)
    else:
        with pa.CompressedOutputStream(str(again), "gzip") as stream:
            csv.write_csv(table, stream)
    data.fetch(str(tmp_path / "folder"), silent)
    both = events(data)
    lost = {key: once[key] - both[key] for key in once}
    assert not any(lost.values())
    used = sum(len(data.read(p, s)) for p in ("signal", "background") for s in SPLITS)
    assert used == sum(map(len, both.values()))
    if also == "b.parquet":
        assert used > sum(map(len, once.values()))
    else:
        assert both == once
    copies = (2 if also == "b.parquet" else 1) * len(table)
    assert data.status()[-1] == f"recorded again, counted once: {copies:,}"


@pytest.mark.parametrize(
    "change",
    [
        {"counts": [1, 2]},
        {"counts": [-1] * 6},
        {"digest": "../elsewhere"},
        {"sources": None},
        {"further": "many"},
        {"schemas": ["one", "another"]},
    ],
)
def test_a_damaged_manifest_counts_as_missing_and_is_put_right(
    data: FairUniverse, tmp_path: Path, change: dict[str, object]
) -> None:
    good = fetched(data, fair_universe(500), tmp_path / "a.parquet")
    path = data.folder / "events.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert FairUniverse().status() == []
    path.write_text("[" * 100_000)
    assert FairUniverse().status() == []
    data.fetch(str(tmp_path / "a.parquet"), silent)
    assert events(FairUniverse()) == good


def test_events_that_were_replaced_meanwhile(data: FairUniverse, tmp_path: Path) -> None:
    fetched(data, fair_universe(500), tmp_path / "a.parquet")
    of_a_run = FairUniverse()
    assert of_a_run.digest is not None
    fetched(data, fair_universe(500, 1), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="replaced meanwhile; run again"):
        of_a_run.read("signal", "test")
