"""A surrogate whose log-ratios are calibrated."""

from collections.abc import Mapping

from torch import Tensor

from bench.contracts import FitLog, ReferenceKind, Surrogate
from bench.nn.calibration import Calibration


class Calibrated:
    """Another surrogate, with each component's log-ratios mapped by a function of its own.

    Args:
        surrogate: with a reference.
        calibration: a map per member and component.
    """

    has_density = False

    def __init__(self, surrogate: Surrogate, calibration: Calibration) -> None:
        self.surrogate = surrogate
        self.calibration = calibration
        self.log = FitLog()

    @property
    def reference(self) -> ReferenceKind | None:
        """The reference of what is calibrated."""
        return self.surrogate.reference

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        """As Surrogate.log_ratio."""
        return self.calibration(self.surrogate.log_ratio(x, context))

    def state(self) -> Mapping[str, Tensor]:
        """The maps."""
        return self.calibration.state()
