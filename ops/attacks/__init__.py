"""Attacks: one file each, found by its name. The folder is the registry.

A module's docstring says who the attacker is and what he holds. It has ``THREAT`` (which release he attacks: images),
``KIND``, one ``Config(StrictModel)`` (block ``attacks.<name>``) and ``score(view, config)``: one number for every real
record, members then non-members, higher = more suspicious. ``KIND = "membership"`` is judged by how members rank among
non-members; ``KIND = "census"`` looks for copies one by one and also has ``find(view, config)``, the list of hits.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType

from ops.core.errors import CallError, explain


def names() -> list[str]:
    """Every attack there is: the modules of this folder without a leading underscore, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str) -> ModuleType:
    """The attack's module. Raises CallError for an unknown name, with those that exist."""
    if name not in names():
        raise CallError(
            explain(expected=f"an attack among {', '.join(names())}", found=f"'{name}'", todo="correct 'attacks'")
        )
    return import_module(f"{__name__}.{name}")
