"""Summary in sentences: methods and tasks of the report, and the result for each task."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import counted
from bench.leaderboard import Leaderboard
from bench.leaderboard.verdict import verdict


@dataclass(frozen=True)
class Answer:
    """Result of one leaderboard.

    Args:
        task: the task.
        setting: budget, plan and members, in words.
        sentence: the answer.
        rest: sentences on methods whose coverage fails or is undetermined.
        board: the leaderboard.
    """

    task: str
    setting: str
    sentence: str
    rest: str
    board: Leaderboard


def answers(boards: Sequence[Leaderboard]) -> list[Answer]:
    """Return answers of leaderboards with ranks; for tasks without any, the reason.

    The largest budget of a task at which methods can be compared comes first.
    """
    out = []
    for task in sorted({board.task for board in boards}):
        own = [board for board in boards if board.task == task]
        ranking = sorted((board for board in own if board.ranks), key=_order)
        for board in ranking:
            sentence, *rest = verdict(board)
            out.append(Answer(task, _setting(board), sentence, " ".join(rest), board))
        if not ranking:
            out.append(Answer(task, "", _why_not(own), "", own[0]))
    return out


def _order(board: Leaderboard) -> tuple[bool, int, bool, str]:
    alone = sum(row.rank is not None for row in board.rows) < 2
    return alone, -board.budget, board.training_data != "fresh", board.plan_folder


def _setting(board: Leaderboard) -> str:
    trained = sorted({row.members for row in board.rows if row.members and not row.fit.oracle})
    fewest = f"{trained[0]} to " if len(trained) > 1 else ""
    members = fewest + counted(trained[-1], "member")
    shared = ", trained on one training set" if board.training_data == "shared" else ""
    return (
        f"{counted(board.budget, 'simulator call')}, {members} per method{shared}, "
        f"{counted(board.plan['uniform'], 'dataset')} with θ uniform"
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
