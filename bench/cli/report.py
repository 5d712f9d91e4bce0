"""Write results as pages that can be read, printed and cited: `bench report`."""

from pathlib import Path

import click

from bench.cli.options import FOLDER, PLUGIN, TASK
from bench.echo import echo, tell, tell_each


@click.command()
@click.argument("results", nargs=-1, metavar="[RESULTS]...")
@click.option(
    "--out", type=FOLDER, help="Write the report to this folder.  [default: reports/RESULTS]"
)
@TASK
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="GLOB",
    help="Take these methods only, with their references; repeatable.",
)
@click.option("--inline", is_flag=True, help="Write one file that contains pages and figures.")
@PLUGIN
def report(
    results: tuple[str, ...],
    out: str | None,
    inline: bool,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    plugins: tuple[str, ...],
) -> None:
    """Write pages of leaderboards, figures and sources.

    RESULTS are folders that `bench run` wrote; several are read as one. Folders of tables that
    `bench study` wrote add their figures. Nothing is trained, and the pages need no network.

    An earlier report in the folder is replaced. Other files stay: the command refuses to replace a
    link or a file that no report wrote.
    """
    from bench.cli.folder import damaged, damaged_entries, open_results, report_folder
    from bench.errors import BenchError
    from bench.library.progress import stages
    from bench.report.figures import figures
    from bench.report.load import load
    from bench.report.write import PAGE, write

    given = results or (str(open_results(None).root),)
    folder = Path(out) if out else report_folder(given)
    with stages() as show:
        show("reading results", 0, 0)
        loaded = load(*given, tasks=tasks, methods=methods, plugins=plugins)
        incomplete = [line for store in loaded.folders.stores for line in damaged(store)]
        if not loaded.boards and not (loaded.study_files and any(figures(loaded))):
            reason = "; `bench status` says what is there"
            if loaded.study_files:
                reason = ", and no table of a study that a figure shows"
            raise BenchError(f"{', '.join(given)}: no scores to compare{reason}")
        command = _command(given, folder, tasks, methods, plugins, inline)
        names = write(loaded, folder, command, show, inline)
    incomplete += damaged_entries(loaded.results)
    tell_each("damaged", incomplete)
    tell_each("not loaded", loaded.registry.failures)
    echo(f"{folder / PAGE}")
    tell(f"{len(names)} files in {folder}")
    if incomplete or loaded.registry.failures:
        raise SystemExit(1)


def _command(
    results: tuple[str, ...],
    out: Path,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    plugins: tuple[str, ...],
    inline: bool,
) -> list[str]:
    """Return the command that writes the same report again."""
    options = {"--out": (str(out),), "--task": tasks, "--method": methods, "--plugin": plugins}
    words = [word for name, values in options.items() for v in values for word in (name, v)]
    return ["bench", "report", *results, *words, *["--inline"] * inline]
