"""`bench report`: output, exit status, and behaviour in a browser."""

import html
import json
import os
import pty
import re
import shutil
import subprocess
from contextlib import suppress

import pytest
from figure_results import bootstrap_table
from small_run import BENCH

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
TASK = "gaussians-far"

# Reads the visible content of the page after clicks. The page's policy forbids foreign scripts, so
# this script runs in a copy without the policy.
PROBE = """
<script>
const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const background = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgb(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
for (const details of document.querySelectorAll("details")) details.open = true;
let lowest = [99, ""];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || ["SCRIPT", "title", "desc", "style"].includes(element.tagName)) continue;
  const style = getComputedStyle(element);
  const colour = rgb(element.tagName === "text" || element.tagName === "tspan"
    ? style.fill : style.color);
  const [a, b] = [luminance(colour), luminance(background(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < lowest[0]) lowest = [ratio, element.outerHTML.slice(0, 200)];
}
const table = document.querySelector("table.sortable");
const column = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent.includes("score"));
const button = table.tHead.rows[0].cells[column].querySelector("button");
const order = () => [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.sort ?? null);
const found = { contrast: lowest, dark: matchMedia("(prefers-color-scheme: dark)").matches };
button.click();
found.rising = order();
found.arrow = table.tHead.rows[0].cells[column].getAttribute("aria-sort");
button.click();
found.falling = order();
found.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
found.pictures = [...document.querySelectorAll("svg[role=img]")].map(
  (svg) => svg.querySelector("desc").textContent.length);
found.resources = performance.getEntriesByType("resource").map((entry) => entry.name);
document.body.innerHTML = "<pre id=found></pre>";
document.getElementById("found").textContent = JSON.stringify(found);
</script>
"""


@pytest.fixture
def results(made, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    results = made("results/mine", uniform=30, per_point=1)
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 3, width=1.05, shift=0.1)
    results.fit(TASK, "dle", "tuned", 3, width=2.0)
    return results


def test_the_newest_results_become_a_report_and_a_terminal_shows_how_far_it_is(
    results, monkeypatch, tmp_path
):
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    made = subprocess.Popen([BENCH, "report"], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the end of a terminal
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert made.communicate(timeout=60)[0] == b"reports/mine/index.html\n"
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    steps = re.findall(r"(\d+) of (\d+)", text)
    assert [int(done) for done, _ in steps] == [*range(len(steps))]
    assert {total for _, total in steps} == {str(len(steps) - 1)}
    places = [text.index(what) for what in ("reading results", "drawing figures", "writing")]
    assert places == sorted(places)
    assert re.search(r"\d+ files in reports/mine", text)
    page = (tmp_path / "reports/mine/index.html").read_text()
    assert "bench report results/mine --out reports/mine" in page


def test_tasks_and_methods_are_chosen(command, results, tmp_path):
    status, out, err = command(
        "report", results.root, "--method", "lre:*", "--task", "*far", "--out", "r"
    )
    assert (status, out) == (0, "r/index.html\n")
    assert re.fullmatch(r"\d+ files in r\n", err)  # no progress where there is no terminal
    page = (tmp_path / "r/index.html").read_text()
    assert "lre:tuned" in page
    assert "dle" not in (tmp_path / "r/tables/leaderboards.csv").read_text()
    assert "--task '*far' --method 'lre:*'" in page.replace("&#39;", "'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a results folder: it does not exist"),
        (["results/mine", "--task", "gausian"], "unknown task 'gausian'; did you mean"),
        (["results/mine", "--method", "none"], "unknown method in these results 'none'; known: "),
        (
            ["results/mine", "--method", "LRE-tuned"],
            "unknown method in these results 'LRE-tuned'; did you mean lre:tuned?",
        ),
        (["results/mine", "--method", "ensemble(lre)"], "method 'ensemble(lre)': an ensemble is"),
    ],
)
def test_mistakes_are_one_line(command, results, arguments, message):
    status, out, err = command("report", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"bench: {message}")


def test_nothing_to_compare_is_said(command, made, tmp_path):
    empty = made("empty")
    status, out, err = command("report", empty.root, "--out", tmp_path / "r")
    assert (status, out) == (1, "")
    assert "no scores to compare" in err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("words", ["report", "leaderboard", "status", "score", "study equivalence"])
def test_the_parent_of_results_is_refused_with_their_names(command, results, tmp_path, words):
    """A parent folder with a table must not count as a folder of studies."""
    shutil.copytree(results.root, tmp_path / "results" / "other")
    (tmp_path / "results" / "afterwards.csv").write_text("a\n1\n")
    status, out, err = command(*words.split(), "results")
    assert (status, out) == (2, "")
    assert err == "bench: results is not a results folder: name one of those in it: mine, other\n"
    assert not (tmp_path / "reports").exists()


def test_tables_that_no_figure_shows_are_no_report(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / "lre.csv").write_text("rate,loss\n0.1,0.5\n")
    status, out, err = command("report", "tuning")
    assert (status, out) == (1, "")
    assert err == (
        "bench: tuning: no scores to compare, and no table of a study that a figure shows\n"
    )
    assert not (tmp_path / "reports").exists()


def test_tables_of_studies_alone_are_a_report(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    bootstrap_table().to_csv(tmp_path / "studies" / "bootstrap-k.csv", index=False)
    assert command("report", "studies")[:2] == (0, "reports/studies/index.html\n")
    assert list((tmp_path / "reports" / "studies" / "figures").glob("bootstrap-k*.svg"))


def test_damage_is_said_and_the_rest_reported(command, results):
    (results.root / f"fits/{TASK}/dle-tuned/fit.json").write_text("{")
    status, out, err = command("report", results.root)
    assert (status, out) == (1, "reports/mine/index.html\n")
    assert err.startswith("damaged: ")


def browse(page, *options):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_shows_it(command, results, tmp_path):
    assert command("report", results.root, "--out", tmp_path / "r")[0] == 0
    page = tmp_path / "r" / "index.html"
    log = tmp_path / "net.json"
    plain = browse(page, "--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom")
    assert "<h1>Likelihood surrogates on gaussians-far</h1>" in plain.stdout
    assert "CONSOLE" not in plain.stderr
    requests = set(re.findall(r'"url":"(https?://[^"]*)"', log.read_text()))
    assert not [url for url in requests if not re.search(r"google|gvt1|chromium", url)]

    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    probed = tmp_path / "r" / "probed.html"
    text = policy.sub("", page.read_text()).replace("</body>", PROBE + "</body>")
    probed.write_text(text)
    for dark, width in ((False, 1280), (True, 500)):
        scheme = f"--blink-settings=preferredColorScheme={int(not dark)}"
        seen = browse(probed, scheme, f"--window-size={width},900", "--dump-dom").stdout
        found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', seen, re.S)[1]))
        assert found["dark"] is dark
        assert found["contrast"][0] >= 4.5, found["contrast"]
        known = [float(v) for v in found["rising"] if v is not None]
        assert known == sorted(known)
        assert found["rising"][-1] is None  # exact has no value and stays last
        assert found["falling"] == [*map(str, reversed(found["rising"][:-1])), None]
        assert found["arrow"] == "ascending"
        assert found["overflow"] <= 0
        assert min(found["pictures"]) > 20
        assert found["resources"] == []
