"""A folder of images: class per sub-folder (optionally under split folders), or a CSV that names them.

Links are never followed, and nothing outside the folder is ever read. What the names mean is in ``_files.py``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ops.core.errors import CallError, explain
from ops.core.progress import Reporter, SilentReporter
from ops.sources._decode import Unusable
from ops.sources._files import Entry, FilesConfig, clean_name, name_fault
from ops.sources._item import Item, Refusal
from ops.sources._listing import items_of

SILENT = SilentReporter()


class Config(FilesConfig):
    """The block ``source`` with ``kind: folder``."""

    kind: Literal["folder"]


def items(config: Config, base: Path, reporter: Reporter = SILENT) -> Iterator[Item | Refusal]:
    """Images of the folder in the order of their names; bytes are read when asked for.

    Raises CallError where the folder, or what the settings name in it, does not exist.
    """
    root = (base / config.path).resolve()
    if not root.is_dir():
        raise CallError(
            explain(expected=f"a folder of images at {root}", found="no such folder", todo="set source.path")
        )
    entries: list[Entry] = []
    refusals: list[Refusal] = []
    for found in walk(root, "", config):
        (entries if isinstance(found, Entry) else refusals).append(found)  # type: ignore[arg-type]
        if len(entries) + len(refusals) > config.max_files:
            raise CallError(
                explain(expected=f"at most {config.max_files:,} files", found="more", todo="raise source.max_files")
            )
    return items_of(sorted(entries, key=lambda entry: entry.name), refusals, config, reporter)


def walk(root: Path, below: str, config: Config) -> Iterator[Entry | Refusal]:
    """Every file under ``root/below`` as an entry, or as a refusal: symlink, special_file, unsafe_name, too_deep."""
    with os.scandir(root / below) as listing:
        children = sorted(listing, key=lambda child: child.name)
    for child in children:
        name = f"{below}/{child.name}" if below else child.name
        fault = name_fault(name, config.max_depth)
        if fault is not None:
            yield fault
        elif child.is_symlink():
            yield Refusal(name, "symlink", "links are not followed")
        elif child.is_dir(follow_symlinks=False):
            yield from walk(root, name, config)
        elif not child.is_file(follow_symlinks=False):
            yield Refusal(name, "special_file", "neither a file nor a folder")
        else:
            yield entry_of(root, name, child.stat(follow_symlinks=False))


def entry_of(root: Path, name: str, status: os.stat_result) -> Entry:
    """A file that is read later, if at all; path, size, time and inode tell whether it changed."""
    path = root / name
    fingerprint = "\x1f".join(map(str, (path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)))
    return Entry(name, status.st_size, lambda: read_regular(path), fingerprint)


def read_regular(path: Path) -> bytes:
    """Bytes of a regular file. Raises Unusable where it has become a link or something else, or may not be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Unusable("unreadable", clean_name(error.strerror or type(error).__name__)) from error
    with os.fdopen(descriptor, "rb") as handle:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unusable("special_file", "became something else while it was looked at")
        return handle.read(status.st_size)
