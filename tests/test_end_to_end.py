"""The whole way of the data through both doors, small but real: Dagster instance, DVC repository, MLflow on SQLite."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from ops.core import files

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ("data", "models", "reports", "release")
TINY = [
    "source.subjects=160", "prepare.shares={train: 0.4, audit: 0.3, reference: 0.2, test: 0.1}",
    "sngan.steps=6", "sngan.width=4", "sngan.batch=16", "sample.images=96", "sample.batch=32",
    "classifier.steps=8", "features.steps=8", "validate.seeds=2", "validate.min_images=8", "runtime.threads=1",
    "audit.permutations=600", "audit.blind_permutations=600", "filter.compiled=false",
    "families={sngan: {sample_reads: models/sngan}}", "filter.pool_size=50",
]  # fmt: skip


def understudy(*arguments: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pipelines", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, (
        f"{arguments} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return done


def dvc(*arguments: str, cwd: Path) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"dvc {arguments}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def make(folder: Path, *, source: str, settings: list[str]) -> Path:
    options = [part for setting in settings for part in ("-S", setting)]
    understudy("new", str(folder), "--source", source, *options, cwd=folder.parent)
    return folder


def outputs(workspace: Path) -> dict[str, str]:
    lock = yaml.safe_load((workspace / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in lock.values() for out in stage["outs"]}


def probe(name: str, *arguments: str) -> str:
    """What a script of tests/probes says, run in a process of its own."""
    command = [sys.executable, "-m", f"tests.probes.{name}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def dagster_stale(workspace: Path) -> list[str]:
    """Assets that Dagster calls stale or missing, with its reasons."""
    return [line for line in probe("stale", str(workspace)).splitlines() if line.startswith("STALE")]


@pytest.fixture(scope="module")
def by_dagster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = make(tmp_path_factory.mktemp("doors") / "dagster", source="racecars", settings=TINY)
    understudy("run", cwd=workspace)
    return workspace


@pytest.fixture(scope="module")
def by_dvc(by_dagster: Path) -> Path:
    """The same settings in another folder, run by ``dvc repro`` alone."""
    workspace = make(by_dagster.parent / "dvc", source="racecars", settings=TINY)
    shutil.copy(by_dagster / "params.yaml", workspace / "params.yaml")  # the split key is drawn anew otherwise
    dvc("repro", cwd=workspace)
    return workspace


def test_dvc_has_nothing_to_do_after_dagster(by_dagster: Path) -> None:
    assert "up to date" in dvc("status", cwd=by_dagster)


def test_every_stage_left_its_output_and_a_verdict(by_dagster: Path) -> None:
    verdict = json.loads((by_dagster / "reports/sngan/verdict.json").read_text())
    assert verdict["verdict"] in {"FAIL", "UNDECIDED", "INVALID"}, "64 subjects can never PASS"
    assert "<html" in (by_dagster / "reports/sngan/report.html").read_text()
    assert (by_dagster / "leaderboard/leaderboard.html").is_file()
    decision = json.loads((by_dagster / "release/sngan/decision.json").read_text())
    assert (decision["granted"], decision["verdict"]) == (False, verdict["verdict"])
    assert not (by_dagster / "release/sngan/bundle").exists()


def test_nothing_unfinished_is_left_behind(by_dagster: Path) -> None:
    assert not list(by_dagster.rglob(".partial-*"))


def test_both_doors_write_the_same_bytes_up_to_the_verdict(by_dagster: Path, by_dvc: Path) -> None:
    one, other = outputs(by_dagster), outputs(by_dvc)
    assert set(one) == set(other)
    promised = [path for path in one if not path.endswith("report.html") and path != "leaderboard"]
    assert {path: one[path] for path in promised} == {path: other[path] for path in promised}


def test_dagster_learns_from_sync_what_dvc_made(by_dvc: Path) -> None:
    first = understudy("sync", cwd=by_dvc).stdout
    assert f"reported {len(outputs(by_dvc))} assets" in first
    assert not dagster_stale(by_dvc)
    assert "Dagster and DVC agree" in understudy("sync", cwd=by_dvc).stdout


def test_dagster_is_fresh_after_its_own_run_and_a_second_run_recomputes_nothing(by_dagster: Path) -> None:
    assert not dagster_stale(by_dagster)
    before = outputs(by_dagster)
    again = understudy("run", cwd=by_dagster)
    assert "0 stages run" in again.stdout + again.stderr
    assert outputs(by_dagster) == before


def test_mlflow_holds_the_run_and_the_registered_generator(by_dagster: Path) -> None:
    found = json.loads(probe("tracked", str(by_dagster), "sngan").splitlines()[-1])
    assert found["status"] == ["FINISHED"]
    assert len(found["versions"]) == 1
    assert found["params"] > 10
    assert outputs(by_dagster)["data/prepared/train"] in found["inputs"]
    assert any("accuracy_tstr" in name for name in found["metrics"])


def test_one_stage_with_a_wrong_family_is_a_wrong_call(by_dagster: Path) -> None:
    done = understudy("stage", "train", "--family", "nobody", cwd=by_dagster, code=2)
    assert "nobody" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_more_release_than_the_policy_accounts_for_is_refused(by_dagster: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "copy"
    shutil.copytree(by_dagster, workspace, symlinks=True)
    path = workspace / "params.yaml"
    path.write_text(path.read_text().replace("images: 96", "images: 80"))
    done = understudy("run", cwd=workspace, code=2)
    assert "attempts: 2" in done.stderr


def png(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def photograph(label: int, subject: int, size: int = 16) -> np.ndarray:
    """A small coloured scene that no two subjects share: smooth random fields with a class-coloured disc."""
    rng = np.random.default_rng([label, subject])
    coarse = rng.integers(30, 226, (4, 4, 3)).astype(np.uint8)
    scene = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)).astype(float)
    y, x = np.mgrid[:size, :size]
    disc = (y - rng.uniform(5, 11)) ** 2 + (x - rng.uniform(5, 11)) ** 2 < rng.uniform(9, 20)
    scene[disc] = np.array([[220, 60, 50], [50, 80, 220]][label]) + rng.normal(0, 12, 3)
    return np.clip(scene + rng.normal(0, 14, scene.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def controls_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9 000 one-image subjects of 16 px: enough people a side for a clean release to PASS."""
    base = tmp_path_factory.mktemp("controls")
    with zipfile.ZipFile(base / "photos.zip", "w") as archive:
        for subject in range(9_000):
            archive.writestr(
                f"{'red' if subject % 2 else 'blue'}/{subject:05d}.png", png(photograph(subject % 2, subject))
            )
    workspace = make(
        base / "workspace", source=str(base / "photos.zip"),
        settings=[
            "prepare.size_px=16", "prepare.shares={train: 0.37, audit: 0.37, reference: 0.2, test: 0.06}",
            "families={copycat: {sample_reads: models/copycat}, oracle: {sample_reads: data/prepared/reference}}",
            "sample.images=1500", "policy.attempts=2", "classifier.steps=30", "features.steps=60",
            "filter.pool_size=200",
        ],
    )  # fmt: skip
    understudy("run", cwd=workspace)
    return workspace


def test_the_copier_fails_and_the_oracle_passes(controls_workspace: Path) -> None:
    verdicts = {
        f: json.loads((controls_workspace / f"reports/{f}/verdict.json").read_text()) for f in ("copycat", "oracle")
    }
    assert verdicts["copycat"]["verdict"] == "FAIL", verdicts["copycat"]
    assert verdicts["oracle"]["verdict"] == "PASS", verdicts["oracle"]
    decision = json.loads((controls_workspace / "release/oracle/decision.json").read_text())
    assert not decision["granted"], "real images, whatever the verdict"


def test_one_changed_image_recomputes_only_what_depends_on_it(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for subject in range(160):
        path = photos / ("red" if subject % 2 else "blue") / f"{subject:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(photograph(subject % 2, subject)))
    settings = [s for s in TINY if not s.startswith(("source", "sngan", "families", "filter"))]
    families = "families={copycat: {sample_reads: models/copycat}}"
    own = ["prepare.size_px=16", "filter.pool_size=20", "policy.attempts=2"]  # the new image may enter train: a release
    workspace = make(tmp_path / "ws", source=str(photos), settings=[*settings, families, *own])
    understudy("run", cwd=workspace)
    before = outputs(workspace)
    raw = pd.read_parquet(workspace / "data/raw/manifest.parquet").set_index("image_id")
    tested = pd.read_parquet(workspace / "data/prepared/test/manifest.parquet")["image_id"]
    victim = str(raw.loc[tested.iloc[0], "name"])
    (photos / victim).write_bytes(png(photograph(0, 100_000)))
    said = understudy("run", cwd=workspace).stderr
    after = outputs(workspace)
    changed = {path for path in before if before[path] != after[path]}
    moved = {path for path in changed if path.startswith("data/prepared")}
    assert {"data/raw", "data/prepared/test"} <= changed, "the old image left its role"
    assert len(moved) <= 2, "the new one entered one role"
    assert ("models/copycat" in changed) == ("data/prepared/train" in changed)
    assert ("· train@copycat current" in said) == ("data/prepared/train" not in changed)


def publish_and_fail(target: Path) -> None:
    with files.atomic_folder(target) as folder:
        (folder / "a").write_text("second")
        raise RuntimeError


def test_files_are_published_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with files.atomic_folder(target) as folder:
        (folder / "a").write_text("first")
    with pytest.raises(RuntimeError):
        publish_and_fail(target)
    assert (target / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
