"""Stage ``ingest``: whatever the source offers becomes 256 shards of original bytes, and what cannot be used says why.

Every file found is either kept or has a row in ``quarantine.parquet``; nothing is dropped in silence. The output is a
function of the set of images alone: not of their order, of the clock, or of what an earlier run has left in the cache.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from ops import sources
from ops.core import files
from ops.core.config import StrictModel, block
from ops.core.errors import CallError, UnderstudyError, explain
from ops.core.progress import Reporter, SilentReporter
from ops.sources._decode import Unusable, examine
from ops.sources._item import Item, Refusal
from ops.sources._store import MANIFEST, SHARDS, Cache, Row, Spool, Verdict, shard_name, write_table

QUARANTINE = pa.schema([("name", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
# Left behind by operating systems, not offered as images: counted and shown, but no sign of a bad set.
HARMLESS = frozenset({"system_file"})
SILENT = SilentReporter()


class Config(StrictModel):
    """The block ``ingest``."""

    max_quarantined_fraction: float = Field(..., ge=0, le=1, description="more than this share unusable stops the run")
    max_file_bytes: int = Field(..., ge=1, description="encoded size of one image")
    max_pixels: int = Field(..., ge=1, description="width times height, checked before anything is allocated")
    min_side_px: int = Field(..., ge=1, description="smaller pictures are quarantined")


@dataclass(frozen=True)
class Candidate:
    """A file that was read (now or in an earlier run) and what its bytes are."""

    item: Item = field(repr=False)
    sha256: str
    mask_sha256: str
    verdict: Verdict


def ingest(
    source: Mapping[str, Any], config: Config, base: Path, out: Path, cache: Path, reporter: Reporter = SILENT
) -> dict[str, float]:
    """Write ``out`` (``data/raw``) whole or not at all, and return the counts that ``ingest.json`` holds.

    Args:
        source: the block ``source`` as in ``params.yaml``; ``kind`` names the module that reads it.
        base: the folder that relative paths of the source are resolved against (the workspace).
        cache: ``state/ingest``; may be missing, stale or damaged without changing a byte of the output.

    Raises:
        CallError: wrong settings, or no such source. UnderstudyError: nothing usable, or too much in quarantine.
    """
    kind = source.get("kind")
    if not isinstance(kind, str):
        known = ", ".join(sources.names())
        raise CallError(explain(expected=f"source.kind among {known}", found=repr(kind), todo="set source.kind"))
    module = sources.load(kind)
    settings = block({"source": source}, "source", module.Config)
    spool_folder = cache / ".spool"
    files.remove(spool_folder)  # what a killed run left behind
    try:
        memory, spool = Cache(cache, config), Spool(spool_folder)
        offered = module.items(settings, base, reporter)
        candidates, refused, found = examine_all(offered, config, memory, spool, reporter)
        rows, twins = settle(candidates)
        refusals = [*refused, *twins]
        figures = summary(rows, refusals, found)
        check(figures, config)
        publish(rows, refusals, figures, Blobs(candidates, spool), memory, out, reporter)
        remember(candidates, memory)
    finally:
        files.remove(spool_folder)
    return figures


def examine_all(
    offered: Iterable[Item | Refusal], config: Config, cache: Cache, spool: Spool, reporter: Reporter
) -> tuple[list[Candidate], list[Refusal], int]:
    """Look at everything that a source offers, and count it; bytes that are read go to the spool by their digest."""
    candidates: list[Candidate] = []
    refusals: list[Refusal] = []
    iterator = iter(offered)
    total, done = operator.length_hint(iterator, 0), 0
    for done, found in enumerate(iterator, start=1):
        result = found if isinstance(found, Refusal) else examine_item(found, config, cache, spool)
        if isinstance(result, Refusal):
            refusals.append(result)
        elif result.verdict.reason:
            refusals.append(Refusal(found.name, result.verdict.reason, result.verdict.detail))
            candidates.append(result)
        else:
            candidates.append(result)
        reporter.progress("ingest", done, max(total, done + 1), quarantined=len(refusals))
    reporter.progress("ingest", done, done, quarantined=len(refusals))
    return candidates, refusals, done


def examine_item(item: Item, config: Config, cache: Cache, spool: Spool) -> Candidate | Refusal:
    """One item: known by its fingerprint, or read, hashed and decoded once."""
    fingerprint = getattr(item, "fingerprint", None)
    if fingerprint is not None and fingerprint in cache.files:
        known = cache.files[fingerprint]
        if known in cache.verdicts:
            return Candidate(item, *known, cache.verdicts[known])
    size_bytes = getattr(item, "size_bytes", None)
    if size_bytes is not None and size_bytes > config.max_file_bytes:
        return too_large(item.name, size_bytes, config)
    try:
        data, mask = item.data, item.mask
    except Unusable as fault:
        return Refusal(item.name, fault.reason, fault.detail)
    if len(data) > config.max_file_bytes:
        return too_large(item.name, len(data), config)
    sha256, mask_sha256 = digest(data), digest(mask) if mask is not None else ""
    verdict = cache.verdicts.get((sha256, mask_sha256)) or judge(data, mask, config)
    if not verdict.reason:
        spool.put(int(sha256[:2], 16), sha256, data)
        if mask is not None:
            spool.put(int(sha256[:2], 16), mask_sha256, mask)
    return Candidate(item, sha256, mask_sha256, verdict)


def too_large(name: str, size_bytes: int, config: Config) -> Refusal:
    return Refusal(name, "too_large", f"{size_bytes:,} bytes, limit {config.max_file_bytes:,}")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def judge(data: bytes, mask: bytes | None, config: Config) -> Verdict:
    """Decode an image (and its mask) once: can it be used?"""
    try:
        width, height = examine(data, config.max_pixels, config.min_side_px)
        if mask is not None and (size := examine(mask, config.max_pixels, 1)) != (width, height):
            raise Unusable("mask_size", f"mask {size[0]}x{size[1]}, image {width}x{height}")
    except Unusable as fault:
        return Verdict(0, 0, fault.reason, fault.detail)
    return Verdict(width, height, "", "")


def settle(candidates: Sequence[Candidate]) -> tuple[list[Row], list[Refusal]]:
    """One row for each distinct picture, sorted by id, and a refusal for every further copy.

    Of equal files the one with the first name stays. Equal files that claim different labels, or different people, are
    all refused: which claim is true cannot be known, and a guess would put one person's picture into another's role.
    """
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if not candidate.verdict.reason:
            groups[candidate.sha256].append(candidate)
    rows: list[Row] = []
    refusals: list[Refusal] = []
    for group in groups.values():
        group.sort(key=lambda one: (one.item.name, one.mask_sha256))
        claim = next(
            (what for what in ("label", "subject") if len({getattr(one.item, what) for one in group}) > 1), None
        )
        if claim is not None:
            detail = f"the same bytes under {len(group)} names with different {claim}s"
            refusals += [Refusal(one.item.name, f"conflicting_{claim}", detail) for one in group]
            continue
        rows.append(row_of(group[0]))
        refusals += [Refusal(one.item.name, "duplicate", f"same bytes as {group[0].item.name}") for one in group[1:]]
    rows.sort(key=lambda row: row.image_id)
    assert len({row.image_id for row in rows}) == len(rows), "two pictures share the first 16 digits of their SHA-256"
    return rows, refusals


def row_of(candidate: Candidate) -> Row:
    item, verdict = candidate.item, candidate.verdict
    image_id = candidate.sha256[:16]
    return Row(
        image_id=image_id,
        sha256=candidate.sha256,
        name=item.name,
        label=item.label,
        subject_id=item.subject or image_id,
        attributes=json.dumps(item.attributes, sort_keys=True, ensure_ascii=False),
        width=verdict.width,
        height=verdict.height,
        mask_sha256=candidate.mask_sha256,
    )


def summary(rows: Sequence[Row], refusals: Sequence[Refusal], found: int) -> dict[str, float]:
    """Flat counts. ``found`` was counted as the source offered; that it equals kept + quarantined is asserted."""
    assert found == len(rows) + len(refusals), (found, len(rows), len(refusals))
    reasons = Counter(refusal.reason for refusal in refusals)
    per_class = Counter(row.label for row in rows).values()
    sides = [min(row.width, row.height) for row in rows]
    figures: dict[str, float] = {
        "found": found,
        "kept": len(rows),
        "quarantined": len(refusals),
        "classes": len(per_class),
        "subjects": len({row.subject_id for row in rows}),
        "images_with_mask": sum(1 for row in rows if row.mask_sha256),
        "images_per_class_min": min(per_class, default=0),
        "images_per_class_max": max(per_class, default=0),
        "side_min_px": min(sides, default=0),
        "side_max_px": max(sides, default=0),
    }
    return figures | {f"quarantined_{reason}": count for reason, count in sorted(reasons.items())}


def check(figures: Mapping[str, float], config: Config) -> None:
    """Raises UnderstudyError with the table of reasons where too much is unusable, or nothing is usable."""
    told = {key.removeprefix("quarantined_"): int(n) for key, n in figures.items() if key.startswith("quarantined_")}
    table = ", ".join(f"{reason} {count:,}" for reason, count in sorted(told.items(), key=lambda pair: -pair[1]))
    if not figures["kept"]:
        todo = "look at source.path and at the reasons"
        raise UnderstudyError(explain(expected="images", found=table or "an empty source", todo=todo))
    harmless = sum(told.get(reason, 0) for reason in HARMLESS)
    bad, offered = figures["quarantined"] - harmless, figures["found"] - harmless
    if bad > config.max_quarantined_fraction * offered:
        expected = f"at most {config.max_quarantined_fraction:.1%} unusable files"
        found = f"{bad / offered:.1%} of {offered:,.0f} ({table})"
        todo = "mend the source, or raise ingest.max_quarantined_fraction"
        raise UnderstudyError(explain(expected=expected, found=found, todo=todo))


def publish(
    rows: Sequence[Row],
    refusals: Sequence[Refusal],
    figures: Mapping[str, float],
    blobs: Blobs,
    cache: Cache,
    out: Path,
    reporter: Reporter,
) -> None:
    """Write shards, manifest, quarantine and counts to ``out``; shards whose rows are unchanged come from the cache."""
    by_shard: list[list[Row]] = [[] for _ in range(SHARDS)]
    for row in rows:
        by_shard[int(row.sha256[:2], 16)].append(row)
    written = 0
    with files.atomic_folder(out) as folder:
        for number, members in enumerate(by_shard):
            written += cache.shard(number, members, folder / shard_name(number), partial(blobs, number, members))
            reporter.progress("write shards", number + 1, SHARDS, written=written)
        write_table((row.public() for row in rows), MANIFEST, folder / "manifest.parquet")
        told = sorted((refusal.name, refusal.reason, refusal.detail) for refusal in refusals)
        told_rows = [dict(zip(QUARANTINE.names, one, strict=True)) for one in told]
        write_table(told_rows, QUARANTINE, folder / "quarantine.parquet")
        files.write_json(folder / "ingest.json", figures)
    unusable = int(figures["quarantined"])
    reporter.note(
        f"ingest: {len(rows):,} images kept, {unusable:,} in quarantine, {written} of {SHARDS} shards written anew"
    )


class Blobs:
    """Bytes of a shard's rows: from the spool if they were read in this run, else from the source again."""

    def __init__(self, candidates: Sequence[Candidate], spool: Spool) -> None:
        self.items = {(one.sha256, one.item.name): one.item for one in candidates}
        self.spool = spool

    def __call__(self, shard: int, rows: Sequence[Row]) -> dict[str, bytes]:
        """Raises UnderstudyError where a file has changed since its fingerprint was taken."""
        found = self.spool.get(shard)
        for row in rows:
            item = self.items[(row.sha256, row.name)]
            if row.sha256 not in found:
                found[row.sha256] = read_again(item.data, row.sha256, row.name)
            if row.mask_sha256 and row.mask_sha256 not in found:
                found[row.mask_sha256] = read_again(item.mask or b"", row.mask_sha256, row.name)
        return found


def read_again(data: bytes, sha256: str, name: str) -> bytes:
    if digest(data) != sha256:
        todo = "run ingest again, when nothing writes to the source"
        raise UnderstudyError(explain(expected=f"the bytes of {name} unchanged", found="other bytes", todo=todo))
    return data


def remember(candidates: Sequence[Candidate], cache: Cache) -> None:
    """Keep what this run learnt for the next one."""
    seen = {}
    for one in candidates:
        fingerprint = getattr(one.item, "fingerprint", None)
        if fingerprint is not None:
            seen[fingerprint] = (one.sha256, one.mask_sha256)
    cache.save(seen, {(one.sha256, one.mask_sha256): one.verdict for one in candidates})
