"""A zip, tar or compressed tar of images, read member by member into memory: nothing is ever extracted to disk.

Links, devices, absolute names, ``..``, control characters and names that differ in case only are refused before any
member is read (``tarfile``'s own filters have been bypassed: CVE-2025-4517), and so are members that claim an
implausible compression ratio. What the names mean is in ``_files.py``, as for a folder.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from ops.core.errors import CallError, UnderstudyError, explain
from ops.core.progress import Reporter, SilentReporter
from ops.sources._decode import Unusable
from ops.sources._files import Entry, FilesConfig, clean_name, name_fault
from ops.sources._item import Item, Refusal
from ops.sources._listing import items_of

S_IFMT, S_IFREG, S_IFLNK, S_IFDIR = 0o170000, 0o100000, 0o120000, 0o040000
READ_ERRORS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError)


SILENT = SilentReporter()


class Config(FilesConfig):
    """The block ``source`` with ``kind: archive``."""

    kind: Literal["archive"]
    max_total_bytes: int = Field(64 * 2**30, ge=1, description="sum of all members, uncompressed")
    max_member_bytes: int = Field(2**30, ge=1, description="one member, uncompressed; larger ones are not read")
    max_ratio: float = Field(100.0, ge=1, description="uncompressed over compressed bytes of one zip member")


def items(config: Config, base: Path, reporter: Reporter = SILENT) -> Iterator[Item | Refusal]:
    """Images of the archive, in its own order (so that a compressed stream is read forwards).

    Raises CallError where it does not exist or is neither zip nor tar, UnderstudyError where it is damaged or too big.
    """
    path = (base / config.path).resolve()
    if not path.is_file():
        raise CallError(explain(expected=f"an archive at {path}", found="no such file", todo="set source.path"))
    listing = opened(path)(path, config)
    entries, refusals = without_collisions(listing)
    total = sum(entry.size_bytes for entry in entries)
    within("members", len(listing), config.max_files, "max_files")
    within("bytes", total, config.max_total_bytes, "max_total_bytes")
    return items_of(entries, refusals, config, reporter)


def within(what: str, found: int, limit: int, key: str) -> None:
    """Raises UnderstudyError where an archive holds more than its settings allow."""
    if found > limit:
        raise UnderstudyError(
            explain(expected=f"at most {limit:,} {what}", found=f"{found:,}", todo=f"raise source.{key}")
        )


def opened(path: Path) -> Callable[[Path, Config], list[Entry | Refusal]]:
    """The reader for this kind of archive, by its bytes. Raises CallError."""
    if zipfile.is_zipfile(path):
        return zip_entries
    try:
        is_tar = tarfile.is_tarfile(path)
    except READ_ERRORS:  # a file that only begins like a compressed one
        is_tar = False
    if is_tar:
        return tar_entries
    raise CallError(
        explain(expected=f"a zip, tar or compressed tar at {path}", found="something else", todo="set source.path")
    )


def without_collisions(listing: Sequence[Entry | Refusal]) -> tuple[list[Entry], list[Refusal]]:
    """Entries whose name is theirs alone; those that share it, or differ in case only, are all refused."""
    count = Counter(found.name.casefold() for found in listing if isinstance(found, Entry))
    refusals = [found for found in listing if isinstance(found, Refusal)]
    entries = []
    for found in listing:
        if isinstance(found, Entry) and count[found.name.casefold()] > 1:
            refusals.append(
                Refusal(found.name, "name_collision", "another member has this name, or differs in case only")
            )
        elif isinstance(found, Entry):
            entries.append(found)
    return entries, refusals


def stamp(path: Path) -> str:
    """Changes when the archive may have changed: path, size, times and inode."""
    status = path.stat()
    return "\x1f".join(map(str, (path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)))


def zip_entries(path: Path, config: Config) -> list[Entry | Refusal]:
    """Members of a zip. Raises UnderstudyError where its directory is damaged."""
    try:
        archive = zipfile.ZipFile(path)
    except READ_ERRORS as error:
        raise damaged(path, error) from error
    mark = stamp(path)
    return [zip_entry(archive, info, mark, config) for info in archive.infolist() if not info.is_dir()]


def zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, mark: str, config: Config) -> Entry | Refusal:
    """One member of a zip as an entry, or why it is refused."""
    # The name as stored: zipfile itself cuts it at a NUL and would so hide one.
    if fault := name_fault(info.orig_filename, config.max_depth):
        return fault
    kind = (info.external_attr >> 16) & S_IFMT
    if kind not in (0, S_IFREG):
        return Refusal(info.filename, "symlink" if kind == S_IFLNK else "special_file", "neither a file nor a folder")
    if info.flag_bits & 1:
        return Refusal(info.filename, "encrypted", "members must not be encrypted")
    if info.file_size > config.max_member_bytes:
        return Refusal(info.filename, "too_large", f"{info.file_size:,} bytes, limit {config.max_member_bytes:,}")
    if info.file_size > config.max_ratio * max(info.compress_size, 1) and info.file_size > 2**16:
        return Refusal(info.filename, "compression_ratio", f"claims more than {config.max_ratio:g} to 1")
    fingerprint = "\x1f".join([mark, info.filename, str(info.header_offset), f"{info.CRC:08x}"])
    return Entry(info.filename, info.file_size, lambda: read_member(lambda: archive.read(info)), fingerprint)


def tar_entries(path: Path, config: Config) -> list[Entry | Refusal]:
    """Members of a tar, compressed or not. Raises UnderstudyError where it is damaged."""
    found: list[Entry | Refusal] = []
    total = 0
    try:
        archive = tarfile.open(path, "r:*")  # noqa: SIM115 - stays open for the lazy readers, closed with the last of them
        for info in archive:
            total += info.size
            # At each header, so that a compressed bomb is not unpacked to its end.
            within("bytes", total, config.max_total_bytes, "max_total_bytes")
            within("members", len(found), config.max_files, "max_files")
            if not info.isdir():
                found.append(tar_entry(archive, info, path, config))
    except READ_ERRORS as error:
        raise damaged(path, error) from error
    return found


def tar_entry(archive: tarfile.TarFile, info: tarfile.TarInfo, path: Path, config: Config) -> Entry | Refusal:
    """One member of a tar as an entry, or why it is refused."""
    name = info.name.removeprefix("./")
    if fault := name_fault(name, config.max_depth):
        return fault
    if info.issym() or info.islnk():
        return Refusal(name, "symlink", "links are not followed")
    if not info.isreg() or info.sparse is not None:
        return Refusal(name, "special_file", "neither a plain file nor a folder")
    if info.size > config.max_member_bytes:
        return Refusal(name, "too_large", f"{info.size:,} bytes, limit {config.max_member_bytes:,}")

    def read() -> bytes:
        handle = archive.extractfile(info)
        assert handle is not None, name
        return handle.read()

    fingerprint = "\x1f".join([stamp(path), name, str(info.offset_data)])
    return Entry(name, info.size, lambda: read_member(read), fingerprint)


def read_member(read: Callable[[], bytes]) -> bytes:
    """Bytes of one member. Raises Unusable where its checksum, its compression or its length is wrong."""
    try:
        return read()
    except READ_ERRORS as error:
        raise Unusable("corrupt_member", clean_name(type(error).__name__)) from error


def damaged(path: Path, error: Exception) -> UnderstudyError:
    found = f"{type(error).__name__} ({clean_name(str(error))})"
    return UnderstudyError(explain(expected=f"a whole archive at {path}", found=found, todo="fetch or pack it again"))
