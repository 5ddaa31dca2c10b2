"""Whole or not at all: outputs are written beside their target, synced, and renamed into place.

A reader therefore never sees half an output, and a killed writer leaves the previous one intact. What a killed writer
leaves behind is a ``.partial-*`` sibling, which the next writer of the same target removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable (fsync of the directory itself)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the file's bytes durable."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def remove(path: Path) -> None:
    """Remove a file, link or folder; a missing one is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _partial(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".partial-{target.name}-*"):
        remove(leftover)
    return target.parent / f".partial-{target.name}-{uuid.uuid4().hex[:12]}"


def _publish(partial: Path, target: Path) -> None:
    """Rename ``partial`` to ``target``; an old folder steps aside first and is removed after."""
    if target.is_dir() and not target.is_symlink():
        aside = target.parent / f".partial-{target.name}-old-{uuid.uuid4().hex[:8]}"
        target.rename(aside)
        partial.rename(target)
        shutil.rmtree(aside)
    else:
        partial.replace(target)
    sync_folder(target.parent)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it becomes ``target``, on any error nothing changes."""
    partial = _partial(target)
    partial.mkdir()
    try:
        yield partial
        for path in sorted(partial.rglob("*")):
            if path.is_file():
                sync_file(path)
            else:
                sync_folder(path)
        sync_folder(partial)
        _publish(partial, target)
    except BaseException:
        remove(partial)
        raise


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it becomes ``target``, on any error nothing changes."""
    partial = _partial(target)
    try:
        yield partial
        sync_file(partial)
        _publish(partial, target)
    except BaseException:
        remove(partial)
        raise


def write_bytes(target: Path, data: bytes) -> None:
    with atomic_file(target) as partial:
        partial.write_bytes(data)


def write_text(target: Path, text: str) -> None:
    write_bytes(target, text.encode())


def canonical_json(value: Any) -> str:
    """JSON text that depends on the value alone: sorted keys, two spaces, a final newline. Refuses NaN and infinity."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(target: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Write canonical JSON whole. Raises ValueError for NaN or infinity: no undefined number is ever recorded."""
    write_text(target, canonical_json(value))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
