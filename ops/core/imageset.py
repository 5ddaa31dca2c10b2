"""The image set: the format in which images travel between stages.

A folder with ``manifest.parquet`` (one row an image, in the order of the arrays), ``images-00000.npy`` … (uint8
``[n, h, w, c]``, memory-mapped when read) and, where the source has segmentation masks, ``masks-00000.npy`` … (uint8
``[n, h, w]``, one value a class of the mask). Every manifest has ``image_id`` (unique), ``label``, ``subject_id`` and
``sha256`` (of the decoded pixels of that row); stages add columns of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ops.core.errors import UnderstudyError, explain

COLUMNS = ("image_id", "label", "subject_id", "sha256")
SHARD_BYTES = 64 * 2**20


class ImageSet:
    """Read access to an image set. Arrays stay on disk until they are indexed.

    Raises UnderstudyError where the folder is no image set or its parts disagree.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "manifest.parquet").is_file():
            found = "no such folder" if not self.folder.exists() else "no manifest.parquet in it"
            raise UnderstudyError(
                explain(expected=f"an image set in {folder}", found=found, todo="run the stage that writes it")
            )

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """One row an image, in array order."""
        return pq.read_table(self.folder / "manifest.parquet").to_pandas()

    def __len__(self) -> int:
        return int(pq.read_metadata(self.folder / "manifest.parquet").num_rows)

    @cached_property
    def shards(self) -> list[np.ndarray]:
        """Memory-mapped uint8 ``[n_i, h, w, c]``."""
        return self._load("images")

    @cached_property
    def images(self) -> np.ndarray:
        """All images: uint8 ``[n, h, w, c]`` (a memory map when there is one shard, else one copy in memory)."""
        return _joined(self.shards, (0, 0, 0, 0))

    @cached_property
    def masks(self) -> np.ndarray | None:
        """All masks: uint8 ``[n, h, w]``, or None where the set has none."""
        shards = self._load("masks")
        return _joined(shards, (0, 0, 0)) if shards else None

    @property
    def labels(self) -> np.ndarray:
        """Label of each image: str ``[n]``."""
        return self.manifest["label"].to_numpy(dtype=str)

    @property
    def subjects(self) -> np.ndarray:
        """Subject of each image: str ``[n]``."""
        return self.manifest["subject_id"].to_numpy(dtype=str)

    @property
    def classes(self) -> list[str]:
        """Sorted distinct labels."""
        return sorted(set(self.labels.tolist()))

    def _load(self, stem: str) -> list[np.ndarray]:
        shards = [np.load(path, mmap_mode="r") for path in sorted(self.folder.glob(f"{stem}-*.npy"))]
        total = sum(len(shard) for shard in shards)
        if shards and total != len(self):
            found = f"{total} {stem}"
            raise UnderstudyError(
                explain(expected=f"{len(self)} {stem} in {self.folder}", found=found, todo="run its stage again")
            )
        return shards


def _joined(shards: Sequence[np.ndarray], empty_shape: tuple[int, ...]) -> np.ndarray:
    if not shards:
        return np.zeros(empty_shape, np.uint8)
    return shards[0] if len(shards) == 1 else np.concatenate(shards)


def codes(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Labels as indices into ``classes``: int64 [n]. Raises UnderstudyError for a label outside ``classes``."""
    index = {name: code for code, name in enumerate(classes)}
    unknown = sorted(set(labels.tolist()) - set(index))
    if unknown:
        raise UnderstudyError(
            explain(expected=f"labels among {list(classes)}", found=str(unknown), todo="prepare the set again")
        )
    return np.array([index[name] for name in labels.tolist()], dtype=np.int64)


def pixel_digests(images: np.ndarray) -> list[str]:
    """Hex SHA-256 of each image's pixels: uint8 [n, h, w, c] → n strings."""
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images]


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table whose bytes depend on its content alone (no index, no pandas metadata)."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, path, compression="zstd")


def write_imageset(folder: Path, images: np.ndarray, manifest: pd.DataFrame, masks: np.ndarray | None = None) -> None:
    """Fill ``folder`` (from :func:`ops.core.files.atomic_folder`) with an image set.

    Args:
        images: uint8 [n, h, w, c] with c 1 or 3.
        manifest: n rows with at least ``image_id``, ``label`` and ``subject_id``; ``sha256`` is added where absent.
        masks: uint8 [n, h, w] or None.
    """
    assert images.dtype == np.uint8, images.dtype
    assert images.ndim == 4, images.shape
    assert len(images) == len(manifest), (len(images), len(manifest))
    frame = manifest.reset_index(drop=True)
    if "sha256" not in frame:
        frame = frame.assign(sha256=pixel_digests(images))
    missing = [name for name in COLUMNS if name not in frame]
    assert not missing, f"manifest lacks {missing}"
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(_shard_rows(images)):
        np.save(folder / f"images-{number:05d}.npy", np.ascontiguousarray(images[rows]))
        if masks is not None:
            assert masks.dtype == np.uint8, masks.dtype
            np.save(folder / f"masks-{number:05d}.npy", np.ascontiguousarray(masks[rows]))
    write_parquet(frame, folder / "manifest.parquet")


def _shard_rows(images: np.ndarray) -> Iterator[slice]:
    per_image = max(int(np.prod(images.shape[1:])), 1)
    step = max(SHARD_BYTES // per_image, 1)
    for start in range(0, len(images), step):
        yield slice(start, min(start + step, len(images)))
