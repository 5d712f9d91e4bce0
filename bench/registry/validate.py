"""Checks of registered objects against their contracts; a violation is a one-line error."""

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from math import isfinite
from typing import Any, get_args

from torch import Tensor

from bench.contracts import (
    Constraint,
    Diagnostic,
    Method,
    Metric,
    ParameterSpace,
    PlanKind,
    Settings,
    Task,
    Wrapper,
)
from bench.contracts.diagnostic import Level, Null, Part
from bench.errors import NotApplicable, PluginError, UsageError, counted, message_of, raised_at
from bench.seeds import canonical_json

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")  # for files and patterns

_LONGEST_KEY = 200  # characters: names of a component and a parameter, joined by a dot


def is_key(key: object) -> bool:
    r"""Return whether a metric may file contributions under a key.

    Keys are printed. A slash in a column separates the key from a statistic of it, as in
    "coverage/mu/gap", so a key contains none.

    Example:
        >>> is_key("mu"), is_key(""), is_key("mu/gap"), is_key("two\nlines")
        (True, True, False, False)
    """
    return (
        isinstance(key, str)
        and len(key) <= _LONGEST_KEY
        and key.isprintable()
        and key == key.strip()
        and "/" not in key
    )


@lru_cache(maxsize=10_000)
def is_column(name: str) -> bool:
    """Return whether the name of a column of scores is the name of a metric, a slash and a key."""
    metric, slash, key = name.partition("/")
    return bool(NAME.fullmatch(metric) and slash) and is_key(key)


def one_line(error: BaseException) -> str:
    """Return an exception's type and message, without line breaks."""
    return f"{type(error).__name__}: {message_of(error)}"


def blamed(error: BaseException) -> str:
    """Return an exception's type and message, and the line of the plugin that raised it."""
    at = raised_at(error)
    return one_line(error) + (f" [{at}]" if at else "")


@contextmanager
def plugin_errors(where: str) -> Iterator[None]:
    """Convert every exception of a plugin's code into a PluginError that says where it occurred.

    Raises:
        PluginError: for every exception, including sys.exit(). PluginError, NotApplicable,
            UsageError and KeyboardInterrupt pass unchanged.
    """
    try:
        yield
    except (PluginError, NotApplicable, UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(f"{where}: {blamed(error)}") from error


def check(kind: str, name: str, loaded: Any) -> None:
    """Check a loaded object against its contract.

    Raises:
        PluginError: if it visibly breaks the contract; the message does not name the object.
    """
    if kind == "presets":
        return
    {
        "tasks": _check_task,
        "methods": _check_method,
        "wrappers": _check_wrapper,
        "metrics": _check_metric,
        "diagnostics": _check_diagnostic,
    }[kind](loaded)
    _require(loaded.name == name, f"it calls itself {loaded.name!r}; the two names must agree")
    _require(
        NAME.fullmatch(name),
        "a name is up to 64 letters, digits or . _ + -, and begins with a letter or digit",
    )


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise PluginError(otherwise)


def _check_metric(metric: Any) -> None:
    what = type(metric).__name__
    _require(isinstance(metric, Metric), f"it is not a bench.contracts.Metric but {what}")
    _require(callable(metric.compute), "its compute cannot be called")
    _check_texts(metric, {"title": (1, 60), "description": (0, 1000), "unit": (0, 20)})
    better, target, plans = metric.better, metric.target, metric.plans
    _require(
        better in ("", "lower", "higher"),
        f"its better is {better!r}, and must be 'lower', 'higher' or ''",
    )
    _require(
        target is None or (isinstance(target, int | float) and isfinite(target)),
        f"its target is {target!r}, and must be a finite number or None",
    )
    _require(
        not better or target is None,
        "it has a target and a better direction; declare one of them",
    )
    _require(
        isinstance(plans, tuple) and {*plans} <= {*get_args(PlanKind)},
        f"its plans are {plans!r}, and must be some of {get_args(PlanKind)}",
    )


def _check_diagnostic(diagnostic: Any) -> None:
    what = type(diagnostic).__name__
    _require(
        isinstance(diagnostic, Diagnostic), f"it is not a bench.contracts.Diagnostic but {what}"
    )
    _require(callable(diagnostic.compute), "its compute cannot be called")
    _check_texts(diagnostic, {"title": (1, 60), "description": (0, 1000), "citation": (0, 300)})
    allowed = {
        "level": get_args(Level),
        "takes": get_args(Part),
        "better": ("lower", "higher"),
        "null": get_args(Null),
    }
    for name, values in allowed.items():
        value = getattr(diagnostic, name)
        _require(value in values, f"its {name} is {value!r:.80}, and must be one of {values}")
    version = diagnostic.version
    _require(type(version) is int, f"its version is {version!r:.80}, and must be a whole number")


def _check_texts(loaded: Any, lengths: Mapping[str, tuple[int, int]]) -> None:
    """Require one printable line in each field, of a length from the least to the most."""
    for name, (least, most) in lengths.items():
        text = getattr(loaded, name)
        _require(
            isinstance(text, str) and text.isprintable() and least <= len(text) <= most,
            f"its {name} is {text!r:.80}, and must be one line of {least} to {most} characters",
        )


def _check_task(task: Any) -> None:
    what = type(task).__name__
    _require(isinstance(task, Task), f"it is not a bench.contracts.Task but {what}")
    types: dict[str, type] = {
        "name": str,
        "version": int,
        "space": ParameterSpace,
        "nominal": Tensor,
        "points": Tensor,
        "observations": int,
        "event_shape": tuple,
        "chunk": int,
        "expensive": bool,
    }
    missing = ", ".join(name for name in types if not hasattr(task, name))
    _require(not missing, f"it lacks {missing}")
    for name, wanted in types.items():
        value = getattr(task, name)
        what = type(value).__name__
        _require(isinstance(value, wanted), f"its {name} is {what}, not {wanted.__name__}")
    for parameter in task.space.names:  # parameters name columns and are parts of the metrics' keys
        _require(
            parameter and parameter.isprintable() and "/" not in parameter,
            f"its parameter name {parameter!r} is not allowed: it must be printable characters "
            "other than /",
        )
    _require(len(task.space), "it has no parameter")
    _check_reported(task)
    _check_constraints(task)
    what = type(task.resolution).__name__
    _require(isinstance(task.resolution, tuple), f"its resolution is {what}, not tuple")
    count, parameters = len(task.resolution), len(task.space)
    _require(
        parameters > 2 or count == parameters,
        f"it has {counted(count, 'resolution')}, and must have one per parameter, {parameters}",
    )
    for name, wanted_shape in {
        "nominal": (len(task.space.context_index),),
        "points": (len(task.points), len(task.space)),
    }.items():
        shape = tuple(getattr(task, name).shape)
        _require(shape == wanted_shape, f"its {name} has shape {shape}, not {wanted_shape}")
    least = min(task.observations, task.chunk)
    _require(least >= 1, "its observations and its chunk must be at least 1")
    # Both are parts of identities, which are hashes of JSON.
    canonical_json([dict(task.settings), [asdict(r) for r in task.resolution]])


def _check_reported(task: Task) -> None:
    names = task.reported
    _require(
        isinstance(names, tuple) and all(isinstance(name, str) for name in names),
        f"its reported is {names!r:.80}, and must be a tuple of names of parameters",
    )
    _require(len(set(names)) == len(names), f"it reports a parameter twice: {names!r:.80}")
    _require(names, "it reports no parameter: reported is empty, or no parameter is of interest")
    unknown = ", ".join(map(repr, sorted({*names} - {*task.space.names})))
    _require(not unknown, f"it reports {unknown}, not among its parameters")


def _check_constraints(task: Task) -> None:
    constraints = task.constraints
    _require(
        isinstance(constraints, tuple) and all(isinstance(c, Constraint) for c in constraints),
        f"its constraints are {constraints!r:.80}, and must be a tuple of "
        "bench.contracts.Constraint",
    )
    named = [constraint.parameter for constraint in constraints]
    _require(len({*named}) == len(named), f"it constrains a parameter twice: {named}")
    for constraint in constraints:
        what = f"its constraint of {constraint.parameter!r}"
        _require(constraint.parameter in task.space.names, f"{what} is not of a parameter")
        parameter = task.space.parameters[task.space.names.index(constraint.parameter)]
        scale = "log" if constraint.kind == "log-normal" else "linear"
        _require(
            parameter.scale == scale,
            f"{what} is {constraint.kind}, and the parameter's scale {parameter.scale!r}; it must "
            f"be {scale!r}",
        )
        low, high = parameter.inner
        _require(
            low <= constraint.centre <= high,
            f"{what} is centred at {constraint.centre:g}, outside the inner box [{low}, {high}]",
        )


def _check_method(method: Any) -> None:
    _require(
        inspect.isclass(method) and issubclass(method, Method),
        "it is not a subclass of bench.contracts.Method",
    )
    _require_concrete(method)
    for name in ("fit", "restore", "fit_component", "restore_component"):
        _check_signature(method, name)
    names = method.configurations
    _require(
        names and all(isinstance(n, str) and NAME.fullmatch(n) for n in names),
        f"its configurations must be settings by name, and are {names!r}",
    )


def _check_wrapper(wrapper: Any) -> None:
    _require(
        inspect.isclass(wrapper) and issubclass(wrapper, Wrapper),
        "it is not a subclass of bench.contracts.Wrapper",
    )
    _require_concrete(wrapper)
    for name in ("fit", "restore", "calls", "draws", "check"):
        _check_signature(wrapper, name)
    settings = wrapper.Config
    _require(
        inspect.isclass(settings) and issubclass(settings, Settings),
        "its Config is not a subclass of bench.contracts.Settings",
    )
    _require(
        (wrapper.fit is Wrapper.fit) == (wrapper.calls is Wrapper.calls),
        "it must define both of calls and fit, or neither: calls are what fit spends",
    )


def _require_concrete(found: type[Any]) -> None:
    if inspect.isabstract(found):
        raise PluginError(f"it does not define {', '.join(sorted(found.__abstractmethods__))}")


def _check_signature(method: type[Any], name: str) -> None:
    function = getattr(method, name, None)
    expected = next(
        (vars(base)[name] for base in reversed(method.__mro__) if name in vars(base)), None
    )
    if function is None or expected is None:
        return
    wanted = list(inspect.signature(expected).parameters)
    signature = inspect.signature(function)
    try:
        signature.bind(*wanted)
    except TypeError as error:
        raise PluginError(
            f"{name}{signature} has a wrong signature ({error}); it must take ({', '.join(wanted)})"
        ) from None
