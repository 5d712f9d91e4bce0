"""Calibration of the log-ratios of trained members by monotone maps."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from bench.contracts import FitContext, Settings, Surrogate, Wrapped
from bench.nn.calibration import Calibration, CalibrationKind
from bench.wrappers.held_out import HeldOutWrapper


class CalibratedConfig(Settings):
    """Configuration of calibrations.

    Args:
        kind: "platt" for a straight line, "isotonic" for any increasing function.
    """

    kind: CalibrationKind = "platt"


class Calibrated(HeldOutWrapper):
    """Monotone map of the log-ratios of every component, fitted with a tenth of the budget."""

    name = "calibrated"
    title = "Monotone maps of log-ratios, fitted to simulations that training has not seen"
    citation = "Cranmer, Pavez & Louppe (2015), arXiv:1506.02169"
    Config = CalibratedConfig
    config: CalibratedConfig

    def fit(self, surrogates: Sequence[Surrogate], fit_context: FitContext) -> Mapping[str, Tensor]:
        """Fit one map per component."""
        maps = [
            Calibration.fit(self.config.kind, one.together[0], one.apart[0], one.simulations)
            for one in self.pairs(surrogates, fit_context)
        ]
        return Calibration.stack([Calibration.stack(maps)]).state()

    def restore(self, surrogates: Sequence[Surrogate], state: Mapping[str, Tensor]) -> Surrogate:
        return Wrapped(surrogates, Calibration(**state), state)
