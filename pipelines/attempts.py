"""Counts attempts: each further release of a family on the same audit role is another throw of the dice.

The count lives in ``state/``; ``judge`` itself reads ``policy.attempts`` from params alone, so that its result is a
function of its inputs. The doors refuse to judge more releases than the policy accounts for (design §4.5).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.core import files
from ops.core.errors import CallError
from ops.core.paths import Workspace
from pipelines.versioning import StageNode, Versioning, in_experiment


def admit(ws: Workspace, node: StageNode, params: Mapping[str, Any], versioning: Versioning) -> None:
    """Record that this release is about to be judged. Raises CallError where ``policy.attempts`` is too small."""
    if node.stage != "judge" or node.family is None:
        return
    written = versioning.written()
    release, audit = written.get(f"data/filtered/{node.family}"), written.get("data/prepared/audit")
    if release is None or audit is None:
        return  # judged by hand, outside of the graph: there is nothing to tell releases apart by
    path = _home(ws) / "state/attempts.json"
    counted: dict[str, list[str]] = files.read_json(path) if path.is_file() else {}
    releases = counted.setdefault(f"{node.family}|{audit}", [])
    if release in releases:
        return
    allowed = int(params["policy"]["attempts"])
    if len(releases) >= allowed:
        raise CallError(
            f"expected at most {allowed} releases of {node.family} judged on this audit role (policy.attempts), found "
            f"number {len(releases) + 1}: write 'attempts: {len(releases) + 1}' under 'policy' in {ws.params}; "
            "every further attempt tightens what PASS demands"
        )
    releases.append(release)
    files.write_json(path, counted)


def _home(ws: Workspace) -> Path:
    """The workspace that counts: an experiment's throw-away copy must not forget what was tried."""
    return Path(os.environ["DVC_ROOT"]) if in_experiment() and "DVC_ROOT" in os.environ else ws.root
