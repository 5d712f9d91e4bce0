"""`bench trust` on files: intervals of data, measured values, and one line for what is wrong."""

import numpy as np
import pytest
from click.testing import CliRunner

from bench.cli.main import cli
from bench.errors import UsageError

SIMULATOR = """
import numpy as np

from bench.contracts import Constraint, Simulator


def simulate(theta, rng):
    return rng.normal(theta[:, 0] * theta[:, 1], 1.0)


mine = Simulator(
    "mine",
    simulate,
    {"mean": (-4.0, 4.0), "scale": (0.8, 1.2)},
    observations=5,
    nuisances="scale",
    constraints=[Constraint("scale", centre=1.0, width=0.05)],
    batch=True,
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("trust")
    (root / "mine.py").write_text(SIMULATOR)
    np.savetxt(root / "observed.csv", [[1.0], [2.0], [1.4], [0.8], [1.3]])
    return root


def run(folder, *more):
    line = ["trust", str(folder / "mine.py"), "--budget", "400", "--toys", "20", "--quiet"]
    line += ["--method", "lre:published", "--workers", "1", "--out", str(folder / "out")]
    result = CliRunner().invoke(cli, [*line, *more])
    if isinstance(result.exception, UsageError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_intervals_of_data_take_the_measured_value(folder):
    data = ["--data", str(folder / "observed.csv")]
    output = run(folder, *data)
    assert "Datasets of 5 observations, each of one number." in output
    assert "scale 0.8 to 1.2 (true values 0.88 to 1.12, profiled, measured)" in output
    assert "measured scale = 1\n" in output
    page = (folder / "out" / "trust.html").read_text()
    assert "Profile likelihoods of the observed data" in page
    assert "measured scale = 1.1\n" in run(folder, *data, "--measured", "scale=1.1")
    assert (folder / "out" / "intervals.csv").is_file()
    same = (folder / "observed.csv").read_bytes()
    (folder / "marked.csv").write_bytes("\ufeffx\r\n".encode() + same)
    marked = run(folder, "--data", str(folder / "marked.csv"))
    assert marked.split("68.27 %")[1] == run(folder, *data).split("68.27 %")[1]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("mean=1", "'mean' has no constraint; known: scale"),
        ("scale", "'' is not a number"),
        ("scale=nan", "'nan' is not a number"),
    ],
)
def test_wrong_measured_values_give_one_line(folder, written, message):
    with pytest.raises(UsageError, match=message):
        run(folder, "--measured", written)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it holds no observation"),
        ("x\n", "it holds no observation"),
        ("x\na\n", "it holds no array of numbers"),
        ("1,2\n3,4\n", "observations have shape"),
        ("nan\n", "all of them finite"),
        ("0.1\n#0.2\n", "it holds no array"),
    ],
)
def test_wrong_data_give_one_line_with_the_file(folder, tmp_path, content, message):
    (tmp_path / "data.csv").write_text(content)
    with pytest.raises(UsageError, match=f"data.csv: .*{message}"):
        run(folder, "--data", str(tmp_path / "data.csv"))
    with pytest.raises(UsageError, match=r"none.csv: this is not a file"):
        run(folder, "--data", str(tmp_path / "none.csv"))
