"""Report pages: escaping, reproducible bytes, missing parts, and no external requests."""

import csv
import io
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from bench.tasks.gaussians import RotatedGaussians

import bench
from bench.boards.columns import parenthesised
from bench.errors import UsageError
from bench.registry.registry import Registry
from bench.report import boards
from bench.report.bibliography import bibtex, entries
from bench.report.comparison import against_papers
from bench.report.papers import comparisons
from bench.report.provenance import fingerprint
from bench.report.summary import answers, compared, conclusion, methods
from bench.report.tables import Cell, Table, latex, markdown, tex
from bench.report.write import contents, write
from bench.studies import grades, training

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


def pages_of(files):
    """Return the pages of a report by name."""
    return {n: Page(text.decode()) for n, text in files.items() if n.endswith(".html")}


@pytest.fixture(scope="module")
def report(module_made):
    """Return a small report, built once: its results, files and pages."""
    results = small(module_made)
    loaded = bench.load(results.root)
    files = contents(loaded, COMMAND)
    return results, loaded, files, pages_of(files)


def test_the_pages_need_nothing_else(report):
    _, loaded, _, pages = report
    assert {*pages} == {"index.html", f"task-{TASK}.html", "papers.html", "sources.html"}
    (alone,) = contents(loaded, COMMAND, inline=True).items()
    for name, page in [*pages.items(), (alone[0], Page(alone[1].decode()))]:
        for tag, attributes in page.tags:
            for attribute in ("src", "srcset", "href", "xlink:href", "action", "data"):
                address = attributes.get(attribute) or ""
                assert not re.match(r"\s*([a-z]+:)?//|(?!data:)[a-z]+:", address), (tag, address)
        assert len(page.all("script")) == 1
        assert {"iframe", "object", "embed", "image"}.isdisjoint({tag for tag, _ in page.tags})
        policy = next(m for m in page.all("meta") if m.get("http-equiv"))["content"]
        assert policy.startswith("default-src 'none'")
        found = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(found) == len(set(found)), name
    assert not [a["href"] for a in page.all("a") if not a["href"].startswith("#")]


def test_files_are_where_the_pages_say(report):
    _, _, files, pages = report
    used = set()
    for name, page in pages.items():
        links = [a["href"] for a in page.all("a")] + [i["src"] for i in page.all("img")]
        for link in links + [s["srcset"] for s in page.all("source")]:
            file, _, anchor = link.partition("#")
            assert not file or file in files, link
            target = pages[file or name] if anchor else None
            assert not target or any(a.get("id") == anchor for _, a in target.tags), link
            used.add(file)
    assert {name for name in files if "/" in name} - used <= {
        f"tables/calibration.{form}" for form in ("csv", "md", "tex")
    }


def test_pictures_have_words(report):
    pictures = report[3][f"task-{TASK}.html"].all("img")
    assert pictures
    assert all(len(picture["alt"]) > 40 for picture in pictures)
    assert all(picture["loading"] == "lazy" for picture in pictures)


def test_pages_are_small(report):
    assert max(len(files) for name, files in report[2].items() if name.endswith(".html")) < 3e6


def test_the_same_results_give_the_same_bytes_and_other_files_stay(report):
    results, _, files, _ = report
    out = results.root.parent / "reports" / "r"
    (out / "figures").mkdir(parents=True)
    (out / "figures" / "mine.svg").write_text("mine")
    first = write(bench.load(results.root), out, COMMAND)
    assert {name: (out / name).read_bytes() for name in files} == files
    (out / "notes.txt").write_text("mine")
    second = write(bench.load(results.root), out, inline=True)
    assert len(second) == 2 < len(first)
    left = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert left == {*second, "notes.txt", "figures/mine.svg"}


def test_what_the_leaderboard_says_is_on_the_page(report):
    _, loaded, files, pages = report
    page = pages[f"task-{TASK}.html"]
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


def test_calibration_is_on_the_page(report):
    assert "outside the band" in report[3][f"task-{TASK}.html"].text


def test_rows_that_differ_significantly_are_known(made):
    results = made(uniform=100, per_point=0)
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 4)
    results.fit(TASK, "dle", "tuned", 4, width=3.0)
    (answer,) = answers(bench.load(results.root).boards)
    assert methods([answer])[-1] == "dle:tuned"
    lines = {line.label: line for line in boards.grid(answer.boards, {}).rows}
    assert lines["lre:tuned"].better["interval"] == [lines["dle:tuned"].name]
    assert not lines["dle:tuned"].better["interval"]


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
    files = contents(loaded, ["bench", EVIL])
    pages = pages_of(files).values()
    for page in pages:
        assert not [a for a in page.all("img") if "onerror" in a or a["src"] == "x"]
        assert len(page.all("script")) == 1
        assert not [n for _, attributes in page.tags for n in attributes if n.startswith("on")]
    assert "49" not in compared(loaded.boards)
    text = "".join(page.text for page in pages)
    assert text.count(EVIL) >= 2  # failed member, absent method, and command
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
    files = contents(loaded, COMMAND)
    (board,) = loaded.boards
    name = f"tables/leaderboard-{boards.name_of(board)}"
    md, tex_ = (files[f"{name}.{form}"].decode() for form in ("md", "tex"))
    page = pages_of(files)[f"task-{TASK}.html"]
    value = board.rows[1].quantities["drift/mu"].estimate
    shown = parenthesised(value.value, value.error)
    for text in ("drift_<i> mu (%) → 0", "speed z (1/s) ↑", "Drift & <b>. 0 is ideal.", shown):
        assert text in page.text
    assert "Other metrics" in page.text
    assert not page.all("i")
    assert "drift_&lt;i> mu (%) → 0 |" in md
    assert f"| {shown} |" in md
    assert r"drift\_\textless{}i\textgreater{} mu (\%) $\rightarrow$ 0 & " in tex_
    assert r"speed mu (1/s) $\uparrow$ & speed z (1/s) $\uparrow$" in tex_


def test_one_method_one_member_no_exact(made):
    results = made(uniform=5, per_point=0)
    results.fit(TASK, "lre", "tuned", 1, predictions=False)
    loaded = bench.load(results.root)
    (answer,) = answers(loaded.boards)
    assert answer.sentences[0].startswith("No ranking: there is neither an exact likelihood")
    pages = pages_of(contents(loaded, COMMAND))
    assert answer.sentences[0] in pages["index.html"].text
    assert all("nan" not in page.text.lower().split() for page in pages.values())


def test_only_exact(made):
    results = made(uniform=5, per_point=0)
    results.fit(TASK, "exact")
    loaded = bench.load(results.root)
    (answer,) = answers(loaded.boards)
    assert answer.sentences == ["Only the exact likelihood is here: there is nothing to rank."]
    assert "index.html" in contents(loaded, COMMAND)


def test_everything_failed(made):
    results = made(uniform=5, per_point=0)
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 2, failed=(0, 1))
    loaded = bench.load(results.root)
    assert "2 parts failed and are left out, with their reasons" in compared(loaded.boards)
    page = pages_of(contents(loaded, COMMAND))[f"task-{TASK}.html"]
    assert "the loss is <NaN>" in page.text


def test_answers_claim_no_more_than_verdicts(report):
    (answer,) = answers(report[1].boards)
    assert answer.sentences[0].startswith("None holds: no method is shown to cover every parameter")
    assert answer.sentences[1].startswith("Undetermined: ")
    assert answer.recommended == []
    assert conclusion([answer]) == "No method is shown to hold."
    assert "3 members" in answer.setting or "2 to 3 members" in answer.setting


def test_coverage_that_fails_is_said(made):
    results = made(uniform=200, per_point=0)
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 4, width=0.4)
    (answer,) = answers(bench.load(results.root).boards)
    assert re.match(r"Do not use lre:tuned \(coverage of mu -\d\d to -\d\d, z", answer.sentences[1])


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
    monkeypatch.setattr(method, "citation", "Doe } (2031)")
    assert "Doe \\textbraceright{} (2031)" in bibtex(report[1])


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
    (found,) = answers(bench.load(results.root).boards)
    assert [board.budget for board in found.boards] == [1000, 5000]


def studies(folder):
    """Write the tables of both studies of intervals, with a hostile label."""
    folder.mkdir()
    pairs = {"gap": -3.25, "worst": -12.5, "length": 0.98}
    row = {"task": TASK, "parameter": "mu", "calls": 10_000, "method": EVIL, "members": 8}
    row |= {"where": "at 1.5", "verdict": "undetermined"}
    row |= pairs | {f"{name}_error": 0.5 for name in pairs}
    exact = row | dict.fromkeys((*pairs, "where", "verdict"), "") | {"method": "exact"}
    exact |= {f"{name}_error": "" for name in pairs}
    line = dict.fromkeys(training.COLUMNS, "") | {"task": TASK, "method": EVIL, "parameter": "mu"}
    line |= {"budget": 100_000, "spread": 0.38, "spread_error": 0.08}
    for name, rows in (("corrections", [row, exact]), ("training", [line])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def test_studies_of_intervals_have_a_page(tmp_path, made):
    loaded = bench.load(small(made).root, studies(tmp_path / "studies"))
    files = contents(loaded, COMMAND)
    page = pages_of(files)["intervals.html"]
    assert not page.all("img")
    for text in ("−3.25(50)", "−12.50(50) at 1.5", "undetermined", "0.380(80)", "100,000", EVIL):
        assert text in page.text
    assert b">nan<" not in files["intervals.html"].lower()
    for name in ("corrections", "training"):
        assert b"0.98" in files[f"tables/{name}.tex"] or name == "training"
        assert f"tables/{name}.md" in {link["href"] for link in page.all("a") if "href" in link}
    assert "intervals.html" not in contents(bench.load(small(made, "other").root), COMMAND)


def test_grades_of_diagnostics_have_a_page(tmp_path, made):
    folder = tmp_path / "studies"
    folder.mkdir()
    grade = dict.fromkeys(grades.COLUMNS, 0.5) | {"diagnostic": EVIL, "level": "event"}
    grade |= {"networks": 40, "calls": 25_000, "seconds": 1e-5, "area": 0.93, "area_error": 0.04}
    power = {"task": TASK, "repetitions": 20, "gap": -0.1, "divergence": 0.2, "power_error": 0.1}
    powers = [
        power | {"defect": defect, "size": size, "diagnostic": name, "power": value}
        for defect, size, value in (("none", 0, 0.05), ("tail", 0.01, 0.3), ("tail", 0.03, ""))
        for name in (EVIL, "closure")
    ]
    for name, rows in (("diagnostics", [grade]), ("diagnostics-planted", powers)):
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    files = contents(bench.load(small(made).root, folder), COMMAND)
    page = pages_of(files)["validation.html"]
    for text in ("0.930(40)", "25,000", "< 0.01", EVIL):
        assert text in page.text
    (picture,) = page.all("img")
    assert "tail missing" in picture["alt"]
    assert "0.30(10) at size 0.01" in picture["alt"]
    assert "tables/diagnostics.tex" in files
    assert "validation.html" not in contents(bench.load(small(made, "other").root), COMMAND)


def test_a_table_of_another_kind_is_refused(tmp_path, made):
    folder = studies(tmp_path / "studies")
    (folder / "training.csv").write_text("task,method\na,b\n")
    with pytest.raises(UsageError, match="is not a table of `bench study training`"):
        contents(bench.load(small(made).root, folder), COMMAND)
