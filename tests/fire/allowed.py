"""Allowed values and messages, defined independently of the suite."""

import fnmatch
import keyword
import math
import re

from bench.registry.registry import Registry

REGISTRY = Registry()
MILLION = 10**6
LONGEST = 700  # characters of a message, which may include a path


def one_line(text):
    return text.count("\n") == 0 and 0 < len(text) <= LONGEST


def whole(low, high):
    return lambda v: type(v) is int and low <= v <= high


def number(low, high):
    return lambda v: type(v) in (int, float) and math.isfinite(v) and low < v <= high


def listed(allowed):
    return lambda v: type(v) is list and len(v) >= 1 and all(map(allowed, v))


def text(v):
    return type(v) is str


def an_integer(low=1, high=MILLION):
    def allowed(text):
        try:
            return low <= int(text) <= high
        except ValueError:
            return False

    return allowed


def a_number(low, high, *, closed="high"):
    """Allow numbers between two bounds, one of which belongs to them."""

    def allowed(text):
        try:
            value = float(text)
        except ValueError:
            return False
        return low < value <= high if closed == "high" else low <= value < high

    return allowed


def names(kind):
    return lambda pattern: bool(fnmatch.filter(REGISTRY.names(kind), pattern))


def one_of(*allowed):
    return lambda text: text in allowed


def never(text):
    return False


SIMPLE = ("default", "same", "wide", "slow")


def a_method(pattern):
    inner, wrapped = pattern, False
    if found := re.fullmatch(r"ensemble\(\s*(.+?)\s*,\s*(\d{1,4})\s*\)", pattern):
        inner, wrapped = found[1], True
        if int(found[2]) < 2:
            return False
    if found := re.fullmatch(r"calibrated\(\s*([^\s,()]+)\s*(,\s*(platt|isotonic)\s*)?\)", inner):
        inner, wrapped = found[1], True
    if re.search(r"[\s,()]", inner) and wrapped:
        return False
    name, colon, configuration = inner.partition(":")
    methods = fnmatch.filter([*REGISTRY.names("methods"), "simple"], name)
    if wrapped and "exact" in methods and fnmatch.fnmatchcase("default", configuration or "*"):
        return False  # has one member and cannot be calibrated
    labels = [
        c for m in methods for c in (SIMPLE if m == "simple" else REGISTRY.method(m).configurations)
    ]
    return bool(methods) and (not colon or bool(fnmatch.filter(labels, configuration)))


def a_configuration(text):
    """Return whether `bench check` knows a method or task of this name."""
    name, colon, configuration = text.partition(":")
    if name in REGISTRY.names("methods"):
        return not colon or configuration in REGISTRY.method(name).configurations
    return not colon and name in REGISTRY.names("tasks")


def a_new(kind):
    """Return a function that says whether a name is new and valid for a file."""

    def allowed(text):
        return (
            len(text) <= 40
            and re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", text) is not None
            and text not in REGISTRY.names(f"{kind}s")
            and not keyword.iskeyword(text.replace("-", "_"))
            and text not in ("bench", "torch", kind)
        )

    return allowed


def a_folder(text):
    return text != "" and len(text) < 200
