"""Reports in headless Chromium: no message, no request, legible, usable, linked."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
TASK = "gaussians-far"
PROBE = (Path(__file__).parent / "probe.js").read_text()
# A window is at least 500 pixels wide, but a frame in it may be narrower.
FRAME = """<pre id="found"></pre><script>
addEventListener("message", ({data}) => { document.getElementById("found").textContent = data; });
</script><iframe src="%s" width="%d" height="900" style="border: 0"></iframe>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]


@pytest.fixture(scope="module")
def report(module_made):
    """Write a report of one task at two budgets, once; return its folder."""
    from bench.report.load import load
    from bench.report.write import write

    results = module_made("results", uniform=40, per_point=1)
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 3, width=1.05, shift=0.1)
    results.fit(TASK, "dle", "tuned", 3, width=2.0)
    results.budget = 5000
    results.fit(TASK, "lre", "published", 3)
    results.fit(TASK, "dle", "published", 3, width=2.0)
    out = results.root.parent / "report"
    write(load(results.root), out)
    write(load(results.root), out / "one", inline=True)
    return out


def browse(address, *options):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *options, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def probe(page, width, dark, state=""):
    """Return what the probe finds; it runs in a copy, because the page's policy forbids it."""
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    text = policy.sub("", page.read_text())
    copy = page.with_name("probed.html")
    copy.write_text(text.replace("</body>", f"<script>{PROBE}</script></body>"))
    frame = page.with_name("frame.html")
    frame.write_text(FRAME % (copy.name + state, width))
    scheme = f"--blink-settings=preferredColorScheme={int(not dark)}"
    size = "--window-size=1400,1000"
    seen = browse(frame.as_uri(), scheme, size, "--virtual-time-budget=5000", "--dump-dom").stdout
    text = re.search(r'<pre id="found">(.*?)</pre>', seen, re.S)[1]
    found = json.loads(html.unescape(text))
    assert (found["width"], found["dark"]) == (width, dark)
    return found


@pytest.mark.parametrize("name", ["index", f"task-{TASK}", "one/index"])
def test_pages_say_nothing_to_the_console_and_request_nothing(report, name, tmp_path):
    log = tmp_path / "net.json"
    page = (report / f"{name}.html").as_uri()
    seen = browse(page, "--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom")
    assert f"<h1>{'Likelihood surrogates on ' if 'index' in name else ''}{TASK}" in seen.stdout
    assert "CONSOLE" not in seen.stderr
    requests = set(re.findall(r'"url":"(https?://[^"]*)"', log.read_text()))
    assert not [url for url in requests if not re.search(r"google|gvt1|chromium", url)]


@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)]
)
@pytest.mark.parametrize("name", ["index", f"task-{TASK}"])
def test_pages_are_legible(report, name, width, dark):
    found = probe(report / f"{name}.html", width, dark)
    assert found["contrast"][0] >= 4.5, found["contrast"]
    assert found["marks"][0] >= 3, found["marks"]
    assert found["smallest"][0] >= 11, found["smallest"]
    assert found["overflow"] <= 0
    assert width > 390 or not found["clipped"]
    for words, file in found["pictures"]:
        assert words > 20
        assert file.endswith("-column.svg") == (width == 390)
    assert all(name.startswith("file:") for name in found["resources"])
    for link in found["links"]:
        parts = urlsplit(link)
        assert parts.scheme == "file"
        path = Path(unquote(parts.path))
        assert path.is_relative_to(report)
        assert path.is_file(), link


def test_a_table_sorts_filters_compares_and_remembers(report):
    page = report / f"task-{TASK}.html"
    found = probe(page, 1280, False)
    used = found["used"]
    assert len(used["first"]) == 3  # the larger budget
    known = [float(v) for v in used["rising"] if v is not None]
    assert known == sorted(known)
    assert used["arrow"] == "ascending"
    assert used["rising"][-1] is used["falling"][-1] is None  # exact has no value, and stays last
    assert used["falling"][:-1] == used["rising"][-2::-1]
    assert used["all"] == 6
    assert sorted(used["searched"]) == ["lre:published", "lre:tuned"]
    assert used["column"] is True
    assert set(used["marks"]) == {"▼ worse"}
    assert "Compared with lre:tuned" in used["status"]
    again = probe(page, 1280, False, used["link"])
    assert again["restored"] == used["link"]
    assert "6 of 6 rows. Compared with lre:tuned" in again["status"]
