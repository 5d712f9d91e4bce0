"""Surrogate with calibrated log-ratios."""

from collections.abc import Mapping

from torch import Tensor

from bench.contracts import FitLog, ReferenceKind, Surrogate, log_ratio_paired
from bench.nn.calibration import Calibration


class Calibrated:
    """Surrogate that maps each component's log-ratios of another surrogate.

    Args:
        surrogate: surrogate with a reference.
        calibration: a map per member and component.
    """

    has_density = False

    def __init__(self, surrogate: Surrogate, calibration: Calibration) -> None:
        self.surrogate = surrogate
        self.calibration = calibration
        self.log = FitLog()

    @property
    def reference(self) -> ReferenceKind | None:
        """Reference of the surrogate's log-ratios."""
        return self.surrogate.reference

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        """Return calibrated log-ratios, as Surrogate.log_ratio."""
        return self.calibration(self.surrogate.log_ratio(x, context))

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        """Return calibrated log-ratios of pairs, as HasPairs."""
        return self.calibration(log_ratio_paired(self.surrogate, x, context))

    def state(self) -> Mapping[str, Tensor]:
        """Return the maps."""
        return self.calibration.state()
