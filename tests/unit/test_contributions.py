"""Contributions of metrics: allowed values, and messages about wrong ones."""

import math

import numpy as np
import pytest

from bench.contracts import HeldOut, HeldOutPrediction, Metric
from bench.errors import PluginError
from bench.registry.registry import Registry
from bench.stages.score import score


def answer(returned, **settings):
    return Metric("answer", "answer", "An answer.", ("independent",), returned, **settings)


@pytest.fixture(scope="module")
def prediction(module_made):
    return module_made(uniform=4, per_point=1).prediction(Registry().task("gaussians-far"))


def scored(prediction, returned, **settings):
    arrays, undefined = score([answer(lambda p, t: returned, **settings)], prediction, None)
    return {name: v for name, v in arrays.items() if name.startswith("answer")}, undefined


ONES = np.ones(13)
INFINITE = np.array([math.inf, 1, 1, -math.inf, *[1] * 9])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"two\nlines": ONES}, r"returned the key 'two\\nlines'; a key is a text of up to 200 "),
        ({"red\x1b[31m": ONES}, r"the key 'red\\x1b\[31m'; a key is"),
        ({"mu/gap": ONES}, "the key 'mu/gap'; a key is .*without a slash"),
        ({" mu": ONES}, "the key ' mu'; a key is .*without blanks"),
        ({"x" * 201: ONES}, r"the key 'x+\.\.\.x+'; a key is"),
        ({"\ud800": ONES}, r"the key '\\ud800'; a key is"),
        ({3: ONES}, "the key 3; a key is"),
        ({None: ONES}, "the key None; a key is"),
        ({str(i): ONES for i in range(1000)}, "returned 1,001 keys; 1000 are allowed"),
        ({"mu": ONES * 1j}, "values of type complex128 for 'mu'; they must be real numbers"),
        ({"mu": np.array([None] * 13)}, "values of type object for 'mu'"),
        ({"mu": ["1"] * 13}, "values of type <U1 for 'mu'"),
        ({"mu": ONES.astype("datetime64[s]")}, r"values of type datetime64\[s\] for 'mu'"),
        ({"mu": ONES > 0}, "booleans for 'mu'; .* is declared with share=True"),
        ({"mu": 1.0}, r"shape \(\) for 'mu'; it must be one contribution per dataset, \(13,\)"),
        ({"mu": ONES[:, None]}, r"shape \(13, 1\) for 'mu'"),
        ({"mu": ONES[:0]}, r"shape \(0,\) for 'mu'"),
        ({"mu": [[1.0], [1.0, 2.0]]}, "fails: ValueError"),
        ({"mu": INFINITE}, r"infinite values for 'mu' in 2 of 13 datasets \(0, 3\); NaN says"),
        ({"mu": math.inf * ONES}, r"in 13 of 13 datasets \(0, 1, 2, 3, 4, …\); NaN says"),
    ],
)
def test_what_breaks_the_contract_is_told_in_one_line(prediction, returned, message):
    with pytest.raises(PluginError, match=f"^metric 'answer' .*{message}") as told:
        scored(prediction, {"z": ONES, **returned})
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 250


def test_values_whose_mean_is_infinite_are_refused(made):
    root = made(uniform=4, per_point=1)
    own = root.prediction(Registry().task("gaussians-far"))
    own.datasets.set[:] = 0
    with pytest.raises(PluginError, match="for 'mu' that are too large to be averaged"):
        scored(own, {"mu": np.full(13, 1e308)})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (list(range(13)), np.arange(13.0)),
        (np.arange(13, dtype=np.uint8), np.arange(13.0)),
        (np.float32(2) * ONES.astype(np.float16), 2 * ONES),
        (math.nan * ONES, math.nan * ONES),
        (np.ma.array(ONES, mask=np.arange(13) > 3), [1.0] * 4 + [math.nan] * 9),
    ],
)
@pytest.mark.parametrize("key", ["", "mu", "σ 95 %", "signal.z", np.str_("mu")])
def test_real_numbers_of_any_type_are_kept(prediction, key, values, expected):
    arrays, undefined = scored(prediction, {key: values})
    assert list(arrays) == [f"answer/{key}"]
    assert arrays[f"answer/{key}"].dtype == np.float64
    np.testing.assert_array_equal(arrays[f"answer/{key}"], expected)
    assert undefined == {}


def test_shares_may_be_booleans(prediction):
    arrays, _ = scored(prediction, {"": np.arange(13) > 3}, share=True)
    assert arrays["answer/"].tolist() == [0.0] * 4 + [1.0] * 9


@pytest.mark.parametrize("kind", ["ratio", "density"])
def test_infinite_losses_are_contexts_that_have_none(kind):
    """The suite's metrics convert infinite losses to NaN."""
    rng = np.random.default_rng(0)
    own, reference = rng.standard_normal((2, 2, 3, 5))
    slopes = rng.standard_normal((2, 3, 5, 1))
    own[0, 0, 0] = own[1, 1] = reference[0, 1] = -np.inf
    reference[1, 2, 1] = np.inf
    slopes[0, 2, 3] = np.inf
    flags = np.array(kind == "density"), np.array(kind == "ratio")
    values = HeldOut(np.zeros((3, 1)), own, reference, slopes, *flags)
    exact = HeldOut(np.zeros((3, 1)), own, reference, rng.standard_normal(slopes.shape), *flags)
    names = ("background", "signal"), ("z",)
    metrics = [m for m in Registry().metrics() if "heldout" in m.plans]
    with np.errstate(all="ignore"):
        arrays, undefined = score(
            metrics, HeldOutPrediction(*names, values), HeldOutPrediction(*names, exact)
        )
    assert not any(np.isinf(v).any() for v in arrays.values())
    assert set(undefined) == ({"bce", "log_mean_ratio"} if kind == "density" else {"nll"})
    loss = "nll" if kind == "density" else "bce"
    assert np.isnan(arrays[f"{loss}/signal"]).tolist() == [False, True, kind == "ratio"]
