r"""Higgs on simulated events of the FAIR Universe challenge, H→ττ over Z→ττ, without a density.

At tau energy scale z the transverse momentum of the hadronic tau is multiplied by z. Then
:math:`m_\text{vis} = \sqrt{2 p_T^\ell p_T^h (\cosh\Delta\eta - \cos\Delta\phi)}` and the ratio
:math:`p_T^\ell / p_T^h` are recomputed. Every event counts once, without its weight, as in
Sluijter, Diefenbacher, Bhimji & Nachman (2025). `had_pt_min` selects events after scaling, as the
challenge does with 26 GeV. Public events start near 23 GeV, so the selection gains events at z > 1
and loses events at z < 1. It changes the shape of the accepted events. μ counts accepted events, so
a smaller acceptance at lower z carries no information about μ.
"""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts import Component, Log, Split, Task
from bench.errors import DataError, NotApplicable

from .fair_universe import FairUniverse
from .higgs import ENERGY_SCALE, ENERGY_SCALES, FEATURES
from .signal import SignalAndBackground

PART_OF: Mapping[Split, str] = {
    "train": "train",
    "features": "train",
    "heldout": "validation",
    "calibration": "validation",
    "test": "test",
}
"""Part of the stored events that each split takes."""


class TauEvents:
    """Events of a file, evaluated at any tau energy scale; d = 1, event shape (2,).

    Args:
        events: pT of the lepton and of the hadronic tau in GeV, cosh Δη − cos Δφ; (n, 3) float32.
        had_pt_min: smallest pT in GeV of the scaled hadronic tau; None for no selection.
    """

    def __init__(self, events: NDArray[np.float32], had_pt_min: float | None = None) -> None:
        self._events = events
        self._had_pt_min = had_pt_min

    @property
    def size(self) -> int:
        """Number of events that pass the selection at every energy scale."""
        if self._had_pt_min is None:
            return len(self._events)
        return int(np.sum(self._events[:, 1] * ENERGY_SCALE.low >= self._had_pt_min))

    def block(self, number: int, of: int) -> "TauEvents":
        """Return one of `of` disjoint parts."""
        if self._had_pt_min is None:
            return TauEvents(self._events[number::of])
        # Events that always pass are distributed first, so that every block has some.
        always = self._events[:, 1] * ENERGY_SCALE.low >= self._had_pt_min
        parts = (np.flatnonzero(always)[number::of], np.flatnonzero(~always)[number::of])
        return TauEvents(self._events[np.concatenate(parts)], self._had_pt_min)

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        scale = context[..., 0].double().flatten().numpy()
        n, held = len(scale), len(self._events)
        seed = int(torch.randint(2**62, (), generator=generator))
        rng = np.random.default_rng(seed)
        order = rng.permutation(held)
        row = order[np.arange(n) * min(n, held) // n]
        spare = order[n:]  # replacements of events that fail the selection
        if self._had_pt_min is not None and n and not self.size:
            raise DataError(
                f"no event passes pT_had > {self._had_pt_min} GeV at every energy scale"
            )
        while self._had_pt_min is not None:
            failing = np.flatnonzero(self._events[row, 1] * scale < self._had_pt_min)
            if not len(failing):
                break
            more = rng.choice(held, max(0, len(failing) - len(spare)))
            row[failing] = np.concatenate([spare, more])[: len(failing)]
            spare = spare[len(failing) :]
        lepton, hadron, opening = self._events[row].astype(np.float64).T
        hadron = hadron * scale
        x = np.stack([np.sqrt(2 * lepton * hadron * opening), lepton / hadron], -1)
        return torch.from_numpy(x).float().view(*context.shape[:-1], 2)


class HiggsFair(SignalAndBackground):
    """H→ττ over Z→ττ, events of the FAIR Universe challenge.

    Args:
        name: name of the task.
        had_pt_min: smallest pT in GeV of the hadronic tau after scaling; None for no selection.
    """

    title = "Higgs to tau leptons, FAIR Universe events"
    version = 1
    citation = "Sluijter, Diefenbacher, Bhimji & Nachman (2025)"
    feature_names = FEATURES
    transform = Log()
    nominal = torch.tensor([1.0])

    def __init__(self, name: str = "higgs-fair", had_pt_min: float | None = None) -> None:
        if had_pt_min is not None:
            number = isinstance(had_pt_min, Real) and not isinstance(had_pt_min, bool)
            if not (number and math.isfinite(had_pt_min) and had_pt_min > 0):
                raise ValueError(
                    f"had_pt_min = {had_pt_min!r} is not allowed: it must be a finite, positive "
                    "number of GeV, or None"
                )
            had_pt_min = float(had_pt_min)
        super().__init__(ENERGY_SCALE, ENERGY_SCALES)
        self.name = name
        self.had_pt_min = had_pt_min
        self.data = self.events = FairUniverse()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"events": self.events.digest, "had_pt_min": self.had_pt_min}

    def check(self) -> None:
        require_events(self, self.events)

    def components(self, split: Split) -> Mapping[str, Component]:
        return {
            name: TauEvents(self.events.read(name, PART_OF[split]), self.had_pt_min)
            for name in ("signal", "background")
        }


def require_events(task: Task, events: FairUniverse) -> None:
    """Raise NotApplicable unless every component of a task has events in every part."""
    if events.digest is None:
        raise NotApplicable(
            "the events of higgs-fair are not here: `bench data fetch higgs-fair` downloads "
            "them, `bench data fetch higgs-fair --from PATH` takes a file or folder"
        )
    for split, part in PART_OF.items():
        for name, component in task.components(split).items():
            if not component.size:
                raise NotApplicable(f"{task.name} has no {name} event in its {part} split")
