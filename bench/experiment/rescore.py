"""Plan the scores of every saved prediction of a results folder."""

import re
from collections.abc import Sequence
from dataclasses import fields

from bench.experiment.jobs import ScoreJob
from bench.registry.registry import Registry
from bench.storage import schema
from bench.storage.entries import JobContext, inspect, is_done, plan_of
from bench.storage.fit_spec import FitSpec, truth_among
from bench.storage.store import Store


def damaged_predictions(store: Store, jobs: Sequence[ScoreJob]) -> list[str]:
    """Return one line per prediction that no job scores because it is damaged."""
    scored = {key for job in jobs for key in job.keys}
    lines = []
    for key in store.keys("predictions"):
        if key.replace("predictions", "scores", 1) not in scored:
            _, damage = inspect(store, key)
            lines += [f"{store.root / damage}; `bench run` makes it anew"] if damage else []
    return lines


def plan_scores(store: Store, registry: Registry) -> list[ScoreJob]:
    """Return one scoring job per member and plan with an undamaged prediction.

    Unchanged scores are reused when the job runs. Scores that used a prediction of the exact
    likelihood that no longer exists are left unchanged.
    """
    context = JobContext(str(store.root.absolute()), registry.plugins, "cpu", 0.0)
    specs: dict[str, FitSpec] = {}
    for key in store.keys("fits"):
        if not key.endswith("/fit") or schema.read(store, key) is None:
            continue
        record = store.record(key) or {}
        spec = FitSpec(**{f.name: record[f.name] for f in fields(FitSpec)})
        if key == spec.fit_record:
            specs[spec.folder] = spec
    jobs = []
    for folder, spec in sorted(specs.items()):
        truth = truth_among(c for c in specs.values() if c.task == spec.task)
        for key in store.keys(f"predictions/{folder}"):
            plan_folder, name = key.rsplit("/", 2)[1:]
            plan = schema.read(store, f"plans/{plan_folder}")
            number = re.fullmatch(r"member-(\d+)", name)
            if plan is None or number is None or not is_done(store, key):
                continue
            member = int(number[1])
            score_key = spec.score_key(plan_folder, member)
            scored = (store.record(score_key) or {}).get("inputs") or {}
            exact = truth and truth.prediction_key(plan_folder, 0)
            if exact and scored.get("truth") and not is_done(store, exact):
                continue  # the new scores would lose the comparison with the truth
            jobs.append(
                ScoreJob(
                    context=context,
                    spec=spec,
                    members=(member,),
                    plan=plan_of(plan["plan"]),
                    folder=plan_folder,
                    truth=truth,
                )
            )
    return jobs
