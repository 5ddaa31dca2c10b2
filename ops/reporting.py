"""Stages ``report`` and ``compare``: evidence as pages that a person who is no statistician can read and sign.

A page is one file: no script, no request, pictures inside, synthetic images only. It says what the files say and
nothing more: a figure that was not measured is a dash, a file that the graph promises and that is missing is an error.
Labels and names are other people's text and always escaped. The words a page may use are in ``ops/pages/words.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ops.core import files
from ops.core.errors import UnderstudyError, explain
from ops.core.imageset import ImageSet
from ops.core.progress import Reporter, SilentReporter
from ops.pages import board, costs, evidence, judged, leakage, looks, render, similarity, usefulness

SILENT = SilentReporter()


def report(
    family: str,
    filtered: Path,
    attacks: Path,
    pictures: Path,
    utility: Path,
    verdict: Path,
    controls: Path,
    real: Path,
    timing: Path,
    *,
    out: Path,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Write one family's page.

    Args:
        filtered: ``data/filtered/F``; its images are synthetic, and the only ones shown.
        attacks: ``reports/F/attacks`` with a folder a threat model.
        timing: ``state/timing``; costs are shown where it exists.

    Returns flat figures: ``verdict``, ``page_bytes``, ``images_shown``. Raises UnderstudyError where one is missing.
    """
    ruling, figures, beside = read(verdict), read(utility), read(real)
    found = evidence.attacks(attacks, ruling)
    kept, spent = ImageSet(filtered), costs.costs(timing)
    strips = looks.examples(kept)
    own = costs.of(spent, family)
    context = {
        "family": family,
        "set_line": looks.set_line(kept),
        "verdict": judged.head(ruling, found),
        "facts": judged.facts(ruling, found),
        "pictures_line": judged.pictures(found),
        "samples": looks.samples(pictures),
        "examples": strips,
        "examples_more": looks.more(kept),
        "similarity": similarity.section(filtered),
        "utility": usefulness.section(figures, beside, pictures),
        "fidelity": usefulness.fidelity(figures, beside),
        "attacks": leakage.section(found, ruling),
        "controls": leakage.control_rows(read(controls)),
        "untested": judged.untested(ruling, evidence.summaries(attacks)),
        "costs_rows": costs.rows(own),
        "costs_line": costs.sentence(own, costs.of(spent, None)),
        "wording": judged.readable(str(ruling["wording"]), found),
    }
    page = render.page("report", context)
    files.write_text(out, page)
    reporter.note(f"{family}: {ruling['verdict']}, page in {out}")
    shown = sum(len(strip["images"]) for strip in strips)
    return {"verdict": ruling["verdict"], "page_bytes": len(page.encode()), "images_shown": shown}


def compare(
    reports: Path, families: Sequence[str], timing: Path, *, out: Path, reporter: Reporter = SILENT
) -> dict[str, Any]:
    """Write ``leaderboard.json`` (quality and leakage by family, no costs) and ``leaderboard.html`` (with costs).

    Reads ``reports/`` only, and ``state/timing`` for the page. Returns the figures flat, ``<family>_<figure>``. Raises
    UnderstudyError where a family has no verdict or no utility yet.
    """
    beside = read(reports / "real.json")
    entries = [
        board.entry(
            name, reports / name, read(reports / name / "verdict.json"), read(reports / name / "utility.json"), beside
        )
        for name in families
    ]
    spent = costs.costs(timing)
    with files.atomic_folder(out) as folder:
        files.write_json(folder / "leaderboard.json", {entry.name: entry.figures() for entry in entries})
        (folder / "leaderboard.html").write_text(render.page("leaderboard", board.context(entries, beside, spent)))
    reporter.note(f"compared {', '.join(families)}")
    return {f"{entry.name}_{key}": value for entry in entries for key, value in entry.figures().items()}


def read(path: Path) -> dict[str, Any]:
    """A JSON file that an earlier stage promised. Raises UnderstudyError where it is missing."""
    if not path.is_file():
        found = "no such file"
        raise UnderstudyError(
            explain(expected=f"{path.name} in {path.parent}", found=found, todo="run the stage that writes it")
        )
    return dict(files.read_json(path))
