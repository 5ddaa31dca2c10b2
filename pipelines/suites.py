"""What must hold of the data between stages: four suites, each a measured table and the rules for it.

``raw`` (after ingest), ``prepared`` (all four roles at once, because "no subject in two roles" is a statement about all
of them), ``synthetic`` and ``filtered`` (a family each). Labels, subjects and roles never enter the table: what is
asked about them is measured first into flags and shares (``label_known``, ``subject_roles``, ``class_share``), so that
no rule has a private value as its parameter. :mod:`pipelines.expectations` has Great Expectations judge the table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from ops.core import files
from ops.core.config import StrictModel
from ops.core.errors import CallError, UnderstudyError, explain
from ops.core.imageset import ImageSet, pixel_digests
from ops.core.paths import ROLES, Workspace

BLOCK_IMAGES = 512  # images measured at once: bounds memory, changes no result
IDENTITY = ("image_id", "label", "subject_id", "sha256")


class Config(StrictModel):
    """The block ``expectations``."""

    min_class_share: float = Field(
        ..., ge=0, le=1, description="least images of a class in a role, as a fraction of an even share (1: all equal)"
    )
    min_pixel_std: float = Field(
        ..., ge=0, le=127.5, description="grey levels; an image whose channels all vary less counts as blank"
    )
    max_blank_fraction: float = Field(..., ge=0, lt=1, description="largest fraction of blank images in a set")


@dataclass(frozen=True)
class Rule:
    """One expectation: ``kind`` is the class in ``great_expectations.expectations``, ``options`` its arguments."""

    name: str
    expected: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    blocking: bool = True


@dataclass(frozen=True)
class Case:
    """What a suite is about: where things lie, the family (None for real data), limits, all settings."""

    ws: Workspace
    family: str | None
    limits: Config
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Suite:
    """A measured table (index: where a row is found, e.g. ``train:17``) and what is expected of it."""

    name: str
    table: pd.DataFrame
    rules: Sequence[Rule]


# ---------------------------------------------------------------- rules that several suites share


def _flag(name: str, expected: str, column: str | None = None, blocking: bool = True) -> Rule:
    """Every row's measured flag must be true."""
    options = {"column": column or name, "value_set": [True]}
    return Rule(name, expected, "ExpectColumnValuesToBeInSet", options, blocking)


def _between(name: str, expected: str, column: str, blocking: bool = True, **limits: float) -> Rule:
    return Rule(name, expected, "ExpectColumnValuesToBeBetween", {"column": column, **limits}, blocking)


def _identity_rules(unique_hashes_block: bool) -> list[Rule]:
    unique, pattern = "ExpectColumnValuesToBeUnique", "ExpectColumnValuesToMatchRegex"
    return [
        _flag("rows_complete", "every column that the format names, filled in every row"),
        Rule("unique_ids", "no image_id twice", unique, {"column": "image_id"}),
        Rule("hash_form", "sha256 of 64 hex digits", pattern, {"column": "sha256", "regex": "^[0-9a-f]{64}$"}),
        Rule("unique_hashes", "no sha256 twice", unique, {"column": "sha256"}, unique_hashes_block),
    ]


def _some_rows() -> Rule:
    return Rule("some_rows", "one row or more", "ExpectTableRowCountToBeBetween", {"min_value": 1})


def _pixel_rules(case: Case) -> list[Rule]:
    (size_px, channels), limits = _shape(case), case.limits
    mostly = 1 - limits.max_blank_fraction
    blank = f"a pixel standard deviation of {limits.min_pixel_std:g} or more in {mostly:.1%} of images"
    return [
        _flag("pixel_type", "uint8 pixels", column="is_uint8"),
        _between("height", f"{size_px} px high", "height_px", min_value=size_px, max_value=size_px),
        _between("width", f"{size_px} px wide", "width_px", min_value=size_px, max_value=size_px),
        _between("channels", f"channels: {channels}", "channels", min_value=channels, max_value=channels),
        _flag("hash_matches", "sha256 is that of the row's pixels"),
        _between("not_blank", blank, "pixel_std", min_value=limits.min_pixel_std, mostly=mostly),
    ]


def _balance(limits: Config, column: str = "class_share", name: str = "class_balance", blocking: bool = True) -> Rule:
    expected = f"every class has {limits.min_class_share:g} of an even share or more"
    return _between(name, expected, column, blocking, min_value=limits.min_class_share)


# ---------------------------------------------------------------- measures


def _complete(manifest: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Whether each row has a value in each named column: bool [n]; a missing column makes all rows incomplete."""
    table = manifest.reindex(columns=list(columns))
    return np.all((table.notna() & (table.astype(str) != "")).to_numpy(), axis=1)


def _text(manifest: pd.DataFrame, column: str) -> pd.Series:
    """A column as text, missing values as "": expectations skip nulls, and a null must not pass by being skipped."""
    values = manifest[column] if column in manifest else pd.Series([None] * len(manifest), index=manifest.index)
    return values.astype(object).where(values.notna(), "").astype(str)


def _class_share(labels: pd.Series) -> pd.Series:
    """Images of the row's class over an even share (n / classes): float64 [n]; 1 is even."""
    counts = labels.value_counts()
    return labels.map(counts).astype(float) * max(len(counts), 1) / max(len(labels), 1)


def _identity(manifest: pd.DataFrame, where: str, columns: Sequence[str] = IDENTITY) -> pd.DataFrame:
    """The part of the table that every suite has; the index says where a row is found."""
    values = {name: _text(manifest, name).to_numpy() for name in ("image_id", "sha256")}
    table = pd.DataFrame(values | {"rows_complete": _complete(manifest, columns)})
    return table.set_axis([f"{where}:{row}" for row in range(len(table))])


def _blocks(images: ImageSet) -> Iterator[np.ndarray]:
    for shard in images.shards:
        for start in range(0, len(shard), BLOCK_IMAGES):
            yield np.asarray(shard[start : start + BLOCK_IMAGES])


def _pixels(images: ImageSet) -> dict[str, np.ndarray]:
    """Sizes, type, digest and spread of every image; ``pixel_std`` is the largest channel's, in grey levels."""
    columns = ("height_px", "width_px", "channels", "is_uint8", "pixel_std", "digest")
    rows: dict[str, list[Any]] = {name: [] for name in columns}
    for block in _blocks(images):
        n, height, width, channels = block.shape
        spread = block.std(axis=(1, 2), dtype=np.float32).max(axis=-1)
        values = (height, width, channels, block.dtype == np.uint8, spread, pixel_digests(block))
        for name, value in zip(columns, values, strict=True):
            rows[name] += [value] * n if np.isscalar(value) or isinstance(value, bool | np.bool_) else list(value)
    kinds = {"pixel_std": float, "is_uint8": bool, "digest": object}
    return {name: np.array(values, dtype=kinds.get(name, int)) for name, values in rows.items()}


def _image_table(folder: Path, where: str, columns: Sequence[str] = IDENTITY) -> tuple[ImageSet, pd.DataFrame]:
    """An image set and its measured table."""
    images = ImageSet(folder)
    pixels = _pixels(images)
    digest = pixels.pop("digest")
    table = _identity(images.manifest, where, columns).assign(**pixels)
    return images, table.assign(hash_matches=table["sha256"].to_numpy() == digest)


def _shape(case: Case) -> tuple[int, int]:
    """Side in pixels and channels of every prepared and every synthetic image."""
    prepare = case.params.get("prepare")
    if not isinstance(prepare, Mapping) or not {"size_px", "channels"} <= set(prepare):
        todo = "add what is missing to the block 'prepare'"
        raise CallError(explain(expected="prepare.size_px and prepare.channels", found=str(prepare), todo=todo))
    return int(prepare["size_px"]), int(prepare["channels"])


# ---------------------------------------------------------------- the suites


def _raw(case: Case) -> Suite:
    """Kept files of ingest. Exact duplicates are allowed here (a warning): `prepare` settles them."""
    manifest = pd.read_parquet(case.ws.raw / "manifest.parquet")
    quarantine = pd.read_parquet(case.ws.raw / "quarantine.parquet")
    sides = manifest.reindex(columns=["width", "height"]).fillna(0).to_numpy()
    table = _identity(manifest, "row", (*IDENTITY, "name", "width", "height")).assign(
        shortest_side_px=sides.min(axis=1) if len(sides) else [],
        class_share=_class_share(_text(manifest, "label")).to_numpy(),
        not_quarantined=~_text(manifest, "name").isin(set(_text(quarantine, "name"))).to_numpy(),
    )
    rules = [
        _some_rows(),
        *_identity_rules(unique_hashes_block=False),
        _between("has_size", "width and height of 1 px or more", "shortest_side_px", min_value=1),
        _flag("not_quarantined", "no file both kept and in quarantine"),
        _balance(case.limits, blocking=False),
    ]
    return Suite("raw", table, rules)


def _prepared(case: Case) -> Suite:
    """All four roles in one table: no subject and no hash in two of them, labels of all known to train."""
    tables, labels, subjects = [], [], []
    for role in ROLES:
        images, table = _image_table(case.ws.role(role), role)
        share = _class_share(_text(images.manifest, "label")).to_numpy()
        settled = role in ("train", "test")
        half = _text(images.manifest, "half")
        halves = ("calibrate", "control") if role == "reference" else ("",)
        table = table.assign(role=role, half_named=half.isin(halves).to_numpy())
        tables.append(table.assign(class_share=share if settled else np.nan, thin_share=np.nan if settled else share))
        labels.append(_text(images.manifest, "label"))
        subjects.append(_text(images.manifest, "subject_id"))
    table = pd.concat(tables)
    known = set(labels[ROLES.index("train")]) & set(labels[ROLES.index("test")])
    subject, role_of = pd.concat(subjects).set_axis(table.index), table.pop("role")
    table = table.assign(
        label_known=pd.concat(labels).isin(known).to_numpy(),
        subject_roles=role_of.groupby(subject).transform("nunique"),
        hash_roles=role_of.groupby(table["sha256"]).transform("nunique"),
    )
    rules = [
        _some_rows(),
        *_identity_rules(unique_hashes_block=False),
        _between("subject_in_one_role", "no subject in two roles", "subject_roles", max_value=1),
        _between("hash_in_one_role", "no sha256 in two roles", "hash_roles", max_value=1),
        _flag("label_known", "only labels that both train and test hold"),
        _flag("half_named", "calibrate or control in reference, nothing elsewhere"),
        *_pixel_rules(case),
        _balance(case.limits),
        _balance(case.limits, "thin_share", "class_balance_audit_reference", blocking=False),
    ]
    return Suite("prepared", table, rules)


def _train_labels(case: Case) -> set[str]:
    return set(_text(pd.read_parquet(case.ws.role("train") / "manifest.parquet", columns=["label"]), "label"))


def _family(case: Case) -> str:
    if case.family is None:
        raise UnderstudyError(explain(expected="a family", found="none", todo="name the family whose set is checked"))
    return case.family


def _synthetic(case: Case) -> Suite:
    """The draw of one family: every image says which model and which seed made it."""
    provenance = ("family", "seed", "model_sha256")
    family = _family(case)
    images, table = _image_table(case.ws.synthetic(family), "row", IDENTITY)
    labels = _text(images.manifest, "label")
    table = table.assign(
        label_known=labels.isin(_train_labels(case)).to_numpy(),
        class_share=_class_share(labels).to_numpy(),
        provenance=_complete(images.manifest, provenance),
        family_named=(_text(images.manifest, "family") == family).to_numpy(),
        model_sha256=_text(images.manifest, "model_sha256").to_numpy(),
        own_subject=(_text(images.manifest, "subject_id") == _text(images.manifest, "image_id")).to_numpy(),
    )
    pattern = {"column": "model_sha256", "regex": "^[0-9a-f]{64}$"}
    rules = [
        _some_rows(),
        *_identity_rules(unique_hashes_block=False),
        _flag("label_known", "only labels that train holds"),
        _flag("provenance", "family, seed and model_sha256 in every row"),
        _flag("family_named", f"family '{family}' in every row"),
        Rule("model_hash_form", "model_sha256 of 64 hex digits", "ExpectColumnValuesToMatchRegex", pattern),
        _flag("own_subject", "every image its own subject"),
        *_pixel_rules(case),
        _balance(case.limits),
    ]
    return Suite("synthetic", table, rules)


def _filtered(case: Case) -> Suite:
    """What the band kept. No row at all is a result, not a fault; a row outside the band is a fault."""
    family = _family(case)
    folder = case.ws.filtered(family)
    images, table = _image_table(folder, "row")
    scores = pd.read_parquet(folder / "scores.parquet").set_index("image_id")
    drawn = pd.read_parquet(case.ws.synthetic(family) / "manifest.parquet", columns=["image_id", "sha256", "label"])
    # In the scores' own type: the filter compared there, and a float32 equal to its limit may exceed it in float64.
    limit = float(scores["ssim_max"].to_numpy().dtype.type(files.read_json(folder / "filter.json")["ssim_max_limit"]))
    ids, kept = table["image_id"], set(scores.index[scores["kept"]])
    as_drawn = set(drawn.itertuples(index=False, name=None))
    labels = _text(images.manifest, "label")
    rows = zip(ids, table["sha256"], labels, strict=True)
    table = table.assign(
        label_known=labels.isin(_train_labels(case)).to_numpy(),
        scored_as_kept=ids.isin(kept),
        all_kept=len(kept) == len(table),
        drawn=[row in as_drawn for row in rows],
        ssim_max=ids.map(scores["ssim_max"]).astype(float).fillna(np.inf).clip(upper=2.0),
        class_share=_class_share(labels).to_numpy(),
    )
    rules = [
        *_identity_rules(unique_hashes_block=False),
        _between("ssim_max_below_limit", f"ssim_max ≤ {limit:.4f} where kept", "ssim_max", max_value=limit),
        _flag("scored_as_kept", "only images that scores.parquet marks as kept"),
        _flag("all_kept", "every image that scores.parquet marks as kept"),
        _flag("drawn", "id, hash and label as in the synthetic set"),
        _flag("label_known", "only labels that train holds"),
        *_pixel_rules(case),
        _balance(case.limits, blocking=False),
    ]
    return Suite("filtered", table, rules)


SUITES: dict[str, tuple[str, Callable[[Case], Suite]]] = {
    "ingest": ("raw", _raw),
    "prepare": ("prepared", _prepared),
    "sample": ("synthetic", _synthetic),
    "filter": ("filtered", _filtered),
}
