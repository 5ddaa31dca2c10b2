"""What a person reads first: dataset card, datasheet (Gebru et al. 2021) and model card (Mitchell et al. 2019).

Made from the run's own figures. They promise nothing beyond the verdict's wording, and hold nothing of a private file:
no path, no name, no per-image score.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent.parent / "templates"
CARDS = {"README.md": "dataset_card", "datasheet.md": "datasheet", "model_card.md": "release_model_card"}


def write(folder: Path, context: Mapping[str, Any]) -> None:
    """Write the cards into ``folder``. Raises jinja2.UndefinedError for a name that the context lacks."""
    import jinja2

    house = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, autoescape=False,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    house.filters["cell"] = cell
    for name, template in CARDS.items():
        (folder / name).write_text(house.get_template(f"{template}.md.j2").render(context))


def cell(value: object) -> str:
    """Other people's text (a label) inside a Markdown table: one line, no markup, no HTML."""
    text = " ".join(str(value).split())
    for bad, good in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("[", "&#91;"), ("`", "'")):
        text = text.replace(bad, good)
    return text
