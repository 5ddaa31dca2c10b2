"""Small nets for validation and audits. One file with a ``build`` is one net; the folder is the registry.

A net file offers ``build(classes, channels, width) -> nn.Module`` whose result has a ``trunk`` (images to a flat vector
of features) and a ``head`` (features to one logit a class). ``training`` holds the one training loop for all of them,
``features`` the feature net in which sets of images are compared, ``trials`` one way of training over several seeds.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType

from ops.core.errors import CallError, explain

ENGINES = ("features", "training", "trials")  # what works on nets, rather than being one


def names() -> list[str]:
    """Every net in this folder, sorted."""
    found = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in found if not name.startswith("_") and name not in ENGINES)


def load(name: str) -> ModuleType:
    """The module of one net. Raises CallError listing what exists for an unknown name."""
    if name not in names():
        raise CallError(explain(expected=f"a net among {', '.join(names())}", found=repr(name), todo="mend 'net'"))
    return import_module(f"ops.classifiers.{name}")
