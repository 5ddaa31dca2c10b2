"""Where ingestion keeps bytes: 256 shards by hash prefix, and a cache beside them so that little is done twice.

DVC removes a stage's outputs before it runs the stage, so what is to be reused lives in ``state/ingest``: which file
(path, size, times, inode) held which bytes, what those bytes turned out to be, and each shard under the key of its
rows. A cached shard is hashed before it is reused: it may share its inode with an output that somebody has edited.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ops.core import files
from ops.core.config import StrictModel

FORMAT = 1  # part of every cache key: raise it when shards or verdicts change their meaning
SHARDS = 256
SPOOL_BYTES = 64 * 2**20

MANIFEST = pa.schema(
    [
        ("image_id", pa.string()),
        ("sha256", pa.string()),
        ("name", pa.string()),
        ("label", pa.string()),
        ("subject_id", pa.string()),
        ("attributes", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)
SHARD = pa.schema([*list(MANIFEST)[:6], ("data", pa.binary()), ("mask", pa.binary()), *list(MANIFEST)[6:]])
FILES = pa.schema([("fingerprint", pa.string()), ("sha256", pa.string()), ("mask_sha256", pa.string())])
VERDICTS = pa.schema(
    [
        ("sha256", pa.string()),
        ("mask_sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class Verdict:
    """What some bytes turned out to be: width and height in pixels, or why they cannot be used ("" if they can)."""

    width: int
    height: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Row:
    """One kept image: a row of the manifest; ``attributes`` is JSON, ``mask_sha256`` "" where there is no mask."""

    image_id: str
    sha256: str
    name: str
    label: str
    subject_id: str
    attributes: str
    width: int
    height: int
    mask_sha256: str

    def public(self) -> dict[str, str | int]:
        return {key: value for key, value in asdict(self).items() if key != "mask_sha256"}


def shard_name(number: int) -> str:
    return f"shard-{number:02x}.parquet"


def write_table(rows: Iterable[Mapping[str, object]], schema: pa.Schema, path: Path) -> None:
    """Parquet whose bytes depend on the rows alone."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd", compression_level=1)


@functools.cache
def empty_shard() -> bytes:
    """A shard without rows; a small set has many of them."""
    buffer = io.BytesIO()
    pq.write_table(SHARD.empty_table(), buffer, compression="zstd", compression_level=1)
    return buffer.getvalue()


class Spool:
    """Bytes by digest, in memory up to 64 MiB and then in 256 files of ``folder``, so that a set may exceed memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.buffers: list[list[tuple[str, bytes]]] = [[] for _ in range(SHARDS)]
        self.seen: set[tuple[int, str]] = set()
        self.held_bytes = 0

    def put(self, shard: int, digest: str, data: bytes) -> None:
        if (shard, digest) in self.seen:
            return
        self.seen.add((shard, digest))
        self.buffers[shard].append((digest, data))
        self.held_bytes += len(data)
        if self.held_bytes > SPOOL_BYTES:
            self._flush()

    def _flush(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for shard, pairs in enumerate(self.buffers):
            with (self.folder / f"{shard:02x}").open("ab") as handle:
                for digest, data in pairs:
                    handle.write(bytes.fromhex(digest) + len(data).to_bytes(8, "big") + data)
            pairs.clear()
        self.held_bytes = 0

    def get(self, shard: int) -> dict[str, bytes]:
        """Everything that was put into one shard."""
        found = {}
        path = self.folder / f"{shard:02x}"
        if path.exists():
            with path.open("rb") as handle:
                while head := handle.read(40):
                    found[head[:32].hex()] = handle.read(int.from_bytes(head[32:], "big"))
        return found | dict(self.buffers[shard])


class Cache:
    """What an earlier run learnt, in ``folder`` (``state/ingest``); ``limits``: settings that verdicts depend on."""

    def __init__(self, folder: Path, limits: StrictModel) -> None:
        self.folder = folder
        self.shards = folder / "shards"
        self.edition = f"{FORMAT}-{pa.__version__}-{limits.digest()}"
        self.files: dict[str, tuple[str, str]] = {}
        self.verdicts: dict[tuple[str, str], Verdict] = {}
        self.held: dict[int, list[Path]] = defaultdict(list)
        for path in sorted(self.shards.glob("[0-9a-f][0-9a-f]-*.parquet")):
            self.held[int(path.name[:2], 16)].append(path)
        if not self._current():
            return
        for row in pq.read_table(folder / "files.parquet").to_pylist():
            self.files[row["fingerprint"]] = (row["sha256"], row["mask_sha256"])
        for row in pq.read_table(folder / "verdicts.parquet").to_pylist():
            key = (row.pop("sha256"), row.pop("mask_sha256"))
            self.verdicts[key] = Verdict(**row)

    def _tables_digest(self) -> str:
        return " ".join(files.sha256_file(self.folder / f"{name}.parquet") for name in ("files", "verdicts"))

    def _current(self) -> bool:
        """Whether both tables are there, whole and of this edition: a damaged cache is no cache, and no error."""
        edition = self.folder / "edition.txt"
        if not all((self.folder / name).is_file() for name in ("edition.txt", "files.parquet", "verdicts.parquet")):
            return False
        return edition.read_text(errors="replace") == f"{self.edition} {self._tables_digest()}"

    def save(self, seen: Mapping[str, tuple[str, str]], verdicts: Mapping[tuple[str, str], Verdict]) -> None:
        """Remember this run's findings, and only those, so that the cache never outgrows its set."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "edition.txt").unlink(
            missing_ok=True
        )  # a kill between the three files leaves no edition: no cache
        rows = [{"fingerprint": key, "sha256": sha, "mask_sha256": mask} for key, (sha, mask) in sorted(seen.items())]
        with files.atomic_file(self.folder / "files.parquet") as partial:
            write_table(rows, FILES, partial)
        told = [{"sha256": key[0], "mask_sha256": key[1], **asdict(v)} for key, v in sorted(verdicts.items())]
        with files.atomic_file(self.folder / "verdicts.parquet") as partial:
            write_table(told, VERDICTS, partial)
        files.write_text(self.folder / "edition.txt", f"{self.edition} {self._tables_digest()}")

    def shard(self, number: int, rows: Sequence[Row], target: Path, fetch: Callable[[], dict[str, bytes]]) -> bool:
        """Put the shard of ``rows`` at ``target``: from the cache if it is whole there, else from ``fetch``.

        Returns whether it had to be written anew.
        """
        key = f"{number:02x}-{self._key(rows)}"
        held = self.held.pop(number, [])
        for kept in held:
            if kept.stem == f"{key}-{files.sha256_file(kept)}":
                link_or_copy(kept, target)
                return False
        for old in held:
            files.remove(old)
        self.shards.mkdir(parents=True, exist_ok=True)
        if rows:
            write_table(self._full(rows, fetch()), SHARD, target)
        else:
            target.write_bytes(empty_shard())
        # No fsync here: the name holds the hash of the whole file, so a torn copy is noticed and not reused.
        link_or_copy(target, self.shards / f"{key}-{files.sha256_file(target)}.parquet")
        return True

    def _key(self, rows: Sequence[Row]) -> str:
        text = "\x1e".join(
            [str(FORMAT), pa.__version__, *("\x1f".join(map(str, asdict(row).values())) for row in rows)]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _full(self, rows: Sequence[Row], blobs: Mapping[str, bytes]) -> Iterator[dict[str, object]]:
        for row in rows:
            mask = blobs[row.mask_sha256] if row.mask_sha256 else None
            yield {**row.public(), "data": blobs[row.sha256], "mask": mask}


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, else a copy."""
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)
