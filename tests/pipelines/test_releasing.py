"""From a bundle back to seed, model and data, from a person to the bundles; only in the workspace that made them."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from ops.bundles import seal, shards
from ops.core import files
from ops.core.errors import CallError
from ops.core.imageset import write_parquet
from ops.core.paths import Workspace
from pipelines import releasing
from pipelines.versioning import StageNode
from tests.test_release import ABOUT, run, workspace

VERSIONS = {"data/raw": "a1", "data/filtered/sngan": "b2", "data/filtered/dcgan": "c3", "models/sngan": "d4"}


def node(stage: str = "release") -> StageNode:
    return StageNode(f"{stage}@sngan", f"python -m pipelines stage {stage}", (), ("release/sngan",), ())


@pytest.fixture
def made(tmp_path: Path) -> Workspace:
    """A workspace with one granted release of family sngan, recorded in its ledger."""
    ws = Workspace(tmp_path / "ws")
    plain = workspace(tmp_path / "plain")
    decision = run(plain)
    shutil.copytree(plain / "filtered", ws.filtered("sngan"))
    shutil.copytree(plain / "release", ws.release("sngan"))
    shutil.copytree(plain / "keys", ws.state / "keys")
    for role, people in {"train": ["Ann", "Bob", "Ann"], "audit": ["Cid"]}.items():
        ws.role(role).mkdir(parents=True)
        write_parquet(pd.DataFrame({"subject_id": people}), ws.role(role) / "manifest.parquet")
    ws.params.write_text("seed: 1\n")
    releasing.remember(ws, node(), decision, ABOUT, VERSIONS)
    return ws


def test_every_image_of_a_bundle_is_traced_to_its_seed_model_and_data(made: Workspace) -> None:
    bundle, table = made.release("sngan") / "bundle", pd.read_parquet(made.filtered("sngan") / "manifest.parquet")
    for row, (name, label, _) in enumerate(shards.rows(bundle)):
        found = releasing.trace(made, bundle, name)
        assert (found["seed"], found["label"]) == (table["seed"][row], label)
        assert found["versions"] == {key: VERSIONS[key] for key in sorted(VERSIONS) if "dcgan" not in key}
        assert (found["run"], found["code"], found["verdict"]) == ("r17", "c0de", "PASS")


def test_what_the_bundle_does_not_hold_is_a_wrong_call(made: Workspace) -> None:
    with pytest.raises(CallError, match="sngan-999999"):
        releasing.trace(made, made.release("sngan") / "bundle", "sngan-999999")


def test_a_changed_bundle_or_one_from_elsewhere_is_not_traced(made: Workspace, tmp_path: Path) -> None:
    bundle = made.release("sngan") / "bundle"
    with pytest.raises(CallError, match="that this workspace signed"):
        releasing.trace(Workspace(tmp_path / "elsewhere"), bundle, "sngan-000000")
    (bundle / "README.md").write_text("changed")
    with pytest.raises(CallError, match=r"README\.md was changed"):
        releasing.trace(made, bundle, "sngan-000000")


def test_a_withdrawn_subject_marks_the_releases_it_touches_and_only_those(made: Workspace) -> None:
    (entry,) = releasing.recall(made, "Ann")
    assert [mark["subject"] for mark in entry["recalled"]] == ["Ann"]
    (again,) = releasing.recall(made, "Ann")
    assert len(again["recalled"]) == 1, "a second call marks nothing twice"
    assert releasing.recall(made, "Cid") == [], "whom no generator has seen touches no release"
    with pytest.raises(CallError, match="Nobody"):
        releasing.recall(made, "Nobody")


def test_a_refused_release_and_other_stages_leave_no_entry(made: Workspace) -> None:
    before = sorted(path.name for path in (made.state / "releases").iterdir())
    releasing.remember(made, node(), {"granted": False, "source_digest": "x"}, ABOUT, VERSIONS)
    releasing.remember(made, node("judge"), {"granted": True, "source_digest": "x"}, ABOUT, VERSIONS)
    assert sorted(path.name for path in (made.state / "releases").iterdir()) == before


def test_the_ledger_stays_in_state_and_the_key_verifies_outside(made: Workspace) -> None:
    public = seal.public_key(made.state / "keys/release.pub.pem")
    assert not seal.check(made.release("sngan") / "bundle", public).problems
    (path,) = (made.state / "releases").glob("*/release.json")
    assert files.read_json(path)["family"] == "sngan"
