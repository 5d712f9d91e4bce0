"""Tasks of stored simulations, which replace a simulator."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from bench.contracts.parameters import Parameter, ParameterSpace
from bench.contracts.simulation_files import StoredSimulations, read_simulations
from bench.contracts.task import ReferenceKind, Split, Task
from bench.errors import NotApplicable, counted
from bench.seeds import generator

_TEST = 5  # one in this many rows is a test dataset
_STANDARDISING = 20  # at most one in this many rows fixes the standardisation
_ENOUGH = 10_000  # observations that fix the standardisation, at most


class StoredComponent:
    """Stored simulations of a split: they exist at their own parameters only.

    Args:
        size: number of observations.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def simulate(self, context: Tensor, generator: torch.Generator) -> NoReturn:
        """Raise NotApplicable, because no observation can be made at a chosen context."""
        raise NotApplicable("there are no stored simulations at a chosen context")


class StoredTask(Task):
    r"""Task of stored simulations: pairs of parameters and observations in a file.

    A row of the file is a dataset of M observations at one θ. Parameters may follow any
    distribution within their ranges. All of them are the context of a single component.

    Rows are split by a permutation that depends on the file's numbers alone. One in five is for
    tests, at most one in twenty for the standardisation, and the others are for training.
    Test datasets are those in the inner box; closure takes all.

    Args:
        name: name of the task.
        file: an .npz or .parquet file, as `bench.contracts.read_simulations` takes.
        parameters: the parameters, in the order of theta's columns; their ranges contain all rows.
        observations: number M of observations in a row.
        columns: names of the columns of x in a .parquet file; all others where empty.

    Raises:
        DataError: if the file cannot be read or a row is not allowed.

    Example:
        >>> from bench.contracts import Parameter
        >>> mass = Parameter("mass", 0.0, 10.0, "interest", (1.0, 9.0))
        >>> StoredTask("mine", "simulations.npz", [mass])  # doctest: +SKIP
    """

    version = 1
    reference: ReferenceKind = "evidence"

    def __init__(
        self,
        name: str,
        file: str | Path,
        parameters: Sequence[Parameter],
        *,
        observations: int = 1,
        columns: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.file = Path(file).absolute()
        self.title = f"Simulations of {self.file.name}"
        self.space = ParameterSpace(parameters, [parameter.name for parameter in parameters])
        self.stored = read_simulations(
            self.file, parameters, observations=observations, columns=columns
        )
        self.observations = observations
        self.event_shape = tuple(self.stored.x.shape[2:])
        middle = torch.full((len(parameters),), 0.5, dtype=torch.float64)
        self.nominal = self.space.from_unit(middle).float()
        low, high = self.space.box
        self.points = self.space.from_unit((low + high) / 2)[None]

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"simulations": self.stored.digest}

    def components(self, split: Split) -> Mapping[str, StoredComponent]:
        return {"simulations": StoredComponent(len(self._parts[split]) * self.observations)}

    def weights(self, theta: Tensor) -> Tensor:
        return torch.ones_like(theta[..., :1])

    def datasets(self, seed: int) -> StoredSimulations:
        """Return the test datasets in the inner box, in an order that depends on the seed."""
        rows = self._ordered("test", seed)
        return StoredSimulations(self.stored.theta[rows], self.stored.x[rows])

    def training_set(self, number: int, calls: int, split: Split, seed: int) -> StoredSimulations:
        """Return one of the disjoint training sets.

        Args:
            number: number of the training set.
            calls: observations of each set, rounded up to whole rows.
            split: split of the set; "calibration" counts the rows of "train" from the last.
            seed: seed of the order of the rows.

        Raises:
            NotApplicable: if the file has too few rows.
        """
        self.check_calls(calls, number + 1, split)
        each = -(-calls // self.observations)
        rows = self._ordered(split, seed)[number * each : (number + 1) * each]
        return StoredSimulations(self.stored.theta[rows], self.stored.x[rows])

    def check_calls(self, calls: int, sets: int = 1, split: Split = "train") -> None:
        """Raise NotApplicable if the file has too few rows for disjoint training sets."""
        rows = len(self._parts[split])
        needed = sets * -(-calls // self.observations)
        if needed > rows:
            raise NotApplicable(
                f"{counted(sets, 'disjoint set')} of {counted(calls, 'observation')} need "
                f"{counted(needed, 'row')}; {self.file.name} has {rows:,} for this, of "
                f"{len(self.stored):,}"
            )

    @cached_property
    def _parts(self) -> Mapping[Split, Tensor]:
        """Numbers of the rows of each split."""
        n = len(self.stored)
        rows = torch.randperm(n, generator=self._generator("split"))
        tests = n // _TEST
        standardising = min(n // _STANDARDISING, -(-_ENOUGH // self.observations))
        test, features = rows[:tests], rows[tests : tests + standardising]
        train = rows[tests + standardising :]
        low, high = self.space.box
        unit = self.space.to_unit(self.stored.theta[test])
        inner = test[((unit >= low) & (unit <= high)).all(-1)]
        return {
            "train": train,
            "calibration": train,
            "features": features,
            "test": inner,
            "heldout": test,
        }

    def _ordered(self, split: Split, seed: int) -> Tensor:
        """Return the rows of a split, in an order that depends on the seed."""
        purpose = "train" if split == "calibration" else split
        rows = self._parts[split]
        shuffled = rows[torch.randperm(len(rows), generator=self._generator(purpose, seed))]
        return shuffled.flip(0) if split == "calibration" else shuffled

    def _generator(self, *purpose: Any) -> torch.Generator:
        return generator("stored simulations", self.stored.digest, *purpose)
