"""What is to be drawn: N labelled images, each with a seed of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ops.core.errors import UnderstudyError, explain


@dataclass(frozen=True)
class SamplePlan:
    """N images planned, and which of them to draw now.

    classes: names of the labels. labels: int64 [N], indices into classes. seeds: int64 [N], one an image.
    batch: images a forward pass; part of the result's identity. rows: int64 [k], rows of the plan wanted in this call;
    a family that realises fewer leaves rows out, and decides so from the whole plan, never from ``rows``.
    """

    classes: Sequence[str]
    labels: np.ndarray
    seeds: np.ndarray
    batch: int
    rows: np.ndarray

    def only(self, rows: np.ndarray) -> SamplePlan:
        """The same plan, with other rows wanted."""
        return replace(self, rows=rows)

    def rows_of(self, code: int) -> np.ndarray:
        """Wanted rows of one class, in order: int64 [k]."""
        return self.rows[self.labels[self.rows] == code]

    def must_have(self, fitted: Sequence[str]) -> None:
        """Raise UnderstudyError unless the plan's classes are those of the fitted model, in its order."""
        if list(self.classes) != list(fitted):
            found = str(list(self.classes))
            raise UnderstudyError(
                explain(expected=f"classes {list(fitted)}", found=found, todo="run stage train again")
            )
