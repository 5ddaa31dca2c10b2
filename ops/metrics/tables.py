"""Tables that people open: CSV whose cells no spreadsheet will take for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def cell(value: object) -> str:
    """Text of one cell; a label that a spreadsheet would run is quoted, for labels are a stranger's text."""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA_STARTS) else text


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write one table; NaN becomes an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([cell(value) for value in head])
    writer.writerows([cell(value) for value in row] for row in rows)
    path.write_text(buffer.getvalue(), encoding="utf-8")


def write_confusion(path: Path, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """A confusion matrix as it is read: a head of predicted classes, then one row of counts for each actual class."""
    rows = ([name, *map(int, counts)] for name, counts in zip(classes, matrix, strict=True))
    write_csv(path, ["actual", *classes], rows)


def read_confusion(path: Path) -> np.ndarray:
    """The counts that :func:`write_confusion` wrote: int64 [k, k]."""
    with path.open(newline="", encoding="utf-8") as handle:
        _, *body = list(csv.reader(handle))
    return np.array([[int(value) for value in row[1:]] for row in body], dtype=np.int64)


def write_pairs(path: Path, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """The same counts one pair a row (``actual,predicted,count``), the form that plotting tools take."""
    rows = (
        [actual, predicted, int(matrix[i, j])]
        for i, actual in enumerate(classes)
        for j, predicted in enumerate(classes)
    )
    write_csv(path, ["actual", "predicted", "count"], rows)
