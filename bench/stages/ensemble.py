"""Ensembles: the average of several trained members' log-ratios, with nothing trained anew."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from bench.contracts import FitLog, ReferenceKind, Surrogate
from bench.storage.entries import JobContext, done, is_done, read_done
from bench.storage.fit_spec import FitSpec
from bench.storage.store import Store


class Ensemble:
    """The average of other surrogates, event by event and component-wise.

    The average of logarithms is the geometric mean of the ratios, which is not normalised even
    where its members are: it has no density.

    Args:
        surrogates: trained independently, at least one; of as many members each.
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
        """As Surrogate.log_ratio."""
        total = self.surrogates[0].log_ratio(x, context)
        for surrogate in self.surrogates[1:]:
            total = total + surrogate.log_ratio(x, context)
        return total / len(self.surrogates)

    def state(self) -> Mapping[str, Tensor] | None:
        """Nothing of its own."""
        return None


def average_members(
    context: JobContext, spec: FitSpec, members: Sequence[int], report: Callable[..., None]
) -> str:
    """Note, for each member of an ensemble, what it averages and what that cost in all.

    Raises:
        StoreError: if a fit that it averages is missing or damaged, or failed.
    """
    store = Store.open(context.root)
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
    return "done"
