"""The structure as claims: one graph, narrow dependencies, one place for each tool. Runs in seconds."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from statistics import median

import pytest
import yaml

from tests import closure

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [file for folder in ("ops", "assets", "pipelines") for file in sorted((ROOT / folder).rglob("*.py"))]
GRAPH = closure.graph()
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.mark.parametrize("stage", GRAPH["stages"])
def test_each_stage_names_all_code_it_imports_and_no_more(stage: str) -> None:
    named = [dep for dep in closure.body(GRAPH["stages"][stage])["deps"] if dep.startswith("ops")]
    assert sorted(named) == sorted(closure.wanted(stage)), "run: python tests/closure.py"


def test_every_stage_of_the_graph_has_its_function_and_the_other_way_round() -> None:
    from ops.stages import STAGES, is_per_family

    assert list(STAGES) == list(GRAPH["stages"])
    for name, stage in GRAPH["stages"].items():
        assert is_per_family(name) == ("foreach" in stage)


def test_training_never_reads_the_audit_role() -> None:
    for name in ("train", "sample", "filter", "validate", "baseline"):
        assert not any("audit" in dep for dep in closure.body(GRAPH["stages"][name])["deps"] if dep.startswith("data"))


def test_metrics_list_equals_the_active_families() -> None:
    from pipelines.workspaces import COMMON_METRICS, FAMILY_METRICS

    wanted = [*COMMON_METRICS, *(m.format(family=f) for f in PARAMS["families"] for m in FAMILY_METRICS)]
    assert GRAPH["metrics"] == wanted


def test_plots_are_those_of_the_active_families() -> None:
    from pipelines.workspaces import plots

    assert GRAPH["plots"] == plots(list(PARAMS["families"]))
    assert "dcgan" not in str(plots(["sngan", "oracle"]))
    assert plots(["oracle", "copycat"]) == []


def test_every_setting_is_known_and_none_is_missing() -> None:
    from pipelines.settings import check

    check(PARAMS)


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_yields_valid_settings(preset: Path) -> None:
    from pipelines import workspaces
    from pipelines.settings import check

    params = workspaces.read_yaml(ROOT / "params.yaml")
    workspaces.merge(params, workspaces.read_yaml(preset) or {})
    if params["source"].get("kind") in ("folder", "archive"):
        params["source"]["path"] = "somewhere"
    check(params)


def test_an_unknown_key_is_refused_by_name() -> None:
    from ops.core.errors import CallError
    from pipelines.settings import check

    with pytest.raises(CallError, match=r"unknown key 'policy\.max_aux'"):
        check({**PARAMS, "policy": {**PARAMS["policy"], "max_aux": 1}})
    with pytest.raises(CallError, match=r"missing key 'policy\.max_auc'"):
        check({**PARAMS, "policy": {k: v for k, v in PARAMS["policy"].items() if k != "max_auc"}})
    with pytest.raises(CallError, match="polcy"):
        check({**PARAMS, "polcy": {}})


def test_dagster_has_the_edges_of_dvc() -> None:
    """Recomputed here from dvc.yaml's text, without the code under test."""
    from pipelines.definitions import build

    definitions = build(ROOT)
    specs = {spec.key: spec for assets in definitions.assets or [] for spec in assets.specs}
    from pipelines.graph import asset_key
    from pipelines.versioning import Versioning

    nodes = Versioning(ROOT).nodes
    by_out = {out: node for node in nodes for out in node.outs}
    assert len(specs) == len(by_out), "one asset an out, no two with one key"
    for out, node in by_out.items():
        spec = next(s for s in specs.values() if tuple(s.key.path) == asset_key(out, node.family))
        have = {tuple(dep.asset_key.path) for dep in spec.deps}
        want = {
            asset_key(other, by_out[other].family)
            for other in by_out
            for dep in node.deps
            if other not in node.outs and (other == dep or other.startswith(dep + "/") or dep.startswith(other + "/"))
        }
        assert have == want, out


def test_dagster_can_parse_a_string_selection() -> None:
    import dagster as dg

    assert dg.AssetSelection.from_string("a+") is not None


def test_mlflow_is_the_library_and_our_folder_is_no_package() -> None:
    import mlflow

    assert not (ROOT / "mlflow/__init__.py").exists()
    assert "site-packages" in str(mlflow.__file__)


def imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(
    ("tool", "home"),
    [
        ("mlflow", "pipelines/tracking.py"),
        ("dvc", "pipelines/versioning.py"),
        ("great_expectations", "pipelines/expectations.py"),
    ],
)
def test_each_tool_is_spoken_to_in_one_place(tool: str, home: str) -> None:
    speakers = {str(file.relative_to(ROOT)) for file in SOURCES if tool in imported(file)}
    if tool == "mlflow":
        speakers.discard("pipelines/doctor.py")  # it only asks where the library lies
    assert speakers == {home}


def test_no_pickle_and_no_careless_loading() -> None:
    for file in SOURCES:
        text = file.read_text()
        assert "pickle" not in imported(file), file
        for word in ("torch.load(", "yaml.load(", "shell=True", "eval(compile"):
            assert word not in text, (file, word)


def test_dagster_annotations_are_real_objects() -> None:
    for folder in ("assets", "pipelines"):
        for file in (ROOT / folder).rglob("*.py"):
            assert "from __future__ import annotations" not in file.read_text(), file


def test_no_file_is_named_for_nothing() -> None:
    vague = {"utils", "helpers", "common", "manager", "misc"}
    assert not [file for file in SOURCES if file.stem in vague]


def test_functions_are_short_and_files_too() -> None:
    lengths = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert median(lengths) < 20
    too_long = {str(file.relative_to(ROOT)): n for file in SOURCES if (n := len(file.read_text().splitlines())) > 345}
    too_long.pop("pipelines/tracking.py")  # long because MLflow may be imported in one file only
    assert not too_long


def test_the_repository_names_no_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    paths = re.compile(r"(?<![\w.])/(work|root|opt/wheels|tmp/scratch)/")
    hosts = re.compile(r"(pypi\.org|files\.pythonhosted|download\.pytorch|file://)", re.I)
    for name in listed:
        file = ROOT / name
        if not file.is_file() or file.suffix in {".png", ".npy", ".parquet"} or name == "tests/test_architecture.py":
            continue
        text = file.read_text(errors="ignore")
        assert not paths.search(text), name
        assert name != "requirements.lock" or not hosts.search(text), name
