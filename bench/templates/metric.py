"""my-metric: how often the generating value lies above its interval. Change it to your own metric.

bench check ./my_metric.py                           check that it keeps the contract
bench run smoke --plugin ./my_metric.py              show it on a leaderboard
bench score results/smoke --plugin ./my_metric.py    compute it from saved predictions
"""

from bench.contracts import Metric


def missed_above(prediction, truth):
    """Return a contribution of every dataset by key, (datasets,) each; NaN where it has none.

    `truth` is the exact likelihood's prediction of the same datasets, or None. Fields of
    `prediction`: `datasets.theta` and `curves.mle`, generating parameters and estimates of all
    parameters, (datasets, parameters); `curves.lower` and `curves.upper`, ends of 68.27 %
    intervals of the reported ones, (datasets, reported).
    """
    theta = prediction.datasets.theta[:, list(prediction.reported)]  # (datasets, reported)
    above = theta > prediction.curves.upper
    return {name: above[:, i] for i, name in enumerate(prediction.reported_names)}


my_metric = Metric(
    name="my-metric",
    title="missed above",  # heading of its column
    description="Share of datasets whose generating value lies above the 68.27 % interval.",
    plans=("independent", "bootstrap"),  # where it is defined; "heldout" has other predictions
    compute=missed_above,
    needs_truth=False,  # True if it reads `truth`; it is then n/a without an exact likelihood
    share=True,  # contributions are yes or no
    unit="",  # such as "nats" or "half-widths"
    target=0.159,  # the ideal mean; or better="lower" or "higher"
    version=1,  # raise it when the numbers change; in a plugin file the file's hash is enough
)
