"""Report page: escaping, reproducible bytes, missing parts, and no external requests."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from bench.tasks.gaussians import RotatedGaussians

import bench
from bench.leaderboard.columns import parenthesised
from bench.registry.registry import Registry
from bench.report import boards
from bench.report.bibliography import bibtex, entries
from bench.report.comparison import against_papers
from bench.report.drawings import drawn, inline
from bench.report.figures import INK, Figure
from bench.report.papers import comparisons
from bench.report.provenance import fingerprint
from bench.report.summary import answers, compared
from bench.report.tables import Cell, Table, latex, markdown, tex
from bench.report.write import contents, write

pytestmark = pytest.mark.slow

TASK = "gaussians-far"
COMMAND = ["bench", "report", "results"]
EVIL = "\"><img src=x onerror=alert(1)>&{{7*7}}'$_^\\"


class Page(HTMLParser):
    """Content of a page for a browser: tags with their attributes, and text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.links = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def small(made, root="results"):
    results = made(root, uniform=30, per_point=1)
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 3, width=1.05, shift=0.1)
    results.fit(TASK, "dle", "tuned", 3, width=2.0, failed=(1,))
    return results


@pytest.fixture(scope="module")
def report(module_made):
    """Return a small report, built once: its results, files and page."""
    results = small(module_made)
    loaded = bench.load(results.root)
    files = contents(loaded, results.root.parent / "reports" / "r", COMMAND)
    return results, loaded, files, Page(files["index.html"].decode())


def test_the_page_needs_nothing_else(report):
    _, _, files, page = report
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            address = attributes.get(name) or ""
            assert not re.match(r"\s*([a-z]+:)?//|(?!data:,)[a-z]+:", address), (tag, address)
    html = files["index.html"].decode()
    assert not re.search(r"@import|url\((?!#)", html)
    assert len(page.all("script")) == 1
    assert {"img", "iframe", "object", "embed", "image"}.isdisjoint({tag for tag, _ in page.tags})
    policy = next(m for m in page.all("meta") if m.get("http-equiv"))["content"]
    assert policy.startswith("default-src 'none'")


def test_files_are_where_the_page_says(report):
    results, _, files, page = report
    links = [a["href"] for a in page.all("a")]
    for link in links:
        if link.startswith("#"):
            assert any(attributes.get("id") == link[1:] for _, attributes in page.tags), link
        elif link.startswith(("tables/", "figures/", "references.bib")):
            assert link in files, link
        else:
            assert (results.root.parent / "reports" / "r" / link).resolve().is_dir(), link
    assert f"../../results/fits/{TASK}/lre-tuned/" in links
    names = {name for name in files if "/" in name}
    assert names <= set(links)


def test_identifiers_are_unique(report):
    found = [attributes["id"] for _, attributes in report[3].tags if "id" in attributes]
    assert len(found) == len(set(found))


def test_pictures_have_words(report):
    pictures = [a for a in report[3].all("svg") if a.get("role") == "img"]
    assert pictures
    text = {a["id"] for tag, a in report[3].tags if tag in ("title", "desc") and "id" in a}
    for picture in pictures:
        assert set(picture["aria-labelledby"].split()) <= text


def test_the_same_results_give_the_same_bytes_and_other_files_stay(report):
    results, _, files, _ = report
    out = results.root.parent / "reports" / "r"
    (out / "figures").mkdir(parents=True)
    (out / "figures" / "mine.svg").write_text("mine")
    first = write(bench.load(results.root), out, COMMAND)
    assert {name: (out / name).read_bytes() for name in files} == files
    (out / "notes.txt").write_text("mine")
    second = write(bench.load(results.root, methods=["exact"]), out)
    assert set(second) != set(first)
    left = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert left == {*second, "notes.txt", "figures/mine.svg"}


def test_what_the_leaderboard_says_is_on_the_page(report):
    _, loaded, files, page = report
    (board,) = loaded.boards
    row = next(r for r in board.rows if r.label == "dle:tuned")
    width = row.quantities["width/z/ratio"].estimate
    assert width.value == pytest.approx(2.0)
    assert "fit of member 1 failed: the loss is <NaN>" in page.text
    assert "None holds: no method is shown to cover every parameter" in page.text
    numbers = list(csv.DictReader(io.StringIO(files["tables/leaderboards.csv"].decode())))
    found = next(n for n in numbers if n["quantity"] == "width/z/ratio" and n["method"] == "dle")
    assert float(found["value"]) == width.value
    latexed = files[f"tables/leaderboard-{boards.name_of(board)}.tex"].decode()
    assert latexed.count("\\toprule") == latexed.count("\\bottomrule") > 3
    assert "dle:tuned" in latexed
    assert "| dle:tuned |" in files[f"tables/leaderboard-{boards.name_of(board)}.md"].decode()


def test_calibration_is_on_the_page_where_scores_have_statistics(report, made):
    assert "calibration needs" not in report[3].text
    assert "outside the band" in report[3].text
    results = small(made, "bare")
    for key in results.store.keys("scores"):
        arrays = results.store.read(key).arrays
        del arrays["statistic/joint"]
        results.store.write(key, {"status": "done"}, arrays)
    page = Page(
        contents(bench.load(results.root), results.root / "r", COMMAND)["index.html"].decode()
    )
    assert f"n/a for {TASK}: calibration needs the statistics that scores keep" in page.text


def test_nothing_from_results_is_markup(made):
    results = made(uniform=20, per_point=0)
    results.fit(RotatedGaussians(EVIL, EVIL, 1.0), EVIL, EVIL, 2)  # unregistered method, left out
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 2, failed=(1,))
    key = f"fits/{TASK}/lre-tuned/member-001"
    results.store.write(key, {"status": "failed", "error": EVIL})
    results.run(
        absent=[{"task": EVIL, "label": EVIL + "2", "reason": EVIL}],
        command=["bench", EVIL],
        plugins=[EVIL],
    )
    loaded = bench.load(results.root)
    files = contents(loaded, results.root / "r", ["bench", EVIL])
    page = Page(files["index.html"].decode())
    assert not page.all("img")
    assert len(page.all("script")) == 1
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "49" not in compared(loaded.boards)
    assert page.text.count(EVIL) >= 2  # failed member, absent method, and command
    assert all(re.fullmatch(r"[\w./-]+", name) for name in files)
    assert all(".." not in name for name in files)
    assert "<img" not in files["tables/fits.md"].decode()


METRIC = """
from bench.contracts import Metric

def compute(own, truth):
    return {name: own.curves.mle[:, i] for i, name in enumerate(own.names)}

drift = Metric("drift", "drift_<i>", "Drift & <b>.", ("independent",), compute, unit="%", target=0)
speed = Metric("speed", "speed", "Speed.", ("independent",), compute, unit="1/s", better="higher")
"""


def test_metrics_of_plugins_are_on_the_page(made, tmp_path):
    (plugin := tmp_path / "metric.py").write_text(METRIC)
    results = made(uniform=30, per_point=0, registry=Registry([plugin]))
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 3)
    loaded = bench.load(results.root, plugins=[plugin])
    files = contents(loaded, tmp_path / "r", COMMAND)
    (board,) = loaded.boards
    name = f"tables/leaderboard-{boards.name_of(board)}"
    html, md, tex_ = (files[n].decode() for n in ("index.html", f"{name}.md", f"{name}.tex"))
    page = Page(html)
    value = board.rows[1].quantities["drift/mu"].estimate
    shown = parenthesised(value.value, value.error)
    for text in ("drift_<i> mu (%) → 0", "speed z (1/s) ↑", "Drift & <b>. 0 is ideal.", shown):
        assert text in page.text
    assert "Other metrics" in page.text
    assert not page.all("i")
    assert not page.all("b")
    assert "drift_&lt;i> mu (%) → 0 |" in md
    assert f"| {shown} |" in md
    assert r"drift\_\textless{}i\textgreater{} mu (\%) $\rightarrow$ 0 & " in tex_
    assert r"speed mu (1/s) $\uparrow$ & speed z (1/s) $\uparrow$" in tex_
    (other,) = [t for t in boards.tables_of(board, lambda row: "") if "Other" in t.title]
    bars = dict(zip(other.columns, other.rows[1], strict=True))
    assert bars["drift_<i> mu (%) → 0"].bar is not None
    assert bars["speed mu (1/s) ↑"].bar is None


def test_one_method_one_member_no_exact(made):
    results = made(uniform=5, per_point=0)
    results.fit(TASK, "lre", "tuned", 1, predictions=False)
    loaded = bench.load(results.root)
    (answer,) = answers(loaded.boards)
    assert answer.sentence.startswith("No ranking: there is neither an exact likelihood")
    page = Page(contents(loaded, results.root / "r", COMMAND)["index.html"].decode())
    assert answer.sentence in page.text
    assert "nan" not in page.text.lower().split()


def test_only_exact(made):
    results = made(uniform=5, per_point=0)
    results.fit(TASK, "exact")
    loaded = bench.load(results.root)
    (answer,) = answers(loaded.boards)
    assert answer.sentence == "Only the exact likelihood is here: there is nothing to rank."
    assert "index.html" in contents(loaded, results.root / "r", COMMAND)


def test_everything_failed(made):
    results = made(uniform=5, per_point=0)
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 2, failed=(0, 1))
    loaded = bench.load(results.root)
    assert "2 parts failed and are left out, with their reasons" in compared(loaded.boards)
    page = Page(contents(loaded, results.root / "r", COMMAND)["index.html"].decode())
    assert "the loss is <NaN>" in page.text


def test_answers_claim_no_more_than_verdicts(report):
    (answer,) = answers(report[1].boards)
    assert answer.sentence.startswith("None holds: no method is shown to cover every parameter")
    assert answer.rest.startswith("Undetermined: ")
    assert "3 members" in answer.setting or "2 to 3 members" in answer.setting


def test_coverage_that_fails_is_said(made):
    results = made(uniform=200, per_point=0)
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 4, width=0.4)
    (answer,) = answers(bench.load(results.root).boards)
    assert re.match(r"Do not use lre:tuned \(coverage of mu -\d\d to -\d\d, z", answer.rest)


def test_ink_follows_the_page_and_identifiers_keep_apart():
    def draw(canvas):
        ax = canvas.subplots()
        ax.plot([0, 1], [0, 1], color=INK, clip_on=True)
        ax.set_title("a < b", color=INK)

    figure = Figure("odd-1", "papers", "t", "Title <b>", "c", 'words "&"', (2.0, 1.5), draw)
    drawing = drawn(figure)
    svg = str(inline(figure, drawing.files["svg"].decode()))
    assert INK not in svg
    assert "currentColor" in svg
    assert "<metadata" not in svg
    assert "Title &lt;b&gt;" in svg
    assert "words &#34;&amp;&#34;" in svg
    assert set(re.findall(r'\bid="(.*?)--', svg)) == {"odd-1"}
    for used in re.findall(r'(?:href="#|url\(#)([^")]+)', svg):
        assert f'id="{used}"' in svg
    assert drawing.files["pdf"].startswith(b"%PDF")
    assert drawn(figure).files == drawing.files


def test_latex_shows_text_as_it_is():
    assert tex("50 % of $x_1$ & {y}\\") == r"50 \% of \$x\_1\$ \& \{y\}\textbackslash{}"
    table = Table("t", "μ ± 1", ["a_b", "n"], [[Cell("x|y"), Cell("0.5(1)")]], ["note"])
    assert r"x\textbar{}y & 0.5(1) \\" in latex(table)
    assert r"\begin{tabular}{lr}" in latex(table)
    assert "| x\\|y | 0.5(1) |" in markdown(table)


def test_only_reasons_stand_where_nothing_is_compared(report):
    table = against_papers(comparisons(report[1]))
    assert any("no results of lre:published on gaussians-far" in note for note in table.notes)
    assert any("does not select models" in note for note in table.notes)


def test_bibtex_has_what_was_used(report):
    text = bibtex(report[1])
    for key in ("nlbench", "sluijter2025", "cranmer2015", "durkan2019", "shen2026"):
        assert text.count(f"{{{key},") == 1, key
    assert "hermans2020" not in text  # no result cites it
    assert all(entry.startswith("@") and entry.endswith("}") for entry in entries().values())


def test_what_a_plugin_cites_is_quoted(report, monkeypatch):
    method = report[1].registry.method("dle")
    monkeypatch.setattr(method, "citation", "Doe & Roe (2031), doi:10/x_y")
    text = bibtex(report[1])
    assert "@misc{doe2031,\n  note = {Doe \\& Roe (2031), doi:10/x\\_y}\n}" in text


def test_the_fingerprint_changes_with_any_record(made):
    results = small(made)
    before = fingerprint(results.store)
    assert before == fingerprint(results.store)
    path = next((results.root / "scores").rglob("member-000.json"))
    path.write_text(path.read_text().replace("done", "dome"))
    assert fingerprint(results.store) != before


def test_answers_begin_where_methods_can_be_compared(made):
    results = made()
    for method in ("exact", "histogram", "lre"):
        results.fit(TASK, method)
    results.budget = 5000
    results.fit(TASK, "lre", "tuned")
    found = answers(bench.load(results.root).boards)
    assert [answer.board.budget for answer in found] == [1000, 5000]
    assert "is the only method here" in found[1].sentence
