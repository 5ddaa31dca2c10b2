"""The images of a bundle: Parquet shards PNG bytes made anew from pixels, readable by pandas and Hugging Face.

Each row is ``image`` (a struct of ``bytes``, a PNG, and ``path``, its name), ``label`` and ``image_id``. There is no
score in it: every score of ours is a distance to private images, and such a number helps an attacker (design §4.10).
A PNG holds pixels and one constant mark that the image is synthetic (IPTC's ``trainedAlgorithmicMedia``, in XMP).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, PngImagePlugin

from ops.core.errors import UnderstudyError, explain
from ops.core.imageset import ImageSet

FOLDER = "data"
SAFE_NAME = re.compile(r"[^\w.-]", re.ASCII)
MARK = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
    "</rdf:RDF></x:xmpmeta>"
)
# How Hugging Face's loader knows that the column holds pictures; other readers ignore it.
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"dtype": "string", "_type": "Value"},
    "image_id": {"dtype": "string", "_type": "Value"},
}
SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.string()),
        ("image_id", pa.string()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)


def png(image_u8: np.ndarray) -> bytes:
    """uint8 [h, w, c], c 1 or 3 → a PNG of its pixels and the mark; nothing of the array's history can be in it."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", MARK)
    buffer = io.BytesIO()
    pixels = image_u8[..., 0] if image_u8.shape[-1] == 1 else image_u8
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def write(images: ImageSet, folder: Path, shard_images: int) -> list[str]:
    """Write ``data/train-00000-of-0000N.parquet`` … under ``folder``; returns their names relative to it."""
    (folder / FOLDER).mkdir()
    labels, names = images.labels, images.manifest["image_id"].tolist()
    starts = range(0, len(images), shard_images)
    written = []
    for number, start in enumerate(starts):
        rows = range(start, min(start + shard_images, len(images)))
        pictures = [{"bytes": png(images.images[row]), "path": f"{names[row]}.png"} for row in rows]
        columns = [pictures, [str(labels[row]) for row in rows], [names[row] for row in rows]]
        name = f"{FOLDER}/train-{number:05d}-of-{len(starts):05d}.parquet"
        pq.write_table(pa.table(columns, schema=SCHEMA), folder / name, compression="zstd")
        written.append(name)
    return written


def rows(bundle: Path) -> Iterator[tuple[str, str, bytes]]:
    """(image id, label, PNG bytes) of every image, in order."""
    for shard in sorted((bundle / FOLDER).glob("*.parquet")):
        for batch in pq.ParquetFile(shard).iter_batches(1024):
            for row in batch.to_pylist():
                yield row["image_id"], row["label"], row["image"]["bytes"]


def unpack(bundle: Path, out: Path) -> int:
    """Write a folder a class with PNG files; returns how many. Raises UnderstudyError where ``out`` is not empty."""
    if out.exists() and any(out.iterdir()):
        found = f"{out}, which is not empty"
        raise UnderstudyError(explain(expected="an empty or new folder", found=found, todo="name another"))
    count = 0
    for image_id, label, data in rows(bundle):
        folder = out / (SAFE_NAME.sub("_", label).lstrip(".") or "_")  # a label is other people's text
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{SAFE_NAME.sub('_', image_id)}.png").write_bytes(data)
        count += 1
    return count
