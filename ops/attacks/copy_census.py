"""Copy census: is any drawn image a copy of a training image?

No attacker in particular: anybody who knows a training image, by heart or from his own album, would recognise it. Every
drawn image is held against every training image by the same detector, with the same threshold, that removed
near-duplicates across roles when the data was prepared (plain, mirrored, cropped, brightened; ops/metrics/copies.py).
A release of images is looked at whole, so there is nothing to estimate: one hit is a copy, and it fails the generator,
not just the image, because a filter that drops it does not make the generator forget.

Both the whole draw and the filtered set are searched. The audit role is the control: those images were never seen in
training and have no twin there by construction, so a hit on one of them says that the detector or the roles are broken.
A synthetic image is put down to the real image that it is most like: a slightly changed copy of a training image can
fall just within the threshold of that image's nearest neighbour in the audit role, which was just outside it (seen on
CIFAR-10, 1 of 6 000 noisy copies). Such a hit is explained by the better one; where neither is better, it counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from ops.attacks._view import Records, View
from ops.core.config import StrictModel
from ops.metrics import copies

THREAT = "images"
KIND = "census"
COLUMNS = ("side", "row", "image_id", "released", "ssim", "variant")


class Config(StrictModel):
    """The block ``attacks.copy_census``. The threshold is the block ``copies``, one for the whole house."""

    listed_hits: int = Field(ge=0, description="hits written to the private list, best first")


def score(view: View, config: Config) -> np.ndarray:
    """Best SSIM that decided a copy of each real record, members then non-members: float64 [n + m], 0 without a hit."""
    best = np.zeros(len(view.members) + len(view.nonmembers))
    hits = find(view, config)
    rows = hits["row"].to_numpy() + np.where(hits["side"] == "nonmembers", len(view.members), 0)
    np.maximum.at(best, rows, hits["ssim"].to_numpy())
    return best


def find(view: View, config: Config) -> pd.DataFrame:
    """Every hit, best first. Columns: ``side`` (members or nonmembers), ``row`` there, ``image_id`` of the synthetic
    image, ``released`` (it survived the filter), ``ssim`` (at or above the detector's threshold), ``variant``."""
    queries, released = _queries(view)
    sides = {"members": view.members, "nonmembers": view.nonmembers}
    parts = [
        _against(side, pool, queries, released, view) for side, pool in sides.items() if len(pool) and len(queries)
    ]
    hits = pd.concat(
        [pd.DataFrame(columns=list(COLUMNS)).astype({"row": "int64", "ssim": "float64", "released": "bool"}), *parts]
    )
    hits = hits[~_explained(hits)]
    return hits.sort_values(["ssim", "image_id", "side", "row"], ascending=[False, True, True, True], ignore_index=True)


def _explained(hits: pd.DataFrame) -> np.ndarray:
    """Hits on non-members by synthetic images that are still more like a member: bool [k]."""
    members = hits[hits["side"] == "members"].groupby("image_id")["ssim"].max()
    better = hits["image_id"].map(members).fillna(-np.inf).to_numpy(dtype=float)
    return (hits["side"] == "nonmembers").to_numpy() & (better > hits["ssim"].to_numpy())


def _queries(view: View) -> tuple[Records, np.ndarray]:
    """The draw plus whatever is released without being in it, and which of these are released: n records, bool [n]."""
    extra = view.released.take(np.flatnonzero(~np.isin(view.released.digests, view.drawn.digests)))
    if len(extra) == 0:
        return view.drawn, np.isin(view.drawn.digests, view.released.digests)
    if len(view.drawn) == 0:
        return extra, np.ones(len(extra), dtype=bool)
    names = ("images_u8", "ids", "subjects", "labels", "digests")
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(view.drawn, name), getattr(extra, name)]) for name in names
    }
    joined = Records(**columns)
    return joined, np.isin(joined.digests, view.released.digests)


def _against(side: str, pool: Records, queries: Records, released: np.ndarray, view: View) -> pd.DataFrame:
    pairs = copies.find_copies(
        queries.images_u8, pool.images_u8, view.copies, same=False, runtime=view.runtime, reporter=view.reporter
    )
    left, ssim = np.asarray(pairs.left, np.int64), np.asarray(pairs.ssim, np.float64)
    return pd.DataFrame(
        {
            "side": side, "row": np.asarray(pairs.right, np.int64), "image_id": queries.ids[left],
            "released": released[left], "ssim": ssim, "variant": list(pairs.variant),
        }
    )  # fmt: skip
