"""The private half of a release: from a bundle back to seed, model, data and code, and from a person to the bundles.

A bundle names its origin by a keyed digest only. ``state/releases/<digest>/`` holds what that digest stands for, so
that ``trace`` and ``recall`` answer in this workspace and nowhere else.
"""

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ops.bundles import seal
from ops.core import files
from ops.core.errors import CallError, explain
from ops.core.imageset import write_parquet
from ops.core.paths import Workspace
from pipelines.versioning import StageNode

LEDGER, DRAWN, MEMBERS = "release.json", "drawn.parquet", "subjects.parquet"


def now() -> str:
    """The time as a signed statement names it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def remember(
    ws: Workspace, node: StageNode, figures: Mapping[str, Any], about: Mapping[str, str], versions: Mapping[str, str]
) -> None:
    """Write the ledger's entry of a granted release; nothing for any other stage."""
    if node.stage != "release" or node.family is None or not figures.get("granted"):
        return
    family = node.family
    with files.atomic_folder(ws.state / "releases" / str(figures["source_digest"])) as folder:
        drawn = pd.read_parquet(ws.filtered(family) / "manifest.parquet")
        write_parquet(drawn[["image_id", "label", "seed", "model_sha256", "sha256"]], folder / DRAWN)
        members = pd.read_parquet(ws.role("train") / "manifest.parquet", columns=["subject_id"])
        write_parquet(members.drop_duplicates().sort_values("subject_id"), folder / MEMBERS)
        shutil.copyfile(ws.params, folder / "params.yaml")
        files.write_json(
            folder / LEDGER,
            {
                "family": family, "verdict": figures["verdict"], "images": figures["images"], **about,
                "versions": {path: md5 for path, md5 in sorted(versions.items()) if _concerns(path, family)},
                "recalled": [],
            },
        )  # fmt: skip


def _concerns(path: str, family: str) -> bool:
    """Whether an output belongs to the family's line: its own, or shared by all."""
    return family in Path(path).parts or path.startswith(("data/raw", "data/prepared", "models/features"))


def trace(ws: Workspace, bundle: Path, image_id: str) -> dict[str, Any]:
    """Where one image of a bundle comes from.

    Returns seed, label, model, run, code, data versions and verdict. Raises CallError where this workspace did not make
    the bundle, or where the bundle has no such image.
    """
    key = seal.signer(ws.state / "keys").public_key
    checked = seal.check(bundle, key)
    if checked.problems:
        found = f"{len(checked.problems)} problems, the first: {checked.problems[0]}"
        raise CallError(explain(expected="a bundle that this workspace signed", found=found, todo="run verify"))
    digest = str(checked.predicate["decision"]["source_digest"])
    folder = ws.state / "releases" / digest
    if not (folder / LEDGER).is_file():
        raise CallError(explain(expected=f"release {digest} in {folder.parent}", found="none", todo="restore state/"))
    drawn = pd.read_parquet(folder / DRAWN).set_index("image_id")
    if image_id not in drawn.index:
        raise CallError(
            explain(expected="an image of the bundle", found=image_id, todo="take a name of column image_id")
        )
    row = drawn.loc[image_id].to_dict()
    return {
        "image_id": image_id, "label": str(row["label"]), "seed": int(row["seed"]), "pixels_sha256": row["sha256"],
        "model_sha256": row["model_sha256"], **files.read_json(folder / LEDGER),
    }  # fmt: skip


def recall(ws: Workspace, subject: str) -> list[dict[str, Any]]:
    """Mark every release whose generator was fitted to this subject. Returns their entries, with their digests.

    The mark stays in ``state/releases``. Raises CallError where no release and no role of today knows the subject.
    """
    touched, known = [], _is_known(ws, subject)
    for path in sorted((ws.state / "releases").glob(f"*/{LEDGER}")):
        members = pd.read_parquet(path.with_name(MEMBERS))["subject_id"]
        if subject not in set(members):
            continue
        entry = files.read_json(path)
        if subject not in [mark["subject"] for mark in entry["recalled"]]:
            entry["recalled"].append({"subject": subject, "on": now()})
            files.write_json(path, entry)
        touched.append({"digest": path.parent.name, **entry})
    if not touched and not known:
        found = f"{subject}, in no role and no release"
        raise CallError(explain(expected="a subject of this workspace", found=found, todo="look in data/prepared"))
    return touched


def _is_known(ws: Workspace, subject: str) -> bool:
    manifests = sorted(ws.prepared.glob("*/manifest.parquet"))
    return any(subject in set(pd.read_parquet(path, columns=["subject_id"])["subject_id"]) for path in manifests)
