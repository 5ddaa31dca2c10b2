"""One attack on one view, from its scores to evidence: the same for a release and for every control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from ops.attacks._view import View
from ops.core import seeds
from ops.core.config import StrictModel
from ops.core.errors import UnderstudyError, explain
from ops.core.progress import Reporter
from ops.statistics.membership import Evidence, Reduction, by_subject, equal_sides, measure


class Config(StrictModel):
    """The block ``audit``: how scores become evidence, and how the controls are planted."""

    fprs: tuple[float, ...] = Field(min_length=1, description="false positive rates with a cut-off, ascending")
    confidence: float = Field(gt=0, lt=1, description="of the intervals that are reported (the policy has its own)")
    permutations: int = Field(ge=99, description="label permutations behind each calibrated p-value")
    subject_score: Reduction = Field(description="a subject's score from those of its images: max or mean")
    equal_size_key: str = Field(min_length=1, max_length=64, description="key of the hash that cuts the larger side")
    roc_points: int = Field(ge=2, description="points of the thinned ROC curve")
    embed_batch: int = Field(gt=0, description="images embedded at a time")
    alpha: float = Field(
        gt=0, lt=0.5, description="level at which a control counts as flagged (Holm over those that must not)"
    )
    min_control_subjects: int = Field(
        ge=4, description="subjects a side under which a control has no power and is not run"
    )
    control_images: int = Field(gt=0, description="images of each planted release")
    copier_noise_u8: float = Field(ge=0, description="standard deviation of the copier's noise, grey levels of 255")
    min_copies_found: float = Field(gt=0, le=1, description="share of planted copies that the census must find")
    blind_features: bool = Field(description="show the blind classifier the feature net's embedding too")
    blind_image_px: int = Field(ge=1, description="side of the small picture shown to the blind classifier, pixels")
    blind_folds: int = Field(ge=2, description="folds of its cross-validation over subjects")
    blind_permutations: int = Field(ge=99, description="label permutations, each with all folds fitted anew")
    blind_ridge: float = Field(gt=0, description="ridge penalty, in subjects (features have unit variance)")
    blind_projections: int = Field(ge=0, description="random rectified projections added to its features")


@dataclass(frozen=True)
class Bench:
    """What both stages need at hand: settings, the chosen attacks, and the hash taken before any score is read."""

    config: Config
    modules: Mapping[str, ModuleType]
    settings: Mapping[str, Any]
    frozen: str
    seed: int
    reporter: Reporter

    def of_kind(self, kind: str) -> list[str]:
        return [name for name, module in self.modules.items() if kind == module.KIND]


def membership(name: str, view: View, bench: Bench) -> Evidence | None:
    """Score both sides and count subjects; None where a side has under two subjects or nothing is released."""
    sides = equal_sides(view.members.subjects, view.nonmembers.subjects, bench.config.equal_size_key)
    if min(map(len, sides)) < 2 or len(view.released) == 0:
        return None
    cut = replace(view, members=view.members.of_subjects(sides[0]), nonmembers=view.nonmembers.of_subjects(sides[1]))
    scores = bench.modules[name].score(cut, bench.settings[name])
    if scores.shape != (len(cut.members) + len(cut.nonmembers),) or not np.isfinite(scores).all():
        todo = "mend the attack's score()"
        raise UnderstudyError(
            explain(expected=f"one finite number a record from {name}", found=str(scores.shape), todo=todo)
        )
    split = len(cut.members)
    units = [
        by_subject(part, records.subjects, bench.config.subject_score)[1]
        for part, records in ((scores[:split], cut.members), (scores[split:], cut.nonmembers))
    ]
    return measure(
        *units, fprs=bench.config.fprs, confidence=bench.config.confidence, points=bench.config.roc_points,
        permutations=bench.config.permutations, seed=seeds.derive(bench.seed, name),
    )  # fmt: skip


def why_not(view: View) -> str:
    if len(view.released) == 0:
        return "nothing is released: no image survived the filter"
    return "a side has fewer than two subjects"


def census_figures(hits: pd.DataFrame) -> dict[str, Any]:
    """Counts of copies: synthetic images and real records involved, drawn and released, either side; best SSIM."""
    figures: dict[str, Any] = {}
    for stage, chosen in (("drawn", hits), ("released", hits[hits["released"].astype(bool)])):
        for side, role in (("members", "train"), ("nonmembers", "audit")):
            part = chosen[chosen["side"] == side]
            figures[f"copies_{stage}_of_{role}"] = int(part["image_id"].nunique())
            figures[f"{role}_images_copied_{stage}"] = int(part["row"].nunique())
    best = hits.loc[hits["side"] == "members", "ssim"]
    return figures | {"ssim_best_copy_of_train": float(best.max()) if len(best) else None}
