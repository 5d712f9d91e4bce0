"""Files of simulations: what is read, and one line for every defect."""

import hashlib
import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from bench.contracts import Parameter, read_simulations
from bench.errors import DataError

MASS = Parameter("mass", 0.0, 10.0, "interest", (1.0, 9.0))
WIDTH = Parameter("width", 0.1, 10.0, "nuisance", (0.2, 5.0), scale="log")
BOTH = (MASS, WIDTH)
N = 200


def pairs(shape=(2,), n=N):
    """Return parameters (n, 2) and observations (n, *shape), float64."""
    rng = np.random.default_rng(3)
    mass, width = rng.uniform(0, 10, n), 10 ** rng.uniform(-1, 1, n)
    return np.stack([mass, width], -1), rng.standard_normal((n, *shape))


@pytest.fixture
def npz(tmp_path):
    """Return a function that writes pairs to an .npz file, with changes, and returns its path."""

    def write(shape=(2,), **changed):
        theta, x = pairs(shape)
        np.savez(path := tmp_path / "pairs.npz", **{"theta": theta, "x": x} | changed)
        return path

    return write


@pytest.fixture
def table(tmp_path):
    """Return a function that writes columns to a .parquet file and returns its path."""

    def write(columns):
        parquet.write_table(pa.table(columns), path := tmp_path / "pairs.parquet")
        return path

    return write


def refused(path, parameters=BOTH, **options):
    with pytest.raises(DataError) as error:
        read_simulations(path, parameters, **options)
    message = str(error.value)
    assert message.startswith(f"{path.name}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path.name}: ")


@pytest.mark.parametrize(
    ("shape", "observations", "wanted"),
    [
        ((), 1, (1, 1)),
        ((3,), 1, (1, 3)),
        ((4, 5), 1, (1, 4, 5)),
        ((1, 5), 1, (1, 5)),
        ((3,), 3, (3, 1)),
        ((3, 2), 3, (3, 2)),
        ((3, 4, 5), 3, (3, 4, 5)),
    ],
)
def test_a_row_is_a_dataset_of_observations(npz, shape, observations, wanted):
    theta, x = pairs(shape)
    found = read_simulations(npz(shape), BOTH, observations=observations)
    assert len(found) == N
    assert found.x.shape == (N, *wanted)
    np.testing.assert_array_equal(found.theta.numpy(), theta)
    np.testing.assert_array_equal(found.x.numpy(), x.astype(np.float32).reshape(N, *wanted))


def test_one_parameter_may_be_a_vector(npz):
    theta, _ = pairs()
    found = read_simulations(npz(theta=theta[:, 0]), [MASS])
    np.testing.assert_array_equal(found.theta[:, 0].numpy(), theta[:, 0])


def test_parquet_has_columns_of_numbers(table):
    theta, x = pairs()
    path = table({"a": x[:, 0], "width": theta[:, 1], "mass": theta[:, 0], "b": x[:, 1]})
    found = read_simulations(path, BOTH)
    np.testing.assert_array_equal(found.theta.numpy(), theta)
    np.testing.assert_array_equal(found.x[:, 0].numpy(), x.astype(np.float32))
    chosen = read_simulations(path, BOTH, columns=["b"])
    np.testing.assert_array_equal(chosen.x[:, 0, 0].numpy(), x[:, 1].astype(np.float32))


def test_parquet_has_columns_of_lists(table):
    theta, x = pairs((5, 2))
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(x[:, :, 1].ravel()), 5)
    path = table({"mass": theta[:, 0], "width": theta[:, 1], "a": list(x[:, :, 0]), "b": fixed})
    found = read_simulations(path, BOTH, observations=5)
    np.testing.assert_array_equal(found.x.numpy(), x.astype(np.float32))
    series = read_simulations(path, BOTH, columns=["b"])
    np.testing.assert_array_equal(series.x[:, 0].numpy(), x[:, :, 1].astype(np.float32))


def test_the_digest_is_of_the_numbers_in_any_format(npz, table):
    theta, x = pairs()
    columns = {"mass": theta[:, 0], "width": theta[:, 1], "a": x[:, 0], "b": x[:, 1]}
    found = read_simulations(npz(), BOTH).digest
    x32 = x.astype(np.float32)[:, None]
    shapes = json.dumps([*theta.shape, *x32.shape], separators=(",", ":")).encode()
    assert found == hashlib.sha256(shapes + theta.tobytes() + x32.tobytes()).hexdigest()
    assert read_simulations(table(columns), BOTH).digest == found
    x[3, 1] += 1e-3
    assert read_simulations(npz(x=x), BOTH).digest != found


def test_files_that_cannot_be_read(tmp_path, npz, table):
    assert refused(tmp_path / "none.npz") == "it does not exist"
    (tmp_path / "folder.npz").mkdir()
    assert refused(tmp_path / "folder.npz") == "it is not a file"
    (other := tmp_path / "pairs.h5").write_bytes(b"")
    assert refused(other) == "simulations are read from .npz and .parquet files"
    archive = "it is no .npz archive of numbers, as numpy.savez writes"
    for content in (b"", b"PK\x03\x04 cut", pickle.dumps([1.0])):
        (bad := tmp_path / "bad.npz").write_bytes(content)
        assert refused(bad) == archive
        (bad := tmp_path / "bad.parquet").write_bytes(content)
        assert refused(bad) == "it is no .parquet file"
    np.save(tmp_path / "one.npy", np.zeros(3))
    assert refused((tmp_path / "one.npy").rename(tmp_path / "one.npz")) == archive
    assert refused(npz(x=np.array([{"a": 1}] * N, dtype=object))) == archive


def test_no_pickle_is_loaded(npz, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    refused(npz(x=np.array([Harmful()] * N, dtype=object)))
    assert not (tmp_path / "ran").exists()


def test_arrays_that_are_missing_or_of_another_type_or_shape(npz, tmp_path):
    theta, x = pairs()
    np.savez(path := tmp_path / "y.npz", theta=theta, y=x)
    assert refused(path) == "it has no array 'x', but theta, y"
    assert refused(npz(), columns=["a"]).startswith("an .npz file has no columns")
    beyond = "x holds whole numbers beyond 2^24, which float32 rounds"
    large = np.arange(2 * N).reshape(N, 2)
    assert refused(npz(x=large + 2**24)) == beyond
    read = read_simulations(npz(x=large), BOTH).x
    assert torch.equal(read[:, 0], torch.tensor(large) * 1.0)
    assert refused(npz(x=np.ones((N, 2), dtype=complex))).startswith("x is complex128; ")
    assert refused(npz(theta=theta.astype(np.float16))).startswith("theta is float16; ")
    wanted = "it must be (n, 2) for ['mass', 'width']"
    assert refused(npz(theta=theta[:, :1])) == f"theta has shape (200, 1); {wanted}"
    assert refused(npz(theta=theta[:, 0])) == f"theta has shape (200,); {wanted}"
    agree = "theta has 200 rows, and x has shape (199, 2); rows must agree"
    assert refused(npz(x=x[1:])) == agree
    assert refused(npz(x=np.array(1.0))).endswith("x has shape (); rows must agree")
    assert refused(npz(theta=theta[:99], x=x[:99])) == "it has 99 rows; at least 100 are needed"
    assert refused(npz(x=x[:, :0])).endswith("which holds no number")
    axis = "x has shape (200, 2); with observations = 5 its second axis must be 5"
    assert refused(npz(), observations=5) == axis


def test_columns_that_are_missing_or_of_another_type(table):
    theta, x = pairs()
    good = {"mass": theta[:, 0], "width": theta[:, 1], "a": x[:, 0]}
    missing = "it must have one column 'width'; its columns are mass, a"
    assert refused(table({k: v for k, v in good.items() if k != "width"})) == missing
    assert refused(table(good), columns=["b"]).startswith("it must have one column 'b'; ")
    assert refused(table({k: good[k] for k in ("mass", "width")})) == "it has no column of x"
    assert len(read_simulations(table(good | {"a": np.arange(N)}), BOTH)) == N
    assert refused(table(good | {"a": ["word"] * N})).startswith("column 'a' is string; ")
    holes = [None, *x[1:, 0]]
    assert refused(table(good | {"a": holes})) == "column 'a' has missing values"
    assert refused(table(good | {"a": [[1.0, None]] * N})) == "column 'a' has missing values"
    ragged = [[1.0] * (1 + i % 3) for i in range(N)]
    assert refused(table(good | {"a": ragged})) == "column 'a' holds lists of 1 to 3 items"
    mixed = good | {"b": [[1.0, 2.0]] * N}
    assert refused(table(mixed)) == "columns 'a' and 'b' hold lists of different lengths"


def test_rows_that_are_not_finite(npz):
    theta, x = pairs()
    for number in (np.nan, np.inf, 1e39):
        x[17, 1] = number
        assert refused(npz(x=x)) == "x is NaN or infinite (as float32) in row 17"
    theta[4, 0] = np.nan
    assert refused(npz(theta=theta)).startswith("theta is NaN or infinite")


def test_rows_outside_the_ranges_and_ranges_that_are_not_filled(npz):
    theta, _ = pairs()
    outside, negative = theta.copy(), theta.copy()
    outside[31, 0] = 10.5
    assert refused(npz(theta=outside)) == "mass = 10.5 in row 31 is outside [0.0, 10.0]"
    negative[5, 1] = -1
    assert refused(npz(theta=negative)) == "width = -1 in row 5 is outside [0.1, 10.0]"
    theta[0] = np.float32(10.0), np.float32(0.1)  # 0.1 is rounded
    read_simulations(npz(theta=theta.astype(np.float32)), BOTH)
    theta[:, 1] = 10 ** np.linspace(-1, 0.7, N)
    unfilled = "width is 0.1 to 5.01187, which does not fill its range [0.1, 10.0]; "
    assert refused(npz(theta=theta)).startswith(unfilled)


def test_rows_that_are_equal(npz):
    theta, x = pairs()
    theta[150, 0] = theta[20, 0]
    read_simulations(npz(theta=theta), BOTH)  # another width
    theta[150] = theta[20]
    read_simulations(npz(theta=theta), BOTH)  # another observation
    x[150] = x[20]
    assert refused(npz(theta=theta, x=x)) == "rows 20 and 150 are equal; remove copies"
