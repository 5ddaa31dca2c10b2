"""Settings: values live in ``params.yaml``, type, unit and meaning in one strict model beside the code.

Every module that has a block in ``params.yaml`` defines one ``Config(StrictModel)``; :func:`block` reads that block
and refuses unknown and missing keys by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ops.core.errors import CallError, explain


class StrictModel(BaseModel):
    """A block of settings: unknown keys are errors, values are frozen, numbers are not made from strings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, arbitrary_types_allowed=False)

    def digest(self) -> str:
        """Hex digest (16 characters) of the values, independent of key order."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


M = TypeVar("M", bound=StrictModel)


def load_params(path: Path) -> dict[str, Any]:
    """Read ``params.yaml``. Raises CallError where it is missing, no mapping, or not YAML."""
    if not path.is_file():
        raise CallError(
            explain(expected=f"settings in {path}", found="no such file", todo="name a workspace with --workspace")
        )
    try:
        params = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise CallError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(params, dict):
        raise CallError(
            explain(expected=f"a mapping in {path}", found=type(params).__name__, todo="see docs/settings.md")
        )
    return params


def block(params: Mapping[str, Any], name: str, model: type[M]) -> M:
    """Validate the block ``name`` (dots descend: ``attacks.copy_census``). Raises CallError naming each wrong key."""
    value: Any = params
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            known = ", ".join(sorted(map(str, value))) if isinstance(value, Mapping) else repr(value)
            raise CallError(explain(expected=f"a block '{name}' in params.yaml", found=known, todo=f"add '{name}:'"))
        value = value[part]
    try:
        return model.model_validate(value if value is not None else {})
    except ValidationError as error:
        raise CallError(f"params.yaml: {describe(error, name, model)}") from error


def describe(error: ValidationError, name: str, model: type[StrictModel]) -> str:
    """All faults of one block in one line, each with its full key."""
    lines = []
    for fault in error.errors():
        key = ".".join([name, *map(str, fault["loc"])])
        if fault["type"] == "extra_forbidden":
            lines.append(f"unknown key '{key}' (known: {', '.join(model.model_fields)})")
        elif fault["type"] == "missing":
            lines.append(f"missing key '{key}'")
        else:
            lines.append(f"'{key}': {fault['msg']}, found {fault['input']!r}")
    return "; ".join(lines)
