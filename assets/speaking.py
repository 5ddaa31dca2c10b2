"""How a stage speaks through Dagster: progress lines in the log, sample grids as observations, figures as metadata."""

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from ops.core.pictures import png_bytes
from ops.core.progress import Pace, SilentReporter
from ops.core.protocols import Finding, Outcome

INLINE_BYTES = 200_000  # pictures above this stay out of Dagster's event log
LINE_EVERY_S = 10.0  # each log line costs about 26 ms in the event log
PICTURE_EVERY_S = 30.0


class DagsterReporter(SilentReporter):
    """Progress to the run's log, sample grids as asset observations. Throttled: the event log is a database."""

    def __init__(self, context: dg.AssetExecutionContext, key: dg.AssetKey) -> None:
        self.context, self.key = context, key
        self.pace, self.shown_s = Pace(LINE_EVERY_S), -PICTURE_EVERY_S

    def progress(self, what: str, done: int, total: int, **values: float) -> None:
        if line := self.pace.line(what, done, total, values):
            self.context.log.info(line)

    def image(self, name: str, image_u8: np.ndarray, step: int) -> None:
        now = time.monotonic()
        data = png_bytes(image_u8)
        if now - self.shown_s >= PICTURE_EVERY_S and len(data) <= INLINE_BYTES:
            self.shown_s = now
            self.context.log_event(dg.AssetObservation(self.key, metadata={name: inline(data), "step": step}))

    def note(self, text: str) -> None:
        self.context.log.warning(text)


def inline(png: bytes) -> dg.MarkdownMetadataValue:
    """A picture inside the metadata."""
    return dg.MetadataValue.md(f"![picture](data:image/png;base64,{base64.b64encode(png).decode()})")


def figures(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flat figures as metadata: numbers stay numbers, so that Dagster plots them over time."""
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float | str)}


def pictures(path: Path) -> Iterator[tuple[str, dg.MetadataValue]]:
    """Every small picture that lies directly in an output, and a link to an output that is a page."""
    for picture in sorted(path.glob("*.png")) if path.is_dir() else []:
        data = picture.read_bytes()
        if len(data) <= INLINE_BYTES:
            yield picture.stem, inline(data)
    for page in [path] if path.suffix == ".html" else sorted(path.glob("*.html")):
        yield page.stem, dg.MetadataValue.url(page.resolve().as_uri())


def metadata(outcome: Outcome, path: Path) -> dict[str, Any]:
    """Everything worth seeing of one output."""
    shown: dict[str, Any] = {**figures(outcome.figures), **dict(pictures(path)), "path": dg.MetadataValue.path(path)}
    if outcome.run_url:
        shown["mlflow_run"] = dg.MetadataValue.url(outcome.run_url)
    shown["work"] = "current, nothing to do" if outcome.was_current else f"{outcome.seconds:.1f} s"
    return shown


def findings_table(findings: Sequence[Finding]) -> dg.TableMetadataValue:
    """One row an expectation: what held, what did not."""
    records = [
        dg.TableRecord(
            {"expectation": f.name, "held": "yes" if f.passed else "NO", "expected": f.expected, "found": f.found}
        )
        for f in findings
    ]
    names = ("expectation", "held", "expected", "found")
    return dg.MetadataValue.table(records, schema=dg.TableSchema([dg.TableColumn(name, "string") for name in names]))
