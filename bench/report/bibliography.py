"""BibTeX entries of the suite, methods, tasks and data in a report."""

import re
from collections.abc import Iterable
from contextlib import suppress
from importlib.resources import files

from bench.errors import BenchError
from bench.report.load import Loaded
from bench.report.papers import published
from bench.report.tables import tex


def bibtex(loaded: Loaded) -> str:
    """Return BibTeX entries for everything that the results used, each once, by author.

    Citations of plugins that are not in the package become @misc entries with the plugin's text.
    """
    known = entries()
    found = [known["nlbench"]]
    for citation in sorted({*citations(loaded)}):
        cited = (entry for name, entry in known.items() if citation.startswith(name))
        found.append(next(cited, None) or _misc(citation))
    return "\n\n".join(dict.fromkeys(found)) + "\n"


def entries() -> dict[str, str]:
    """Return the BibTeX entries of the package, by the citation that methods and tasks use."""
    text = files("bench.report").joinpath("references.bib").read_text(encoding="utf-8")
    blocks = (block.partition("\n") for block in text.strip().split("\n\n"))
    return {cited.removeprefix("% "): entry.strip() for cited, _, entry in blocks}


def citations(loaded: Loaded) -> Iterable[str]:
    """Yield the citations of methods, tasks and data of the results, and of the papers."""
    fits = loaded.results.fits
    for name in {fit.method for fit in fits}:
        with suppress(BenchError):
            yield from _several(loaded.registry.method(name).citation)
    for name in {fit.task for fit in fits}:
        with suppress(BenchError):
            task = loaded.registry.task(name)
            yield from _several(task.citation)
            if task.data is not None:
                yield from _several(task.data.citation)
    yield from (number.source for number in published())


def _several(citation: object) -> list[str]:
    return [part.strip() for part in str(citation).split(";") if part.strip()]


def _misc(citation: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", citation)
    year = next((word for word in words if re.fullmatch(r"(19|20)\d\d", word)), "")
    key = (words[0].lower() if words else "cited") + year
    # BibTeX counts braces, also those after a backslash.
    note = tex(citation).replace(r"\{", r"\textbraceleft{}").replace(r"\}", r"\textbraceright{}")
    return f"@misc{{{key},\n  note = {{{note}}}\n}}"
