"""Every key of a preset, with invalid values: one line for each that is not allowed."""

import datetime
import json
import math
import re

import pytest
from allowed import MILLION, REGISTRY, listed, number, one_line, text, whole
from hypothesis import example, given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.experiment.preset import Preset, read_preset

PLANS = {
    "independent": {
        "uniform": whole(2, MILLION),
        "per_point": whole(0, MILLION),
        "observations": whole(1, MILLION),
    },
    "bootstrap": {
        "sets": whole(1, MILLION),
        "multiple": whole(1, MILLION),
        "bootstraps": whole(2, MILLION),
        "stratified": lambda v: type(v) is bool,
        "observations": whole(1, MILLION),
    },
    "heldout": {"contexts": whole(2, MILLION), "events": whole(2, MILLION)},
}


def a_plan(v):
    if type(v) is not dict or type(v.get("kind")) is not str or v["kind"] not in PLANS:
        return False
    allowed = PLANS[v["kind"]]
    return all(k == "kind" or (k in allowed and allowed[k](inner)) for k, inner in v.items())


KEYS = {
    "description": text,
    "tasks": listed(text),
    "methods": listed(text),
    "members": whole(1, 10_000),
    "budgets": listed(whole(1, 10**12)),
    "training_data": lambda v: v in ("fresh", "shared", "bootstrap"),
    "seed": whole(0, 2**31 - 1),
    "device": lambda v: v in ("auto", "cpu", "cuda"),
    "time_limit": number(0, math.inf),
    "memory_limit": number(0, 1e6),
    "plans": listed(a_plan),
}
characters = st.characters(exclude_categories=["Cs"])
texts = st.text(characters, max_size=12) | st.sampled_from(
    ["", "\0", "\x1b[31m", "<b>", "../..", "x" * 5000, "*", "[", "fresh", "cpu", "\u202e", "nan"]
)
wholes = st.integers(-3, 12) | st.integers(-(10**40), 10**40) | st.integers(MILLION - 1, 2**31 + 1)
scalars = wholes | st.floats() | st.booleans() | texts | st.dates() | st.times() | st.datetimes()
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
plans = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from([*PLANS, "independant"]) | anything,
        **{key: wholes | scalars for keys in PLANS.values() for key in keys},
        "more": scalars,
    },
) | st.sampled_from(sorted(PLANS)).flatmap(
    lambda kind: st.fixed_dictionaries(
        {"kind": st.just(kind)}, optional=dict.fromkeys(PLANS[kind], wholes | st.booleans())
    )
)
VALUES = {
    "plans": st.lists(plans, max_size=2),
    "tasks": st.lists(texts, max_size=3),
    "methods": st.lists(texts, max_size=3),
    "budgets": st.lists(wholes, max_size=3),
    "time_limit": st.floats() | wholes,
    "memory_limit": st.floats() | wholes,
    "members": wholes,
    "seed": wholes,
}
presets = st.fixed_dictionaries(
    {}, optional={key: VALUES.get(key, texts) | anything for key in KEYS}
) | st.dictionaries(texts | st.sampled_from(sorted(KEYS)), anything, max_size=4)


def toml(value):
    """Return a value in TOML syntax."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value).replace("\\/", "/").replace("\x7f", "\\u007f")
        case datetime.date() | datetime.time():
            return value.isoformat()
        case float() if not math.isfinite(value):
            return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _surrogates(text):
    """Join surrogate pairs, which JSON escapes use and TOML does not."""
    return re.sub(
        r"\\ud([89ab]..)\\ud([c-f]..)",
        lambda m: json.loads(f'"{m[0]}"'),
        text,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("presets") / "some.toml"


def read(place):
    """Return a preset and "", or None and the error message."""
    try:
        return read_preset(REGISTRY, str(place), {}), ""
    except UsageError as error:
        return None, str(error)


@given(values=presets)
@example(values={"plans": [{"kind": "independent", "uniform": 10**12}]})
@example(values={"plans": [{"kind": "independent", "observations": 10**30}]})
@example(values={"x" * 5000: 1})
def test_keys_of_presets(place, values):
    place.write_text(
        _surrogates("\n".join(f"{toml(k)} = {toml(v)}" for k, v in values.items())),
        encoding="utf-8",
    )
    allowed = all(key in KEYS and KEYS[key](value) for key, value in values.items())
    preset, problem = read(place)
    assert allowed == (preset is not None), problem
    if preset is None:
        assert one_line(problem), problem
        assert problem.startswith(f"preset {place}")
    else:
        made = preset.model_dump(mode="json")
        for key in values.keys() - {"plans"}:
            asked = values[key]
            assert made[key] == (float(asked) if key.endswith("_limit") else asked)
        for plan, asked in zip(made["plans"], values.get("plans", made["plans"]), strict=True):
            assert asked.items() <= plan.items()
        assert Preset.model_validate(made) == preset


@given(content=st.binary(max_size=60) | texts.map(str.encode))
def test_files_that_are_no_presets(place, content):
    place.write_bytes(content)
    preset, problem = read(place)
    assert preset is not None or one_line(problem), problem
