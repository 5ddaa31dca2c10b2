"""Making workspaces: settings, graph, git and DVC; wrong calls are refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.core.errors import CallError, UnderstudyError
from pipelines import workspaces
from pipelines.settings import check
from pipelines.versioning import Versioning


def test_a_preset_keeps_its_options_for_a_folder_and_an_archive_alike(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    workspaces.create(tmp_path / "ws", str(tmp_path / "photos"), "faces")
    params = workspaces.read_yaml(tmp_path / "ws/params.yaml")
    assert dict(params["source"]) == {"kind": "folder", "path": "../photos", "subjects": "folder"}
    assert params["prepare"]["channels"] == 1
    check(params)


def test_each_workspace_draws_its_own_split_key(tmp_path: Path) -> None:
    for name in ("one", "two"):
        workspaces.create(tmp_path / name, "racecars", "demo")
    keys = {workspaces.read_yaml(tmp_path / name / "params.yaml")["prepare"]["split_key"] for name in ("one", "two")}
    assert len(keys) == 2


def test_the_source_is_an_input_of_ingest_so_that_a_change_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    workspaces.create(tmp_path / "ws", str(tmp_path / "photos"), "demo")
    assert "../photos" in Versioning(tmp_path / "ws").node("ingest").deps


def test_stages_have_the_same_names_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspaces.create(tmp_path / "ws", "racecars", "demo")
    monkeypatch.chdir(tmp_path)
    assert Versioning(tmp_path / "ws").nodes[0].address == "ingest"


def test_settings_are_given_by_their_full_key(tmp_path: Path) -> None:
    workspaces.create(tmp_path / "ws", "racecars", "demo", ["sample.images=40", "families={oracle: {sample_reads: x}}"])
    params = workspaces.read_yaml(tmp_path / "ws/params.yaml")
    assert params["sample"]["images"] == 40
    graph = workspaces.read_yaml(tmp_path / "ws/dvc.yaml")
    assert [m for m in graph["metrics"] if "oracle" in m] == [
        "reports/oracle/utility.json",
        "reports/oracle/verdict.json",
    ]


@pytest.mark.parametrize(
    ("source", "preset", "settings", "word"),
    [
        ("nowhere/at/all", "demo", [], "check the path"),
        ("racecars", "fancy", [], "a preset among"),
        ("racecars", "demo", ["sample.images"], "KEY=VALUE"),
        ("racecars", "demo", ["nothing.here=1"], "no 'nothing'"),
    ],
)
def test_a_wrong_call_is_refused(tmp_path: Path, source: str, preset: str, settings: list[str], word: str) -> None:
    with pytest.raises(CallError, match=word):
        workspaces.create(tmp_path / "ws", source, preset, settings)


def test_a_workspace_is_never_made_over_another(tmp_path: Path) -> None:
    workspaces.create(tmp_path / "ws", "racecars", "demo")
    with pytest.raises(CallError, match="name another folder"):
        workspaces.create(tmp_path / "ws", "racecars", "demo")


def test_only_one_run_at_a_time_and_the_other_is_named(tmp_path: Path) -> None:
    with (
        workspaces.only_one(tmp_path, "understudy run"),
        pytest.raises(UnderstudyError, match="understudy run, process"),
        workspaces.only_one(tmp_path, "another"),
    ):
        pass
    with workspaces.only_one(tmp_path, "a third"):
        pass


def test_a_family_is_activated_once_with_what_its_sampling_reads(tmp_path: Path) -> None:
    workspaces.create(tmp_path / "ws", "racecars", "demo")
    assert workspaces.activate(tmp_path / "ws", "oracle")
    assert not workspaces.activate(tmp_path / "ws", "oracle")
    params = workspaces.read_yaml(tmp_path / "ws/params.yaml")
    assert params["families"]["oracle"]["sample_reads"] == "data/prepared/reference"
    with pytest.raises(CallError, match="nobody"):
        workspaces.activate(tmp_path / "ws", "nobody")
