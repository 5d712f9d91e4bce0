"""Ensembles: averages of the log-ratios of trained members; nothing is trained."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from bench.contracts import Settings, Surrogate, Wrapped, Wrapper


class EnsembleConfig(Settings):
    """Configuration of ensembles.

    Args:
        members: number of independently trained members that one average takes.
    """

    members: int = Field(ge=2, le=9999)


class Ensemble(Wrapper):
    """Average of log-ratios, per observation and component.

    The average of logarithms is the geometric mean of the ratios. It is not normalised even if its
    members are, so it has no density.
    """

    name = "ensemble"
    title = "Average of the log-ratios of several members"
    Config = EnsembleConfig
    example: ClassVar[Mapping[str, Any]] = {"members": 2}
    config: EnsembleConfig

    @property
    def members(self) -> int:
        return self.config.members

    def restore(self, surrogates: Sequence[Surrogate], state: Mapping[str, Tensor]) -> Surrogate:
        return Wrapped(surrogates, _average)


def _average(*log_ratios: Tensor) -> Tensor:
    return reduce(torch.add, log_ratios) / len(log_ratios)
