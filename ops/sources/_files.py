"""What a folder and an archive share: a list of named files, and settings that say what their names mean.

A reader (``folder.py``, ``archive.py``) lists :class:`Entry` objects and refuses what it must not touch; this module
turns the entries into items: which files are images, which masks, what label, subject and attributes each one has. Both
readers therefore agree on any tree, by construction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import Field, model_validator

from ops.core.config import StrictModel
from ops.core.errors import CallError, explain
from ops.sources._decode import SUFFIXES, mask_png
from ops.sources._item import Item, Refusal

MASK_MAX_PIXELS = 64_000_000
SYSTEM_NAMES = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})


class FilesConfig(StrictModel):
    """What the names of files mean; shared by the sources ``folder`` and ``archive``."""

    path: str = Field(..., min_length=1, description="the folder or archive; relative to the workspace")
    labels: Literal["auto", "folder", "pattern", "table", "none"] = Field(
        "auto",
        description="auto: from the table or pattern if it has them, else from sub-folders, else one constant class",
    )
    constant_label: str = Field("image", min_length=1, description="the class of all images where there are no labels")
    classes: list[str] | None = Field(None, min_length=1, description="take these labels only; all where absent")
    subjects: Literal["image", "folder", "pattern", "table"] = Field(
        "image",
        description="who is in the picture: each image on its own, the folder below the class, pattern or table",
    )
    name_pattern: str | None = Field(
        None,
        description="regular expression, searched in the relative name; groups label, subject; others are attributes",
    )
    table: str | None = Field(
        None, description="CSV inside the source: file, label, subject, mask, attributes; others are attributes"
    )
    split_folders: list[str] = Field(
        ["train", "test", "val", "valid", "validation"], description="top folders that are splits, not classes; merged"
    )
    test_folder: str | None = Field(None, description="the split folder whose images become role test")
    mask_folder: str | None = Field(
        None, description="folder of masks, paired with the images by relative path without suffix"
    )
    mask_threshold: int | None = Field(
        None, ge=1, le=255, description="grey ≥ this is mask class 1, the rest 0; absent: values are classes"
    )
    max_files: int = Field(5_000_000, ge=1, description="more entries than this are refused altogether")
    max_depth: int = Field(16, ge=1, description="folders below the root")

    @model_validator(mode="after")
    def _pattern_fits(self) -> Self:
        groups = pattern_groups(self.name_pattern)
        for what, value in (("label", self.labels), ("subject", self.subjects)):
            if value == "pattern" and what not in groups:
                raise ValueError(f"{what}s: pattern needs a name_pattern with a group (?P<{what}>…)")
            if value == "table" and self.table is None:
                raise ValueError(f"{what}s: table needs a table")
        if "subject" in groups and self.subjects != "pattern":
            raise ValueError("name_pattern names a subject that nobody reads: write subjects: pattern")
        return self


def pattern_groups(pattern: str | None) -> frozenset[str]:
    """Names of the groups. Raises ValueError where it is no regular expression."""
    try:
        return frozenset(re.compile(pattern).groupindex) if pattern is not None else frozenset()
    except re.error as error:
        raise ValueError(f"name_pattern is no regular expression: {error}") from error


@dataclass(frozen=True)
class Entry:
    """One regular file: its relative name, its size in bytes, how to read it, and a text that changes when it may have.

    ``fingerprint`` is None where a file can only be known by reading it (a member of a compressed stream)."""

    name: str
    size_bytes: int
    read: Callable[[], bytes] = field(repr=False)
    fingerprint: str | None = None


class FileItem(Item):
    """An item whose bytes are read only when they are asked for, so that an unchanged file is never read again.

    Reading may raise :class:`ops.sources._decode.Unusable`.
    """

    def __init__(self, entry: Entry, mask: Entry | None, threshold: int | None, meaning: Meaning) -> None:
        for key, value in (
            ("name", entry.name),
            ("label", meaning.label),
            ("subject", meaning.subject),
            ("attributes", meaning.attributes),
            ("_entry", entry),
            ("_mask", mask),
            ("_threshold", threshold),
        ):
            object.__setattr__(self, key, value)

    @property
    def size_bytes(self) -> int:
        """Bytes of the encoded image, known without reading it."""
        return self._entry.size_bytes  # type: ignore[attr-defined,no-any-return]

    @property
    def fingerprint(self) -> str | None:
        """Changes whenever image or mask may have changed; None where only reading would tell."""
        parts = [self._entry.fingerprint, self._mask.fingerprint if self._mask else ""]  # type: ignore[attr-defined]
        return None if None in parts else "\x1f".join([*map(str, parts), str(self._threshold)])  # type: ignore[attr-defined]

    @property
    def data(self) -> bytes:  # type: ignore[override]
        return self._entry.read()  # type: ignore[attr-defined,no-any-return]

    @property
    def mask(self) -> bytes | None:  # type: ignore[override]
        if self._mask is None:  # type: ignore[attr-defined]
            return None
        return mask_png(self._mask.read(), threshold=self._threshold, max_pixels=MASK_MAX_PIXELS)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Meaning:
    """What a name says about an image."""

    label: str
    subject: str
    attributes: dict[str, str]


@dataclass(frozen=True)
class Placed:
    """An entry and where it lies: ``parts`` below wrapper and split folder (the last one is the file), ``split``."""

    entry: Entry
    parts: tuple[str, ...]
    split: str

    @property
    def key(self) -> tuple[str, ...]:
        return (self.split, *self.parts[:-1], self.parts[-1].rpartition(".")[0] or self.parts[-1])


def clean_name(name: str) -> str:
    """A name that any table can hold: bytes that are no UTF-8 and control characters become visible escapes."""
    if name.isprintable() and name.isascii():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def name_fault(name: str, max_depth: int) -> Refusal | None:
    """Why a relative name must not be followed, or None: absolute, ``..``, control characters (NUL), too deep."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or re.match(r"^[A-Za-z]:", name) or ".." in parts:
        return Refusal(clean_name(name), "outside_root", "an absolute name or one with '..'")
    if clean_name(name) != name or "" in parts or "." in parts:
        return Refusal(clean_name(name), "unsafe_name", "control characters, bytes that are no UTF-8, or an empty part")
    if len(parts) - 1 > max_depth:
        return Refusal(name, "too_deep", f"{len(parts) - 1} folders, limit {max_depth}")
    return None


def is_system(name: str) -> bool:
    """Files that an operating system leaves behind: hidden ones, macOS resource forks, thumbnails."""
    return any(part.startswith(".") or part in SYSTEM_NAMES for part in name.split("/"))


def looks_like_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in SUFFIXES


def place(entries: Sequence[Entry], config: FilesConfig) -> list[Placed]:
    """Strip the one folder that wraps everything, then split folders, then the one folder that wraps the images."""
    placed = unwrapped([Placed(entry, tuple(entry.name.split("/")), "") for entry in entries])
    tops = {item.parts[0] if len(item.parts) > 1 else "" for item in _images(placed)}
    if config.test_folder is not None and config.test_folder not in tops:
        raise CallError(
            explain(
                expected=f"a folder '{config.test_folder}' in {config.path}",
                found=some(tops),
                todo="set source.test_folder",
            )
        )
    splits = {*config.split_folders, *([config.test_folder] if config.test_folder is not None else [])}
    if tops and tops <= splits:
        placed = [
            Placed(p.entry, p.parts[1:], p.parts[0]) if p.parts[0] in splits and len(p.parts) > 1 else p for p in placed
        ]
    if config.mask_folder is None:
        return placed
    masks = [item for item in placed if is_mask(item, config)]
    if not masks:
        found = some({item.parts[0] for item in placed if len(item.parts) > 1})
        raise CallError(
            explain(expected=f"masks in a folder '{config.mask_folder}'", found=found, todo="set source.mask_folder")
        )
    return [*unwrapped([item for item in placed if not is_mask(item, config)]), *masks]


def _images(placed: Sequence[Placed]) -> list[Placed]:
    """Those that look like images; all where none does (a README beside the wrapper must not change every label)."""
    return [item for item in placed if looks_like_image(item.entry.name)] or list(placed)


def some(names: set[str]) -> str:
    shown = sorted(name for name in names if name)
    return (", ".join(shown[:8]) + (" …" if len(shown) > 8 else "")) or "none"


def unwrapped(placed: list[Placed]) -> list[Placed]:
    """Without the single top folder that all images share, if there is one."""
    tops = {item.parts[0] if len(item.parts) > 1 else "" for item in _images(placed)}
    if len(tops) != 1 or "" in tops:
        return placed
    (top,) = tops
    return [Placed(p.entry, p.parts[1:], p.split) if len(p.parts) > 1 and p.parts[0] == top else p for p in placed]


def is_mask(item: Placed, config: FilesConfig) -> bool:
    return config.mask_folder is not None and len(item.parts) > 1 and item.parts[0] == config.mask_folder


def from_names(placed: Sequence[Placed], config: FilesConfig) -> Iterator[Item | Refusal]:
    """Label, subject and attributes from folders and from the pattern."""
    masks = {(p.split, *p.key[2:]): p.entry for p in placed if is_mask(p, config)}
    images = [item for item in placed if not is_mask(item, config)]
    label_from = config.labels if config.labels != "auto" else guess_labels(images, config)
    paired = set()
    for item in images:
        meaning = read_name(item, label_from, config)
        mask = masks.get(item.key)
        if mask is not None:
            paired.add(mask.name)
        if isinstance(meaning, Refusal):
            yield meaning
        elif config.mask_folder is not None and mask is None and looks_like_image(item.entry.name):
            yield Refusal(item.entry.name, "mask_missing", f"no mask of that name in '{config.mask_folder}'")
        else:
            yield FileItem(item.entry, mask, config.mask_threshold, meaning)
    for mask in masks.values():
        if mask.name not in paired:
            yield Refusal(mask.name, "mask_without_image", "no image of that name")


def guess_labels(images: Sequence[Placed], config: FilesConfig) -> str:
    """Where labels come from when the settings leave it open."""
    if "label" in pattern_groups(config.name_pattern):
        return "pattern"
    depth = max((len(item.parts) - 1 for item in _images(images)), default=0)
    return "folder" if depth > (config.subjects == "folder") else "none"


def read_name(item: Placed, label_from: str, config: FilesConfig) -> Meaning | Refusal:
    """The meaning of one file's name, or why it has none."""
    name, folders = item.entry.name, list(item.parts[:-1])
    groups: dict[str, str] = {}
    if config.name_pattern is not None:
        match = re.search(config.name_pattern, "/".join(item.parts))
        if match is None:
            return Refusal(name, "no_pattern_match", "source.name_pattern does not match")
        groups = {key: value or "" for key, value in match.groupdict().items()}
    if label_from == "folder" and not folders:
        return Refusal(name, "no_class_folder", "lies outside every class folder")
    label = folders.pop(0) if label_from == "folder" else config.constant_label
    label = groups.get("label", "") if label_from == "pattern" else label
    if config.subjects == "folder" and not folders:
        return Refusal(name, "no_subject", "lies outside every subject folder")
    subject = {"folder": "/".join(folders), "pattern": groups.get("subject", "")}.get(config.subjects, "")
    if not label or (config.subjects == "pattern" and not subject):
        return Refusal(name, "no_subject" if label else "no_label", "source.name_pattern matches nothing there")
    extra = {key: value for key, value in groups.items() if key not in ("label", "subject")}
    return Meaning(label, subject, extra | split_attribute(item, config))


def split_attribute(item: Placed, config: FilesConfig) -> dict[str, str]:
    """``split: test`` for images of the folder that the settings reserve for testing."""
    return {"split": "test"} if config.test_folder is not None and item.split == config.test_folder else {}
