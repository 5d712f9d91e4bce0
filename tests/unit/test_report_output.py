"""Output folder of a report: replaced, kept and refused files."""

import errno
import hashlib
import os
import resource
import signal
import subprocess
from itertools import count

import pytest

import bench
from bench.errors import StoreError, UsageError
from bench.report.write import write

PAGE = '<!DOCTYPE html>\n<meta name="generator" content="nlbench 0">\n<p>{}</p>\n'


def name_of(name):
    """Return where a report has a page, a figure, or a table without its extension."""
    if name.endswith(".html"):
        return name
    return f"figures/{name}" if "." in name else f"tables/{name}.csv"


@pytest.fixture
def report(monkeypatch):
    """Return a function that writes a report of named files: `report(out, "a.svg", …)`."""
    nothing = bench.load()

    def run(out, *names, text="first", size=0):
        files = {"index.html": PAGE.format(text) + "x" * size, "references.bib": "%"}
        files |= {name_of(name): text for name in names}
        encoded = {name: content.encode() for name, content in files.items()}
        monkeypatch.setattr("bench.report.write.contents", lambda *given, **others: encoded)
        return write(nothing, out)

    return run


def everything(folder):
    """Return every file and folder below a folder; files and links with their content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "Pictures"
    folder.mkdir()
    for name in ("holiday.png", "map.svg", "thesis.pdf", "a.svg"):
        (folder / name).write_text("mine")
    return folder


def test_a_report_without_figures_leaves_what_a_link_leads_to(
    made, tmp_path, pictures, monkeypatch
):
    """A report without figures must not remove the target of a link."""
    monkeypatch.setattr("bench.report.write.figures", lambda loaded: iter(()))
    results = made(uniform=5, per_point=0)
    results.fit("gaussians-far", "exact", predictions=False)
    out = tmp_path / "reports" / "x"
    assert not [name for name in write(bench.load(results.root), out) if "figures/" in name]
    before = everything(out)
    (out / "figures").symlink_to("../../Pictures")
    with pytest.raises(UsageError, match="figures is a link, and reports follow none"):
        write(bench.load(results.root), out)
    assert everything(out) == before | {"figures": "../../Pictures"}
    assert {path.read_text() for path in pictures.iterdir()} == {"mine"}
    assert len(list(pictures.iterdir())) == 4


@pytest.mark.parametrize("place", ["figures", "tables", "figures/a.svg", "index.html", "sis.html"])
@pytest.mark.parametrize("target", ["folder", "file", "nothing"])
def test_links_in_the_folder_are_refused(report, tmp_path, pictures, place, target):
    out = tmp_path / "x"
    report(out, "b.svg", "t")
    path = out / place
    if path.is_dir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    leads = {"folder": pictures, "file": pictures / "a.svg", "nothing": tmp_path / "nothing"}
    path.symlink_to(leads[target])
    before, outside = everything(out), everything(pictures)
    with pytest.raises(UsageError) as refused:
        report(out, "a.svg", "t", "sis.html", text="second")
    assert str(refused.value) == (
        f"{path} is a link, and reports follow none: remove it, or choose another folder with --out"
    )
    assert everything(out) == before
    assert everything(pictures) == outside
    assert not (tmp_path / "nothing").exists()


def test_a_link_in_the_place_of_an_old_figure_stays(report, tmp_path, pictures):
    out = tmp_path / "x"
    report(out, "map.svg", "b.svg")
    (out / "figures" / "map.svg").unlink()
    (out / "figures" / "map.svg").symlink_to(pictures / "map.svg")
    report(out, "b.svg", text="second")
    assert (out / "figures" / "map.svg").read_text() == "mine"
    assert (out / "figures" / "b.svg").read_text() == "second"


def test_files_of_the_user_stay(report, tmp_path):
    out = tmp_path / "x"
    report(out, "old.svg", "edited.svg", "same.svg", "t", "old.html", "edited.html", "same.html")
    mine = {"notes.txt": "n", "figures/my-sketch.png": "m", "tables/mine.csv": "t", "data/a": "d"}
    mine |= {"mine.html": "h"}
    for name, text in mine.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(text)
    for name in ("figures/edited.svg", "edited.html"):
        (out / name).write_text("by hand")
    written = report(out, "same.svg", "same.html", text="second")
    assert {n: c.decode() for n, c in everything(out).items() if c is not None} == {
        "index.html": PAGE.format("second"),
        "references.bib": "%",
        "figures/same.svg": "second",
        "figures/edited.svg": "by hand",
        "same.html": "second",
        "edited.html": "by hand",
        "report.sha256": (out / "report.sha256").read_text(),
    } | mine
    assert sorted(written) == sorted(
        ["index.html", "references.bib", "figures/same.svg", "same.html", "report.sha256"]
    )


@pytest.mark.parametrize(
    "name", ["index.html", "sis.html", "figures/a.svg", "report.sha256", "tables"]
)
def test_a_file_that_no_report_wrote_is_not_replaced(report, tmp_path, name):
    out = tmp_path / "site"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("<h1>My site</h1>")
    before = everything(out)
    with pytest.raises(UsageError, match=f"{out / name} is .*: move it away, or choose another"):
        report(out, "a.svg", "t", "sis.html")
    assert everything(out) == before


def test_a_page_edited_by_hand_is_not_replaced(report, tmp_path):
    out = tmp_path / "x"
    report(out)
    (out / "index.html").write_text(PAGE.format("with my comments"))
    before = everything(out)
    with pytest.raises(UsageError, match="no longer, as a report wrote it"):
        report(out, text="second")
    assert everything(out) == before


def test_folders_that_are_empty_go_with_their_figures(report, tmp_path):
    out = tmp_path / "x"
    report(out, "a.svg", "t")
    report(out, text="second")
    assert set(everything(out)) == {"index.html", "references.bib", "report.sha256"}


def test_the_folder_itself_may_be_a_link(report, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "x").symlink_to("disk")
    report(tmp_path / "x", "a.svg", "b.svg")
    report(tmp_path / "x", "b.svg", text="second")
    assert os.readlink(tmp_path / "x") == "disk"
    assert (tmp_path / "disk" / "figures" / "b.svg").read_text() == "second"
    assert not (tmp_path / "disk" / "figures" / "a.svg").exists()


def test_a_link_to_nothing_is_no_folder(report, tmp_path):
    (tmp_path / "x").symlink_to("nowhere")
    with pytest.raises(StoreError, match=r"cannot write to .*x: File exists; choose another"):
        report(tmp_path / "x")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("where", ["", ".."])
def test_results_stay_what_they_are_beside_a_report(made, report, where):
    results = made("all/mine", uniform=5, per_point=0)
    results.fit("gaussians-far", "exact", predictions=False)
    results.store.write_bytes("leaderboard.md", b"numbers")
    out = results.root / where
    before = everything(results.root)
    for text in ("first", "second"):
        report(out, "a.svg", "t", text=text)
        assert before.items() <= everything(results.root).items()
        assert len(bench.load(results.root).boards) == 1


def test_hard_links_lose_nothing(report, tmp_path):
    out = tmp_path / "x"
    report(out, "a.svg", "b.svg")
    for name in ("a.svg", "b.svg"):
        os.link(out / "figures" / name, tmp_path / name)
    report(out, "b.svg", text="second")
    assert {(tmp_path / name).read_text() for name in ("a.svg", "b.svg")} == {"first"}
    assert (out / "figures" / "b.svg").read_text() == "second"


@pytest.mark.parametrize("earlier", [True, False])
def test_a_full_disk_leaves_the_earlier_report(report, tmp_path, earlier):
    """A limit on file sizes simulates a full disk: the page is larger than the tables."""
    out = tmp_path / "reports" / "x"
    if earlier:
        report(out, "a.svg", "b.svg", "t")
    before = everything(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot write .*: File too large"):
            report(out, "b.svg", "c.svg", "t", text="second", size=20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("call", ["fsync", "rename", "replace"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("stop", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StoreError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["full", "interrupted"],
)
def test_a_report_that_is_stopped_leaves_the_earlier_one(
    report, tmp_path, monkeypatch, stop, told, call, after
):
    out = tmp_path / "reports" / "x"
    report(out, "a.svg", "b.svg", "t", "sis.html")
    (out / "figures" / "mine.svg").write_text("mine")
    before, own = everything(tmp_path), getattr(os, call)
    calls = count()

    def counted(*given, **others):
        next(calls)
        return own(*given, **others)

    def stopping(place):
        calls = count()

        def stopped(*given, **others):
            stops = next(calls) == place
            if after or not stops:
                own(*given, **others)
            if stops:
                raise stop

        return stopped

    whole = tmp_path.with_name(f"{tmp_path.name}-whole")
    report(whole, "a.svg", "b.svg", "t", "sis.html")
    monkeypatch.setattr(os, call, counted)
    report(whole, "b.svg", "c.svg", "t", "u", text="second")
    for place in range(next(calls)):
        monkeypatch.setattr(os, call, stopping(place))
        with pytest.raises(told):
            report(out, "b.svg", "c.svg", "t", "u", text="second")
        assert everything(tmp_path) == before, place


def test_the_report_after_one_that_was_killed_is_whole(report, tmp_path, monkeypatch):
    out = tmp_path / "x"
    for place in range(1, 9):
        report(out, "a.svg", "b.svg", "t")
        calls, own = iter(range(100)), os.rename

        def dying(*given, calls=calls, place=place, own=own):
            if next(calls) == place:
                os.kill(os.getpid(), signal.SIGKILL)
            own(*given)

        if (child := os.fork()) == 0:
            monkeypatch.setattr(os, "rename", dying)
            report(out, "b.svg", "c.svg", "t", text="second")
            os._exit(0)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        report(out, "c.svg", text="third")
        left = {name: text for name, text in everything(out).items() if not name.startswith(".")}
        assert set(left) == {
            "index.html", "references.bib", "figures", "figures/c.svg", "report.sha256"
        }  # fmt: skip
        assert left["figures/c.svg"] == b"third"


def test_the_list_checks_the_files(report, tmp_path):
    out = tmp_path / "x"
    written = report(out, "a.svg", "t")
    text = (out / "report.sha256").read_text()
    listed = dict(reversed(line.split("  ")) for line in text.splitlines()[1:])
    assert listed == {
        name: hashlib.sha256((out / name).read_bytes()).hexdigest()
        for name in written
        if name != "report.sha256"
    }
    check = ["sha256sum", "--check", "--strict", "report.sha256"]
    assert subprocess.run(check, cwd=out, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "../notes.txt",
        "figures/../notes.txt",
        "/tmp/x",
        ".html",
        "../x.html",
        "d/x.html",
    ],
)
def test_lists_from_others_name_what_a_report_can_have_written(report, tmp_path, name):
    out = tmp_path / "x"
    report(out)
    (out / "d").mkdir()
    notes = [out / "notes.txt", tmp_path / "notes.txt"]
    notes += [out / ".html", tmp_path / "x.html", out / "d" / "x.html"]
    for path in notes:
        path.write_text("mine")
    digest = hashlib.sha256(b"mine").hexdigest()
    with (out / "report.sha256").open("a") as file:
        file.write(f"{digest}  {name}\n")
    report(out, text="second")
    assert {path.read_text() for path in notes} == {"mine"}


def test_parts_of_others_stay(report, tmp_path):
    """Neither a file's name nor its age makes it a report's, as in a home folder."""
    out = tmp_path / "home"
    (out / "thesis").mkdir(parents=True)
    for path in (
        out / ".part-1",
        out / "thesis" / ".part-2",
        out / ".report-x",
        out / ".writable-",
    ):
        path.write_text("mine")
        os.utime(path, (0, 0))
    before = everything(out)
    report(out)
    assert before.items() <= everything(out).items()
