"""Generated events of the challenge, in the schemas of both releases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

SHARED = Path(__file__).parents[3] / "shared" / "data"
SIGNAL_SHARE = 0.6


def silent(**_: object) -> None:
    """Show no progress."""


def fair_universe(n: int, seed: int = 0) -> pa.Table:
    """Generate events of the public schema: signal, background and ttbar."""
    rng = np.random.default_rng(seed)
    label = rng.choice(["htautau", "ztautau", "ttbar"], n, p=[SIGNAL_SHARE - 0.05, 0.4, 0.05])
    columns = {
        "PRI_lep_pt": 20 + rng.exponential(15, n),
        "PRI_lep_eta": rng.normal(0, 1.2, n),
        "PRI_lep_phi": rng.uniform(-np.pi, np.pi, n),
        "PRI_had_pt": 26 + rng.exponential(15, n),
        "PRI_had_eta": rng.normal(0, 1.2, n),
        "PRI_had_phi": rng.uniform(-np.pi, np.pi, n),
        "PRI_met": rng.exponential(20, n),
        "weights": np.ones(n),
    }
    rounded = {name: np.round(values, 3).astype(np.float32) for name, values in columns.items()}
    return pa.table({**rounded, "detailed_labels": label})


def higgs_ml(table: pa.Table) -> pa.Table:
    """Return the same events in the schema of 2014, without further backgrounds."""
    kept = table.filter(pa.compute.not_equal(table["detailed_labels"], "ttbar"))
    label = ["s" if v == "htautau" else "b" for v in kept["detailed_labels"].to_pylist()]
    names = [n.replace("PRI_had", "PRI_tau") for n in kept.column_names]
    renamed = kept.rename_columns(names).drop_columns(["detailed_labels"])
    return renamed.append_column("Label", pa.array(label))
