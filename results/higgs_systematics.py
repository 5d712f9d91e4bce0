"""Fit the densities of the task `higgs-systematics` to events of the FAIR Universe challenge.

python results/higgs_systematics.py EVENTS.parquet SAMPLE.parquet > tasks/higgs_processes.py

EVENTS has leptons, hadronic taus and missing momenta of H→ττ and Z→ττ events; SAMPLE has jets too.
Both are excerpts of the public dataset (Bhimji et al. 2024, arXiv:2410.02867). Mixtures have one to
eight Gaussians, as many as give the highest likelihood of held-out events in five folds.
"""

import sys

import numpy as np
import pandas as pd
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import KFold

FEATURES = ("visible mass", "ratio of pT", "MET", "sum of pT")
LEAST = 50.0  # GeV, of the transverse momentum of lepton, hadronic tau and MET together
STEP = 1.03  # factor of the energy scales of which slopes are taken
NOISE = 3.0  # GeV, standard deviation of soft MET in x and y


def momenta(
    events: pd.DataFrame, tau: float = 1.0, jet: float = 1.0, noise: np.ndarray | float = 0.0
) -> tuple[np.ndarray, ...]:
    """Return momenta in the transverse plane of lepton, hadronic tau and MET, (2, n) each.

    MET balances changes of the energy scales of the hadronic tau and of jets.
    """

    def momentum(name: str) -> np.ndarray:
        pt, phi = events.get(f"PRI_{name}_pt", events.get(f"PRI_{name}")), events[f"PRI_{name}_phi"]
        pt = np.where(pt > 0, pt, 0.0)  # jets that are missing have -25
        return np.stack([pt * np.cos(phi), pt * np.sin(phi)])

    lepton, hadron, met = (momentum(name) for name in ("lep", "had", "met"))
    met = met - (tau - 1) * hadron + noise
    if jet != 1:
        met = met - (jet - 1) * (momentum("jet_leading") + momentum("jet_subleading"))
    return lepton, tau * hadron, met


def features(events: pd.DataFrame, **changes: object) -> np.ndarray:
    """Return the logarithms of the features, (n, 4)."""
    lepton, hadron, met = (np.hypot(*p) for p in momenta(events, **changes))
    rapidity = np.cosh(events["PRI_lep_eta"] - events["PRI_had_eta"])
    opening = rapidity - np.cos(events["PRI_lep_phi"] - events["PRI_had_phi"])
    mass = np.sqrt(2 * lepton * hadron * opening)
    return np.log(np.stack([mass, lepton / hadron, met, lepton + hadron + met], -1).astype(float))


def selected(events: pd.DataFrame, process: str) -> pd.DataFrame:
    """Return the selected events of a process."""
    own = events[events["detailed_labels"] == process]
    return own[np.hypot(*sum(momenta(own))) > LEAST]


def mixture(y: np.ndarray) -> tuple[GaussianMixture, list[float]]:
    """Fit a mixture of Gaussians; return it and the held-out log-likelihoods of all sizes."""
    held_out = []
    for size in range(1, 9):
        folds = KFold(5, shuffle=True, random_state=0).split(y)
        found = [fitted(y[train], size).score_samples(y[test]) for train, test in folds]
        held_out.append(float(np.concatenate(found).mean()))
    return fitted(y, 1 + int(np.argmax(held_out))), held_out


def fitted(y: np.ndarray, size: int) -> GaussianMixture:
    """Fit a mixture of a given number of Gaussians."""
    return GaussianMixture(size, n_init=3, random_state=0, reg_covar=1e-4).fit(y)


def slopes(events: pd.DataFrame, scale: str) -> tuple[float, ...]:
    """Return the mean slope of each feature in the logarithm of an energy scale."""
    more, less = (features(events, **{scale: factor}) for factor in (STEP, 1 / STEP))
    return tuple(np.round((more - less).mean(0) / (2 * np.log(STEP)), 3).tolist())


def spread(events: pd.DataFrame) -> tuple[float, ...]:
    """Return variances and covariance that `NOISE` adds to MET and to the sum of pT."""
    noise = NOISE * np.random.default_rng(0).standard_normal((2, len(events)))
    added = features(events, noise=noise) - features(events)
    (met, both), (_, total) = np.round(np.cov(added[:, 2:].T), 5).tolist()
    return met, total, both


def main() -> None:
    """Print the module of fitted numbers."""
    events, sample = (pd.read_parquet(path) for path in sys.argv[1:3])
    print('"""Densities of `higgs-systematics`, printed by results/higgs_systematics.py.\n')
    print("Each Gaussian has a weight, the means of the four logarithms, and the lower triangle of")
    print('their covariance. Below are slopes of the means, and what soft MET adds.\n"""\n')
    for name, process in (("SIGNAL", "htautau"), ("Z", "ztautau")):
        own = selected(events, process)
        found, held_out = mixture(features(own))
        print(f"# {len(own):,} events; held-out log-likelihoods per event of 1 to 8 Gaussians:")
        print(f"# {', '.join(f'{value:.3f}' for value in held_out)}.")
        print(f"{name} = (")
        for parts in zip(found.weights_, found.means_, found.covariances_, strict=True):
            weight, mean, covariance = (np.round(part, 4).tolist() for part in parts)
            rows = [*zip(*np.tril_indices(4), strict=True)]
            lower = [covariance[i][j] for i, j in rows]
            print(f"    ({weight}, {tuple(mean)}, {tuple(lower)}),")
        print(")")
        print(f"{name}_TAU = {slopes(own, 'tau')}")
        print(f"{name}_JET = {slopes(selected(sample, process), 'jet')}")
        print(f"{name}_SOFT = {spread(own)}")


if __name__ == "__main__":
    main()
