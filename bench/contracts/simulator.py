"""Tasks of one simulator without a likelihood: a function, or a command of another language."""

import csv
import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts.constraint import Constraint
from bench.contracts.parameters import Parameter, ParameterSpace
from bench.contracts.task import Observation, ReferenceKind, Split, Task
from bench.errors import BenchError, NonFiniteError, PluginError, message_of

Array = NDArray[np.float64]
Simulate = Callable[[Array, np.random.Generator], Any]
"""Function of parameters and a random generator that returns simulated observations."""

_MARGIN = 0.2  # share of a parameter's range on either side that test datasets leave out


class Simulator(Task):
    r"""Task of a function that simulates observations; its likelihood need not be known.

    All parameters are the context of a single component.

    Args:
        name: name of the task.
        simulate: function of parameters, a float64 array, and a `numpy.random.Generator`. It
            returns an array or a tensor of finite numbers.
        parameters: training range (low, high) of each parameter by name, in the order of the
            function's argument. An instance of `Parameter` has a scale and an inner box of its own.
        observations: number M of independent observations in a dataset.
        nuisances: names of the parameters that are profiled, and not reported.
        constraints: auxiliary measurements of parameters.
        batch: whether the function takes many parameter sets, (n, P) to (n, \*event); otherwise it
            takes one, (P,) to (\*event).
        observation: type of an observation: "vector", "series" or "field".
        discrete: whether observations are whole numbers.
        event_shape: shape of an observation; found by a call where None.
        expensive: whether calls are so slow that none may be wasted.
        title: what it is, in a few words.

    Raises:
        ValueError: if a parameter is not allowed.

    Example:
        >>> def decays(theta, rng):
        ...     return rng.exponential(1 / theta)
        >>> task = Simulator("decays", decays, {"rate": (0.5, 2.0)}, observations=50, batch=True)
        >>> task.event_shape, task.space.parameters[0].inner
        ((1,), (0.8, 1.7))
    """

    version = 1
    reference: ReferenceKind = "evidence"

    def __init__(
        self,
        name: str,
        simulate: Simulate,
        parameters: Mapping[str, tuple[float, float] | Parameter],
        *,
        observations: int = 1,
        nuisances: Sequence[str] = (),
        constraints: Sequence[Constraint] = (),
        batch: bool = False,
        observation: Observation = "vector",
        discrete: bool = False,
        event_shape: tuple[int, ...] | None = None,
        expensive: bool = False,
        title: str = "",
    ) -> None:
        if not isinstance(parameters, Mapping) or not parameters:
            raise ValueError("parameters must be ranges (low, high) by name, at least one")
        if observation not in get_args(Observation):
            known = ", ".join(get_args(Observation))
            raise ValueError(f"observation = {observation!r} is not allowed; known: {known}")
        nuisances = (nuisances,) if isinstance(nuisances, str) else tuple(nuisances)
        if unknown := sorted({*nuisances} - {*parameters}):
            raise ValueError(f"nuisances {unknown} are not among {[*parameters]}")
        self.name = name
        self.title = title or name
        self.space = ParameterSpace(
            [_parameter(key, value, key in nuisances) for key, value in parameters.items()],
            [*parameters],
        )
        self.observations = observations
        self.constraints = tuple(constraints)
        self.observation = observation
        self.discrete = discrete
        self.expensive = expensive
        middle = torch.full((len(self.space),), 0.5, dtype=torch.float64)
        self.nominal = self.space.from_unit(middle).float()
        low, high = self.space.box
        self.points = self.space.from_unit((low + high) / 2)[None]
        self.source = _Source(name, simulate, batch, self.space.names)
        if event_shape is not None:
            vars(self)["event_shape"] = tuple(event_shape)

    @cached_property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of an observation, from a call at nominal parameters."""
        found = self.source.run(self.nominal[None].double().numpy(), np.random.default_rng(0))
        return tuple(found.shape[1:])

    @property
    def settings(self) -> Mapping[str, Any]:
        known = getattr(self.source.function, "digest", "")
        return {"command": known} if known else {}

    def components(self, split: Split) -> Mapping[str, "_Source"]:
        return {"simulator": self.source}

    def weights(self, theta: Tensor) -> Tensor:
        return torch.ones_like(theta[..., :1])


def _parameter(name: str, value: tuple[float, float] | Parameter, nuisance: bool) -> Parameter:
    if isinstance(value, Parameter):
        return value
    try:
        low, high = map(float, value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the range of {name} is {value!r}, and must be (low, high)") from error
    margin = _MARGIN * (high - low)
    kind: Any = "nuisance" if nuisance else "interest"
    return Parameter(name, low, high, kind, (low + margin, high - margin))


class _Source:
    """Component of a simulator.

    Args:
        name: name of the task, for messages.
        function: the simulator.
        batch: whether it takes many parameter sets.
        parameters: names of the parameters.
    """

    size = None

    def __init__(
        self, name: str, function: Simulate, batch: bool, parameters: tuple[str, ...]
    ) -> None:
        self.name, self.function, self.batch, self.parameters = name, function, batch, parameters

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        r"""Simulate one observation per context, (\*B, d) to (\*B, \*event) float32."""
        theta = context.reshape(-1, len(self.parameters)).double().numpy()
        words = torch.randint(2**32, (4,), generator=generator).tolist()
        x = self.run(theta, np.random.default_rng(words))
        return torch.from_numpy(x).view(*context.shape[:-1], *x.shape[1:])

    def run(self, theta: Array, rng: np.random.Generator) -> NDArray[np.float32]:
        r"""Call the simulator at n parameter sets, (n, P) to (n, \*event) float32.

        Raises:
            PluginError: if it raises, or returns other shapes or types than it must.
            NonFiniteError: if a number is not finite.
        """
        if self.batch:
            x = self._array(self._call(theta, theta, rng))
            if x.ndim == 0 or len(x) != len(theta):
                raise PluginError(
                    f"simulate of {self.name} returned shape {x.shape} for {len(theta)} parameter "
                    f"sets; it must be ({len(theta)}, …)"
                )
        else:
            every = [self._array(self._call(one, one[None], rng)) for one in theta]
            shapes = {one.shape: one for one in every}
            if len(shapes) > 1:
                raise PluginError(
                    f"simulate of {self.name} returned shapes {' and '.join(map(str, shapes))}; "
                    "all observations must have one shape"
                )
            x = np.stack(every)
        x = x[:, None] if x.ndim == 1 else x
        if not x.size:
            raise PluginError(f"simulate of {self.name} returned no number, shape {x.shape}")
        bad = ~np.isfinite(x).reshape(len(x), -1).all(1)
        if bad.any():
            at = self._at(theta[bad.argmax()][None])
            raise NonFiniteError(f"simulate of {self.name} returned NaN or infinite numbers {at}")
        return np.ascontiguousarray(x, np.float32)

    def _call(self, argument: Array, rows: Array, rng: np.random.Generator) -> Any:
        try:
            return self.function(argument.copy(), rng)
        except BenchError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {message_of(error)}"
            raise PluginError(f"simulate of {self.name} raised {what} {self._at(rows)}") from error

    def _array(self, value: Any) -> NDArray[Any]:
        try:
            found = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        except ValueError:
            found = np.asarray(None)
        if found.dtype.kind not in "fiub":
            raise PluginError(
                f"simulate of {self.name} returned {type(value).__name__} of {found.dtype}; it "
                "must return an array of numbers"
            )
        return found

    def _at(self, rows: Array) -> str:
        if len(rows) > 1:
            return f"for {len(rows):,} parameter sets"
        pairs = zip(self.parameters, rows[0], strict=True)
        return "at " + ", ".join(f"{name} = {value:.6g}" for name, value in pairs)


def from_command(command: Sequence[str], *, seconds: float = 3600.0) -> Simulate:
    """Return a function that runs a command, for a simulator in another language.

    The command reads parameters from a file and writes observations to another. Both are CSV
    files. The first has a header with the names `seed` and `0` to `P−1`, and a row for every
    parameter set: the seed of its random numbers, and its parameters. The second has no header,
    and a row of numbers for every observation. Use it with `batch=True`.

    The command, and the content of files that it names, are part of the identity of results. Files
    that these read are not.

    Args:
        command: program and arguments; `{parameters}` and `{observations}` are replaced by the
            names of the files.
        seconds: time limit of one call.

    Raises:
        ValueError: if the command does not name both files.

    Example:
        >>> simulate = from_command(["Rscript", "model.R", "{parameters}", "{observations}"])
    """
    if not all(any(part in word for word in command) for part in _FILES):
        raise ValueError(f"the command must contain {' and '.join(_FILES)}")

    content = hashlib.sha256(repr([*command]).encode())
    for word in command:
        if Path(word).is_file():
            content.update(Path(word).read_bytes())

    def simulate(theta: Array, rng: np.random.Generator) -> NDArray[np.float64]:
        with tempfile.TemporaryDirectory() as folder:
            places = [Path(folder) / f"{name.strip('{}')}.csv" for name in _FILES]
            with places[0].open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["seed", *map(str, range(theta.shape[1]))])
                seeds = rng.integers(2**31, size=len(theta)).tolist()
                writer.writerows(
                    [seed, *row] for seed, row in zip(seeds, theta.tolist(), strict=True)
                )
            words = [*command]
            for name, place in zip(_FILES, places, strict=True):
                words = [word.replace(name, str(place)) for word in words]
            shown = " ".join(command)
            try:
                done = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
            except FileNotFoundError:
                raise PluginError(f"there is no program {words[0]!r}") from None
            except subprocess.TimeoutExpired:
                raise PluginError(f"{shown}: no result after {seconds:g} s") from None
            if done.returncode:
                last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
                raise PluginError(f"{shown}: exit status {done.returncode}: {last[0]}")
            if not places[1].is_file():
                raise PluginError(f"{shown}: it wrote no file of observations")
            try:
                return np.loadtxt(places[1], delimiter=",", ndmin=2)
            except ValueError as error:
                raise PluginError(
                    f"{shown}: its observations are no numbers: {message_of(error)}"
                ) from error

    vars(simulate)["digest"] = content.hexdigest()
    return simulate


_FILES = ("{parameters}", "{observations}")
