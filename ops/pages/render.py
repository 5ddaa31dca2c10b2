"""The one way from figures to a page: Jinja with autoescape on, missing names are errors, no network, no script."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ops.core import pictures

TEMPLATES = Path(__file__).parent.parent / "templates"


def page(template: str, context: Mapping[str, Any]) -> str:
    """The template ``<template>.html.j2`` filled in. Raises jinja2.UndefinedError for a name the context lacks."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{template}.html.j2").render(context)


def image_uri(image_u8: np.ndarray) -> str:
    """A data URI of uint8 [h, w, c], encoded anew from pixels so that no metadata can travel with it."""
    return _uri(pictures.png_bytes(image_u8))


def picture_uri(path: Path) -> str:
    """A data URI of a PNG file, decoded and encoded anew. Raises FileNotFoundError where it is missing."""
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as image:
        return image_uri(np.asarray(image.convert("RGB")))


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
