"""First page of a report: what was compared, verdicts of each method, the methods to use."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.boards import Leaderboard, Row
from bench.boards.build import PLANS
from bench.boards.verdict import verdict
from bench.errors import counted


@dataclass(frozen=True)
class Answer:
    """Result of one task.

    Args:
        task: the task.
        sentences: what to use, what not to use, what is undetermined.
        setting: budget, plan and members, in words.
        boards: leaderboards of the task; the answer is that of the first.
    """

    task: str
    sentences: Sequence[str]
    setting: str
    boards: Sequence[Leaderboard]

    @property
    def recommended(self) -> list[str]:
        """Methods whose coverage holds and whose intervals are shortest."""
        return [row.label for row in self.boards[0].rows if row.recommended]

    @property
    def ranked(self) -> int:
        """Number of methods that are ranked by their likelihoods."""
        return sum(row.likelihood_rank is not None for row in self.boards[0].rows)

    def row(self, label: str) -> Row | None:
        """Return the row of a method in the leaderboard that answers."""
        return next((row for row in self.boards[0].rows if row.label == label), None)


def answers(boards: Sequence[Leaderboard]) -> list[Answer]:
    """Return the answer of each task, from the largest budget at which methods compare.

    A task without ranks has the reason in its place.
    """
    out = []
    for task in sorted({board.task for board in boards}):
        own = sorted((board for board in boards if board.task == task), key=_order)
        ranked = own[0].ranks
        sentences = list(verdict(own[0])) if ranked else [_why_not(own)]
        out.append(Answer(task, sentences, _setting(own[0]) if ranked else "", own))
    return out


def _order(board: Leaderboard) -> tuple[object, ...]:
    alone = sum(row.rank is not None for row in board.rows) < 2
    kind = PLANS.index(board.plan["kind"])
    fresh = board.training_data == "fresh"
    return not board.ranks, alone, -board.budget, not fresh, kind, board.plan_folder, board.seed


def _setting(board: Leaderboard) -> str:
    trained = sorted({row.members for row in board.rows if row.members and not row.fit.oracle})
    fewest = f"{trained[0]} to " if len(trained) > 1 else ""
    members = fewest + counted(trained[-1], "member")
    shared = ", trained on one training set" if board.training_data == "shared" else ""
    return (
        f"{counted(board.budget, 'simulator call')}, {members} per method{shared}, "
        f"{counted(board.plan['uniform'], 'dataset')} with θ uniform, tolerance "
        f"± {100 * board.tolerance:g} points"
    )


def _why_not(boards: Sequence[Leaderboard]) -> str:
    """Return the reason why a task has no ranking."""
    if all(row.fit.oracle for board in boards for row in board.rows):
        return "Only the exact likelihood is here: there is nothing to rank."
    independent = [board for board in boards if board.plan["kind"] == "independent"]
    if not independent:
        return "No ranking: it takes independent datasets with θ uniform, and there are none."
    if not any(board.reference for board in independent):
        return "No ranking: there is neither an exact likelihood nor a histogram to compare with."
    return "No ranking: too few datasets, or none that every method was scored on."


def compared(boards: Sequence[Leaderboard]) -> str:
    """Return one sentence on the methods, tasks and budgets that the report compares."""
    tasks = sorted({board.task for board in boards})
    labels = {row.label for board in boards for row in board.rows if not row.fit.oracle}
    budgets = sorted({board.budget for board in boards if board.budget})
    failed = {
        (board.task, row.fit.folder, what)
        for board in boards
        for row in board.rows
        for what in row.failures
    }
    most = f" to {budgets[-1]:,}" if len(budgets) > 1 else ""
    spent = f" at {budgets[0]:,}{most} simulator calls" if budgets else ""
    sentence = (
        f"{counted(len(labels), 'method')} on {counted(len(tasks), 'task')}{spent}, "
        "compared on the same datasets."
    )
    if failed:
        parts = counted(len(failed), "part")
        left = "are left out, with their reasons" if len(failed) > 1 else "is left out"
        sentence += f" {parts} failed and {left}."
    return sentence


def methods(found: Sequence[Answer]) -> list[str]:
    """Return the methods with a verdict, those that hold on most tasks first."""
    rows = [
        (row.label, row.word)
        for answer in found
        for row in answer.boards[0].rows
        if not row.fit.oracle and row.verdicts
    ]

    def order(label: str) -> tuple[int, int, str]:
        words = [word for name, word in rows if name == label]
        return -words.count("holds"), words.count("fails"), label

    return sorted({label for label, _ in rows}, key=order)


def conclusion(found: Sequence[Answer]) -> str:
    """Return one sentence on the number of tasks on which a method holds."""
    judged = [answer for answer in found if answer.setting]
    holding = sum(bool(answer.recommended) for answer in judged)
    if not judged:
        return "No methods are compared here."
    if not holding:
        return "No method is shown to hold."
    return f"A method is shown to hold on {holding} of {counted(len(judged), 'task')}."


def tolerances(found: Sequence[Answer]) -> str:
    """Return the largest gaps that count as none: "± 5 points"."""
    known = sorted({answer.boards[0].tolerance for answer in found if answer.setting})
    return f"± {' or '.join(f'{100 * value:g}' for value in known)} points"
