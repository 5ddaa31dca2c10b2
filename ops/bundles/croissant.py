"""Croissant 1.1 (MLCommons, January 2026): a bundle described for machines; ``mlcroissant`` validates it in the tests.

The vocabulary's context is part of every file by the standard's own rule, so it is spelled out here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def describe(
    name: str, description: str, version: str, published: str, shards: Sequence[tuple[str, str]], rai: Mapping[str, str]
) -> dict[str, Any]:
    """The JSON-LD of a bundle.

    Args:
        published: ISO date. shards: (name relative to the bundle, SHA-256 hex) of each Parquet file.
        rai: Croissant RAI properties without their prefix, e.g. ``dataLimitations``.
    """
    files = [
        {
            "@type": "cr:FileObject", "@id": shard, "name": shard, "contentUrl": shard,
            "encodingFormat": "application/x-parquet", "sha256": digest,
        }
        for shard, digest in shards
    ]  # fmt: skip
    every = {
        "@type": "cr:FileSet", "@id": "shards", "name": "shards", "encodingFormat": "application/x-parquet",
        "includes": "data/*.parquet",
    }  # fmt: skip
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name,
        "description": description,
        "version": version,
        "citeAs": f"{name}, version {version}, a synthetic image set judged by Understudy",
        "datePublished": published,
        "license": "https://spdx.org/licenses/LicenseRef-Proprietary",
        "url": "https://schema.org/Dataset",
        "distribution": [*files, every],
        "recordSet": [
            {"@type": "cr:RecordSet", "@id": "images", "name": "images", "field": [
                _field("image", "sc:ImageObject", "PNG of one synthetic image", transform="bytes"),
                _field("label", "sc:Text", "class of the image"),
                _field("image_id", "sc:Text", "name of the image, unique"),
            ]},
        ],
        **{f"rai:{key}": value for key, value in rai.items()},
    }  # fmt: skip


def _field(name: str, kind: str, description: str, transform: str | None = None) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": "shards"}, "extract": {"column": name}}
    if transform:
        source["transform"] = {"jsonPath": transform}
    return {
        "@type": "cr:Field", "@id": f"images/{name}", "name": name, "description": description, "dataType": kind,
        "source": source,
    }  # fmt: skip
