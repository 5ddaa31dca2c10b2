"""What a source yields: an item to examine, or a refusal that says why a file never became one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One offered image, still in its original encoding.

    `name` is unique and relative (e.g. "race-0123/car-9/2.png"), `data` the encoded bytes as found,
    `mask` a PNG of uint8 class indices of the image's size, or None where the source has none.
    """

    name: str
    label: str
    subject: str
    attributes: dict[str, str]
    data: bytes
    mask: bytes | None


@dataclass(frozen=True)
class Refusal:
    """One file a source refused before reading it: `reason` is a code such as "symlink", `detail` is for people."""

    name: str
    reason: str
    detail: str
