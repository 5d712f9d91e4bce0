"""Lines that `bench status` prints about a results folder."""

from collections.abc import Iterator

from bench.boards.results import Results


def status_lines(results: Results) -> Iterator[str]:
    """Yield one line per fit with numbers of finished members, then failures and absences."""
    run = results.run
    wanted = run.get("preset", {}).get("members", 0)
    if run:
        yield "last run: " + " ".join(run["command"])
    for fit in sorted(
        results.fits, key=lambda f: (f.task, not f.oracle, f.label, f.budget, f.folder)
    ):
        of_each = wanted // fit.size if fit.folder in run.get("cells", []) else 0
        members = 1 if fit.oracle else of_each
        of = f"/{members}" if members else ""
        yield (
            f"{fit.task}  {fit.label}  budget {fit.budget:,}  seed {fit.identity['seed']}  "
            f"fits {len(fit.members)}{of}"
            + "".join(
                f"  {plan['plan']['kind']} {done}{of}"
                for folder, plan in results.plans.items()
                if (done := _done(results, fit.folder, folder))
                or fit.folder in run.get("cells", [])
            )
        )
        for what, reason in results.failures(fit).items():
            yield f"  failed: {what}: {reason}"
    for absent in run.get("absent", []):
        what = "failed" if absent.get("broken") else "n/a"
        yield f"{what}: {absent['label']} on {absent['task']}: {absent['reason']}"


def _done(results: Results, fit: str, plan: str) -> int:
    return sum(results.entry(key) is not None for key in results.store.keys(f"scores/{fit}/{plan}"))
