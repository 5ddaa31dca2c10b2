"""Families: one file each. The file's name is the family's name, its params block, its folder and its asset group.

A family has ``Config`` and two functions. ``fit(images_u8, labels, classes, *, config, runtime, seed, out, checkpoints,
reporter)`` fills the open folder ``out``, with a ``generator.json`` that names its classes, and returns flat figures.
``draw(model, reads, plan, *, config, runtime, reporter)`` yields (rows, images) of a :class:`SamplePlan`. A family
whose ``draw`` reads something besides its model names it as ``SAMPLE_READS``; one that is planted to test the audit and
hands out real images says ``PLANTED = True`` and is never released. tests/generators/test_contract.py holds
every file here to it.
"""

from __future__ import annotations

import hashlib
import pkgutil
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ops.core import files
from ops.core.errors import CallError, UnderstudyError, explain
from ops.generators._plan import SamplePlan

__all__ = ["SamplePlan", "load", "model_digest", "names"]

WEIGHTS = ("generator.json", "*.safetensors", "*.npy", "*.parquet")


def names() -> list[str]:
    """All families, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str) -> ModuleType:
    """The family's module. Raises CallError for an unknown name, listing what exists."""
    if name not in names():
        raise CallError(
            explain(expected=f"a family among {', '.join(names())}", found=repr(name), todo="check families")
        )
    return import_module(f"ops.generators.{name}")


def model_digest(model: Path) -> str:
    """Hex SHA-256 over the files of ``models/F/`` that decide what is drawn (names and contents), and no others.

    Raises UnderstudyError where the folder holds none.
    """
    paths = sorted({path for pattern in WEIGHTS for path in model.glob(pattern)})
    if not paths:
        raise UnderstudyError(explain(expected=f"a fitted model in {model}", found="none", todo="run stage train"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0{files.sha256_file(path)}\n".encode())
    return digest.hexdigest()
