"""Ensembles: the average of several trained members' log-ratios, with nothing trained anew."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from bench.contracts import FitLog, ReferenceKind, Surrogate


class Ensemble:
    """One surrogate that averages others, of one member each, event by event and component-wise.

    The average of logarithms is the geometric mean of the ratios, which is not normalised even
    where its members are: it has no density.

    Args:
        surrogates: trained independently, at least one.
    """

    has_density = False

    def __init__(self, surrogates: Sequence[Surrogate]) -> None:
        self.surrogates = surrogates
        self.log = FitLog()

    @property
    def reference(self) -> ReferenceKind | None:
        """The reference of its members."""
        return self.surrogates[0].reference

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        """As Surrogate.log_ratio, with one member."""
        total = self.surrogates[0].log_ratio(x, context)
        for surrogate in self.surrogates[1:]:
            total = total + surrogate.log_ratio(x, context)
        return total / len(self.surrogates)

    def state(self) -> Mapping[str, Tensor] | None:
        """Nothing of its own."""
        return None
