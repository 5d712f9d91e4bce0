"""Higgs with systematic uncertainties on simulated events of the FAIR Universe challenge.

Model, yields and constraints are those of `higgs-systematics`, which widens the scales of ttbar and
of the background. Events are those of `higgs-fair` with ttbar and dibosons, in its two features,
and there is no density. Columns of the public events allow four of the six nuisance parameters of
the challenge:

=========================  =====================================  ==================================
nuisance                   column                                 here
=========================  =====================================  ==================================
tau energy scale           PRI_had_pt                             recomputes both features
ttbar, diboson and         detailed_labels                        scale the yields of processes
background scales
jet energy scale           PRI_jet_leading_pt, and further jets   changes missing transverse
                                                                  momentum (MET) alone
soft MET                   PRI_met, PRI_met_phi                   changes MET alone
=========================  =====================================  ==================================

Visible mass and ratio of transverse momenta do not depend on MET. The last two would have no
effect, so they are left out. No selection depends on an energy scale.
"""

from collections.abc import Mapping
from typing import Any

import torch

from bench.contracts import Component, ParameterSpace, Split

from .fair_universe import FairUniverse
from .higgs import FEATURES
from .higgs_fair import PART_OF, TauEvents, require_events
from .higgs_systematics import HiggsSystematics

_PROCESSES = {"signal": "signal", "Z": "background", "ttbar": "ttbar", "diboson": "diboson"}
_WITHOUT_EFFECT = ("jet_scale", "soft_met")


class HiggsFairSystematics(HiggsSystematics):
    """H→ττ over Z→ττ, ttbar and dibosons with four constrained nuisance parameters."""

    name = "higgs-fair-systematics"
    title = "Higgs to tau leptons, FAIR Universe events, four nuisances"
    version = 1
    event_shape = (2,)
    feature_names = FEATURES
    space = ParameterSpace(
        [p for p in HiggsSystematics.space.parameters if p.name not in _WITHOUT_EFFECT],
        context=["tau_scale"],
    )
    constraints = tuple(
        c for c in HiggsSystematics.constraints if c.parameter not in _WITHOUT_EFFECT
    )
    nominal = torch.ones(1)
    points = torch.tensor([[mu, 1, 1, 1, 1] for mu in (0.8, 1.1, 1.4)], dtype=torch.float64)

    def __init__(self) -> None:
        self.data = self.events = FairUniverse()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"events": self.events.digest, "further": self.events.further_digest}

    def check(self) -> None:
        require_events(self, self.events)

    def components(self, split: Split) -> Mapping[str, Component]:
        return {
            name: TauEvents(self.events.read(process, PART_OF[split]))
            for name, process in _PROCESSES.items()
        }
