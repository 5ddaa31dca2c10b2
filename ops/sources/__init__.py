"""Where private images come from: one file a kind of input; its name is the ``kind`` of the block ``source``.

A source module has ``Config(StrictModel)``, which is the whole block, and
``items(config, base, reporter) -> Iterator[Item | Refusal]``. To add a kind of input, add a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from ops.core.errors import CallError, explain


def names() -> list[str]:
    """Every kind of source, sorted: the modules of this folder that do not start with an underscore."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str) -> ModuleType:
    """The source module ``name``. Raises CallError that lists what exists."""
    if name not in names():
        raise CallError(
            explain(expected=f"a source among {', '.join(names())}", found=repr(name), todo="set source.kind")
        )
    return importlib.import_module(f"{__name__}.{name}")
