"""Stage ``prepare``: original bytes become four image sets, one a role, and no picture stands in two of them.

A subject's role follows from a keyed hash of the subject alone, so nobody ever moves when images are added. Pictures
that look alike across two roles would make members of non-members (audit.md, finding 4): both are removed, which is
symmetric and needs no history.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from ops.core import files, runtime
from ops.core.config import StrictModel
from ops.core.errors import UnderstudyError, explain
from ops.core.imageset import COLUMNS, pixel_digests, write_imageset, write_parquet
from ops.core.paths import ROLES
from ops.core.progress import Reporter, SilentReporter
from ops.core.seeds import keyed_fraction
from ops.metrics import copies
from ops.sources._decode import Unusable, decode_image, decode_mask

SILENT = SilentReporter()
REASON = "near_duplicate_across_roles"


class Shares(StrictModel):
    """Share of the subjects that each role receives; they add up to 1."""

    train: float = Field(..., gt=0, lt=1, description="members: the generators learn from these")
    audit: float = Field(..., gt=0, lt=1, description="non-members: read by attacks and controls only")
    reference: float = Field(..., gt=0, lt=1, description="calibrates attacks, filters and the feature net")
    test: float = Field(..., gt=0, lt=1, description="measures utility")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = sum(self.of(role) for role in ROLES)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the four shares add up to {total:g}, not 1")
        return self

    def of(self, role: str) -> float:
        return float(getattr(self, role))


class Config(StrictModel):
    """The block ``prepare``."""

    size_px: int = Field(..., ge=8, le=1024, description="side of the square that every image becomes")
    channels: Literal[1, 3] = Field(..., description="1 grey, 3 RGB")
    centre_crop: bool = Field(..., description="cut the centred square out first; otherwise the picture is squeezed")
    background_grey: int = Field(..., ge=0, le=255, description="what lies behind transparent pixels")
    split_key: str = Field(..., min_length=8, max_length=64, description="secret; decides who gets which role")
    shares: Shares = Field(..., description="share of subjects a role")
    reference_control_fraction: float = Field(..., gt=0, lt=1, description="share of reference that calibrates nothing")
    max_straddling_fraction: float = Field(
        ..., ge=0, le=1, description="more near-duplicates across roles stop the run"
    )
    min_subjects: int = Field(
        ..., ge=1, description="train, audit or reference below this: a warning (UNDECIDED later)"
    )


@dataclass(frozen=True)
class Decoded:
    """All images in the order of their ids: uint8 [n, s, s, c], masks uint8 [n, s, s] or None, and their manifest."""

    images: np.ndarray
    masks: np.ndarray | None
    manifest: pd.DataFrame


def prepare(
    raw: Path,
    config: Config,
    copies_config: copies.Config,
    runtime_config: runtime.Config,
    out: Path,
    reporter: Reporter = SILENT,
) -> dict[str, float]:
    """Write ``out/train``, ``out/audit``, ``out/reference`` and ``out/test``, each whole or not at all.

    Returns flat counts over all roles. Raises UnderstudyError where an original has become unreadable, where too many
    near-duplicates straddle two roles, and where train or test lacks a class.
    """
    decoded = decode(raw, config, runtime_config.threads, reporter)
    roles = assign_roles(decoded.manifest, config)
    removed, inside = straddling(decoded, roles, copies_config, runtime_config, reporter)
    check_straddling(removed, len(roles), config, reporter)
    keep = ~decoded.manifest["image_id"].isin(removed["image_id"]).to_numpy()
    check_classes(decoded.manifest["label"].to_numpy(dtype=str), roles, keep)
    figures: dict[str, float] = {"images_raw": len(roles), "pairs_inside_roles": inside}
    for role in ROLES:
        told = write_role(decoded, roles, keep, removed, role, config, out / role)
        figures |= {f"{role}_{key}": value for key, value in told.items()}
        warn_if_thin(role, told, config, reporter)
    return figures


# ------------------------------------------------------------------------------------------------ originals to pixels


def decode(raw: Path, config: Config, threads: int, reporter: Reporter) -> Decoded:
    """Every original in ``raw`` at the size of the settings, shard by shard, in ``threads`` threads.

    Shards are by hash prefix and sorted inside, so their concatenation is sorted by ``image_id``, whatever the threads.
    """
    frame = pq.read_table(raw / "manifest.parquet").to_pandas()
    shards = sorted(raw.glob("shard-*.parquet"))
    starts = np.searchsorted(frame["sha256"].to_numpy(dtype=str), [path.stem.removeprefix("shard-") for path in shards])
    images = np.empty((len(frame), config.size_px, config.size_px, config.channels), np.uint8)
    masks = np.zeros(images.shape[:3], np.uint8)

    def work(number: int) -> tuple[int, int]:
        return decode_shard(shards[number], images[starts[number] :], masks[starts[number] :], config)

    done = with_mask = 0
    with ThreadPoolExecutor(threads) as pool:
        for count, masked in pool.map(work, range(len(shards))):
            done, with_mask = done + count, with_mask + masked
            if count:
                reporter.progress("decode", done, len(frame))
    if done != len(frame):
        found = f"{done} in its shards"
        raise UnderstudyError(explain(expected=f"{len(frame)} images in {raw}", found=found, todo="run ingest again"))
    if 0 < with_mask < len(frame):
        reporter.note(f"prepare: only {with_mask:,} of {len(frame):,} images have a mask, so no masks are kept")
    return Decoded(images, masks if with_mask == len(frame) > 0 else None, frame)


def decode_shard(path: Path, images: np.ndarray, masks: np.ndarray, config: Config) -> tuple[int, int]:
    """Fill the first rows of ``images`` and ``masks`` from one shard; returns (images, images with a mask)."""
    table = pq.read_table(path, columns=["image_id", "data", "mask", "width", "height"])
    ids, data, drawn = (table.column(name) for name in ("image_id", "data", "mask"))
    # What ingest has measured is the limit here: an original may not unfold to more than it did then.
    pixels = table.column("width").to_numpy().astype(np.int64) * table.column("height").to_numpy()
    with_mask = 0
    for row in range(table.num_rows):
        try:
            images[row] = decode_image(
                data[row].as_py(),
                size_px=config.size_px,
                channels=config.channels,
                centre_crop=config.centre_crop,
                background_grey=config.background_grey,
                max_pixels=int(pixels[row]),
            )
            mask = drawn[row].as_py()
            if mask is not None:
                with_mask += 1
                masks[row] = decode_mask(
                    mask, size_px=config.size_px, centre_crop=config.centre_crop, max_pixels=int(pixels[row])
                )
        except Unusable as fault:
            found = f"{ids[row].as_py()} ({fault})"
            raise UnderstudyError(
                explain(expected="originals that decode", found=found, todo="run ingest again")
            ) from fault
    return table.num_rows, with_mask


# ------------------------------------------------------------------------------------------------------------- roles


def role_of(subject: str, config: Config, open_roles: Sequence[str] = ROLES) -> str:
    """The role of a subject among ``open_roles``, by a keyed hash of the subject and nothing else."""
    shares = np.array([config.shares.of(role) for role in open_roles])
    edges = np.cumsum(shares) / shares.sum()
    position = int(np.searchsorted(edges, keyed_fraction(config.split_key, subject), side="right"))
    return open_roles[min(position, len(open_roles) - 1)]


def assign_roles(manifest: pd.DataFrame, config: Config) -> np.ndarray:
    """Role of each image: str [n].

    Where the source reserves images for testing (attribute ``split: test``), every image of their subjects is role test
    and all others are shared out among the remaining three.
    """
    subjects = manifest["subject_id"].to_numpy(dtype=str)
    reserved = np.array([json.loads(text).get("split") == "test" for text in manifest["attributes"]], dtype=bool)
    testers = set(subjects[reserved].tolist())
    open_roles = [role for role in ROLES if role != "test"] if testers else list(ROLES)
    role = {s: "test" if s in testers else role_of(s, config, open_roles) for s in set(subjects.tolist())}
    return np.array([role[subject] for subject in subjects.tolist()], dtype=str)


def half_of(subject: str, config: Config) -> str:
    """Which half of reference: by a second keyed hash, so that it tells nothing of the first."""
    fraction = keyed_fraction(config.split_key, f"half of reference\x1f{subject}")
    return "control" if fraction < config.reference_control_fraction else "calibrate"


# --------------------------------------------------------------------------------------------------- near-duplicates


def straddling(
    decoded: Decoded,
    roles: np.ndarray,
    copies_config: copies.Config,
    runtime_config: runtime.Config,
    reporter: Reporter,
) -> tuple[pd.DataFrame, int]:
    """Images with a near-duplicate in another role, one row for each image and partner role (its highest SSIM).

    Also returns the number of near-duplicate pairs inside one role: those stay.
    """
    pairs = copies.find_copies(
        decoded.images, decoded.images, copies_config, same=True, runtime=runtime_config, reporter=reporter
    )
    ids = decoded.manifest["image_id"].to_numpy(dtype=str)
    twins = pd.factorize(np.array(pixel_digests(decoded.images), dtype=object))[0]
    inside = int((roles[pairs.left] == roles[pairs.right]).sum())
    return across(ids, roles, twins, pairs), inside


def across(ids: np.ndarray, roles: np.ndarray, twins: np.ndarray, pairs: copies.Pairs) -> pd.DataFrame:
    """Pairs to removals. ``twins`` int64 [n] is equal for images with equal pixels.

    The detector tells of one member of each such group only, so what holds for it holds here for all of the group:
    otherwise two copies of a train image and two of its near-duplicate in audit would leave one of each behind.
    """
    images = pd.DataFrame({"image_id": ids, "role": roles, "group": twins})
    ends = np.concatenate([pairs.left, pairs.right])
    others = np.concatenate([pairs.right, pairs.left])
    near = pd.DataFrame({"group": twins[ends], "partner": twins[others], "ssim": np.tile(pairs.ssim, 2)})
    itself = pd.DataFrame({"group": np.unique(twins), "partner": np.unique(twins), "ssim": np.float32(1.0)})
    places = images[["group", "role"]].drop_duplicates().rename(columns={"group": "partner", "role": "partner_role"})
    meetings = pd.concat([near, itself]).merge(places, on="partner").groupby(["group", "partner_role"])["ssim"].max()
    frame = images.merge(meetings.reset_index(), on="group")
    frame = frame[frame["role"] != frame["partner_role"]].assign(reason=REASON)
    frame = frame.sort_values(["image_id", "partner_role"]).reset_index(drop=True)
    return frame[["image_id", "role", "reason", "partner_role", "ssim"]].astype({"ssim": np.float32})


def check_straddling(removed: pd.DataFrame, images: int, config: Config, reporter: Reporter) -> None:
    """Say what goes (images, counted on both sides). Raises UnderstudyError where it is more than allowed."""
    gone = removed["image_id"].nunique()
    met = [
        " and ".join(sorted(pair, key=ROLES.index))
        for pair in zip(removed["role"], removed["partner_role"], strict=True)
    ]
    table = ", ".join(f"{between} {count:,}" for between, count in sorted(Counter(met).items()))
    if gone > config.max_straddling_fraction * images:
        raise UnderstudyError(
            explain(
                expected=f"at most {config.max_straddling_fraction:.1%} of images near-duplicated across roles",
                found=f"{gone / images:.1%} of {images:,} ({table})",
                todo="name the subjects (source.subjects), so that one person's images share a role, "
                "or raise prepare.max_straddling_fraction",
            )
        )
    if gone:
        reporter.note(f"prepare: {gone:,} of {images:,} images removed, near-duplicates across roles ({table})")


# ----------------------------------------------------------------------------------------------------- what is written


def check_classes(labels: np.ndarray, roles: np.ndarray, keep: np.ndarray) -> None:
    """Raises UnderstudyError where train or test lacks a class that the source has."""
    for role in ("train", "test"):
        absent = sorted(set(labels.tolist()) - set(labels[keep & (roles == role)].tolist()))
        if absent:
            found = f"none of {', '.join(absent[:8])}{' …' if len(absent) > 8 else ''}"
            todo = f"add subjects of that class, leave it out (source.classes), or raise prepare.shares.{role}"
            raise UnderstudyError(explain(expected=f"every class in role {role}", found=found, todo=todo))


def write_role(
    decoded: Decoded,
    roles: np.ndarray,
    keep: np.ndarray,
    removed: pd.DataFrame,
    role: str,
    config: Config,
    folder: Path,
) -> dict[str, float]:
    """One role as an image set, with ``removed.parquet`` and ``summary.json`` beside it; returns the summary."""
    rows = np.flatnonzero(keep & (roles == role))
    gone = removed[removed["role"] == role].drop(columns="role").reset_index(drop=True)
    manifest = role_manifest(decoded.manifest.iloc[rows], attribute_names(decoded.manifest), role, config)
    told = summary(manifest, gone)
    with files.atomic_folder(folder) as partial:
        write_imageset(
            partial, decoded.images[rows], manifest, decoded.masks[rows] if decoded.masks is not None else None
        )
        write_parquet(gone, partial / "removed.parquet")
        files.write_json(partial / "summary.json", told)
    return told


def role_manifest(raw: pd.DataFrame, attributes: Sequence[str], role: str, config: Config) -> pd.DataFrame:
    """``image_id, label, subject_id, half`` and one column an attribute ("" where an image lacks it; named
    ``attribute_…`` where the manifest needs its name itself).

    ``sha256`` is added by the image set itself: it is of the decoded pixels here, of the encoded bytes in ``raw``.
    """
    frame = raw[["image_id", "label", "subject_id"]].reset_index(drop=True)
    halves = [half_of(subject, config) if role == "reference" else "" for subject in frame["subject_id"]]
    frame = frame.assign(half=pd.Series(halves, dtype=str))
    told = [json.loads(text) for text in raw["attributes"]]
    for name in attributes:
        column = f"attribute_{name}" if name in {*COLUMNS, "half"} else name
        frame[column] = pd.Series([str(one.get(name, "")) for one in told], dtype=str)
    return frame


def attribute_names(raw: pd.DataFrame) -> list[str]:
    """Every attribute that any image of the whole set has, sorted: all roles get the same columns."""
    return sorted({name for text in set(raw["attributes"]) for name in json.loads(text)})


def summary(manifest: pd.DataFrame, gone: pd.DataFrame) -> dict[str, float]:
    """Flat counts of one role."""
    per_class = manifest["label"].value_counts()
    return {
        "images": len(manifest),
        "subjects": int(manifest["subject_id"].nunique()),
        "classes": len(per_class),
        "images_per_class_min": int(per_class.min()) if len(per_class) else 0,
        "images_per_class_max": int(per_class.max()) if len(per_class) else 0,
        "images_calibrate": int((manifest["half"] == "calibrate").sum()),
        "images_control": int((manifest["half"] == "control").sum()),
        "removed_near_duplicates": int(gone["image_id"].nunique()),
    }


def warn_if_thin(role: str, told: Mapping[str, float], config: Config, reporter: Reporter) -> None:
    """Few subjects leave a verdict undecided, and that is better known before the training than after."""
    if role != "test" and told["subjects"] < config.min_subjects:
        reporter.note(
            f"prepare: role {role} has {told['subjects']:,} subjects, under {config.min_subjects:,}: "
            "a PASS cannot be reached, the verdict will be UNDECIDED"
        )
