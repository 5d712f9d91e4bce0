"""`higgs-systematics` with all nuisance parameters known, to measure what they cost a surrogate."""

from dataclasses import replace

from bench.tasks.higgs_systematics import HiggsSystematics


class HiggsKnown(HiggsSystematics):
    """The same task with constraints a hundred times tighter."""

    name = "higgs-known"
    title = "Higgs to tau leptons, nuisance parameters known"
    constraints = tuple(replace(c, width=c.width / 100) for c in HiggsSystematics.constraints)


higgs_known = HiggsKnown()
