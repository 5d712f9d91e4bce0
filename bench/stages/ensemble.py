"""Ensembles: averages of the log-ratios of trained members; nothing is trained."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from bench.contracts import FitLog, ReferenceKind, Surrogate, log_ratio_paired
from bench.storage.entries import JobContext, done, is_done, read_done
from bench.storage.fit_spec import FitSpec
from bench.storage.store import Store


class Ensemble:
    """Surrogate that averages the log-ratios of other surrogates, per event and component.

    The average of logarithms is the geometric mean of the ratios. It is not normalised even if its
    members are, so it has no density.

    Args:
        surrogates: independently trained surrogates, at least one, with equal numbers of members.
    """

    has_density = False

    def __init__(self, surrogates: Sequence[Surrogate]) -> None:
        self.surrogates = surrogates
        self.log = FitLog()

    @property
    def reference(self) -> ReferenceKind | None:
        """Reference of its members."""
        return self.surrogates[0].reference

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        """Return average log-ratios, as Surrogate.log_ratio."""
        return self._average(s.log_ratio(x, context) for s in self.surrogates)

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        """Return average log-ratios of pairs, as HasPairs."""
        return self._average(log_ratio_paired(s, x, context) for s in self.surrogates)

    def _average(self, log_ratios: Iterable[Tensor]) -> Tensor:
        return functools.reduce(torch.add, log_ratios) / len(self.surrogates)

    def state(self) -> Mapping[str, Tensor] | None:
        """Return None, because the members are saved by themselves."""
        return None


def average_members(
    context: JobContext, spec: FitSpec, members: Sequence[int], report: Callable[..., None]
) -> str:
    """Write a record for each member of an ensemble, with the total cost of its averaged fits.

    Raises:
        StoreError: if a fit that it averages is missing or damaged, or failed.
    """
    store = Store.open(context.root)
    outcome = "reused"
    for member in members:
        key = spec.fit_key(member)
        with store.lock(key):
            if is_done(store, key, context.overwrite_before):
                continue
            records = [read_done(store, k).record for k in spec.base_keys(member)]
            shared = spec.identity["training_data"] != "fresh"
            made = [r.get("calls_made") for r in records]
            record = done(
                member=member,
                seconds=sum(r["seconds"] for r in records),
                stack=1,
                calls=records[0]["calls"] if shared else sum(r["calls"] for r in records),
                calls_made=made[0] if shared or None in made else sum(made),
                parameters=sum(r["parameters"] for r in records),
                curves={},
                environment=records[0]["environment"],
            )
            store.write(key, record)
            outcome = "done"
    return outcome
