"""Tracking on a real MLflow (SQLite in a passing workspace): one run an attempt, the generator as a model, low cost."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ops import adversarial_model
from ops.core import runtime
from ops.core.errors import CallError, UnderstudyError
from ops.core.files import read_json, write_json
from ops.core.paths import Workspace
from ops.core.progress import SilentReporter
from ops.generators import SamplePlan, dcgan, sngan
from pipelines import records
from pipelines.tracking import MODEL_FOLDER, Tracker

MLFLOW_FOLDER = Path(__file__).parents[2] / "mlflow"
IMPORTS = """import sys
from pathlib import Path
from ops.core.paths import Workspace
from pipelines.tracking import Tracker
"""
MD5 = "0123456789abcdef0123456789abcd"
RUNTIME = runtime.Config(device="cpu", threads=1, precision="fp32")
PARAMS: dict[str, Any] = {
    "seed": 7,
    "families": {"sngan": {"sample_reads": "models/sngan"}, "dcgan": {"sample_reads": "models/dcgan"}},
    "sngan": {"steps": 10, "architecture": "pyramid"},
    "dcgan": {"steps": 20},
    "prepare": {"size_px": 8, "split_key": "canary-split-key"},
    "sample": {"batch": 4},
    "runtime": {"device": "cpu", "threads": 1, "precision": "fp32"},
    "tracking": {"flush_s": 0.05, "system_metrics": False, "ui_url": "http://127.0.0.1:5000"},
}


def version(letter: str) -> str:
    """Like the md5 of a folder in dvc.lock: 36 characters."""
    return (letter * 32)[:32] + ".dir"


@pytest.fixture(autouse=True, scope="module")
def own_store() -> Iterator[None]:
    """Whatever server this machine tracks to, these tests track to their own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def ws(own_store: None, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One workspace for the module: making a store takes seconds."""
    return Workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def tracker(ws: Workspace) -> Tracker:
    made = Tracker(ws)
    made.prepare()
    return made


def run_stage(
    tracker: Tracker,
    stage: str,
    family: str | None,
    inputs: Mapping[str, str],
    params: Mapping[str, Any] = PARAMS,
    **figures: Any,
) -> str:
    with tracker.stage(stage, family, params, inputs, {"dagster/run_id": "d-1"}) as record:
        record.finish(figures, [])
    return record.run_id


def run(tracker: Tracker, run_id: str) -> Any:
    return tracker.client.get_run(run_id)


def scramble(net: nn.Module, seed: int) -> nn.Module:
    """Weights and batch statistics unlike those of a fresh net."""
    source = torch.Generator().manual_seed(seed)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=source) * 0.6 - 0.2)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var"):
            tensor.add_(0.5)
    return net


def write_sngan(folder: Path, architecture: str, size_px: int) -> Any:
    folder.mkdir(parents=True)
    config = sngan.Config.model_construct(architecture=architecture, width=2, latent=6)
    net, _ = sngan.build(config, size_px, 3, 3)
    about = {"architecture": architecture, "width": 2, "latent": 6, "size_px": size_px, "channels": 3}
    adversarial_model.write_weights(folder, [scramble(net, 1)], about | {"classes": ["a", "b", "c"], "family": "sngan"})
    return config


def write_dcgan(folder: Path, size_px: int) -> Any:
    folder.mkdir(parents=True)
    config = dcgan.Config.model_construct(width=2, latent=6, slope_generator=0.1)
    nets = [scramble(dcgan.Generator(config, size_px, 1), number) for number in range(3)]
    about = {"width": 2, "latent": 6, "slope_generator": 0.1, "size_px": size_px, "channels": 1}
    adversarial_model.write_weights(folder, nets, about | {"classes": ["a", "b", "c"], "family": "dcgan"})
    return config


def plan(n: int = 10) -> SamplePlan:
    seeds = np.array([2**62 + 977 * k for k in range(n)], dtype=np.int64)
    return SamplePlan(["a", "b", "c"], np.arange(n) % 3, seeds, 4, np.arange(n))


def drawn(family: Any, folder: Path, config: Any) -> np.ndarray:
    """What stage `sample` draws: uint8 [n, h, w, c] in the order of the plan."""
    parts = list(family.draw(folder, folder, plan(), config=config, runtime=RUNTIME, reporter=SilentReporter()))
    rows = np.concatenate([rows for rows, _ in parts])
    return np.concatenate([images for _, images in parts])[np.argsort(rows)]


def table() -> pd.DataFrame:
    wanted = plan()
    return pd.DataFrame({"label": np.array(wanted.classes, dtype=object)[wanted.labels], "seed": wanted.seeds})


# ---------------------------------------------------------------- runs


def test_the_stages_of_one_attempt_share_a_run_and_training_again_opens_another(tracker: Tracker) -> None:
    first = run_stage(tracker, "train", "sngan", {"data/prepared/train": version("a")}, steps=10)
    assert run_stage(tracker, "sample", "sngan", {"models/sngan": version("b")}, images_drawn=5) == first
    assert run_stage(tracker, "filter", "sngan", {"data/synthetic/sngan": version("c")}, kept=4) == first
    assert run_stage(tracker, "judge", "sngan", {"reports/sngan/utility.json": MD5}, verdict="PASS") == first
    entity = run(tracker, first)
    assert entity.info.run_name == "sngan"
    assert entity.info.status == "FINISHED"
    assert entity.data.metrics == {"train/steps": 10, "sample/images_drawn": 5, "filter/kept": 4}
    assert entity.data.tags["judge.verdict"] == "PASS"
    assert entity.data.tags["understudy.train"] == version("b")
    assert run_stage(tracker, "train", "sngan", {"data/prepared/train": version("a")}) != first


def test_a_stage_finds_the_run_that_made_its_input_also_after_a_newer_attempt(tracker: Tracker) -> None:
    old = run_stage(tracker, "train", "finder", {"data/prepared/train": version("a")})
    tracker.committed("finder", {"models/finder": version("1")})
    new = run_stage(tracker, "train", "finder", {"data/prepared/train": version("a")})
    tracker.committed("finder", {"models/finder": version("2")})
    assert run_stage(tracker, "sample", "finder", {"models/finder": version("1")}) == old
    assert run_stage(tracker, "sample", "finder", {"models/finder": version("2")}) == new


def test_a_model_that_no_run_here_has_made_gets_a_run_of_its_own(tracker: Tracker) -> None:
    known = run_stage(tracker, "train", "stranger", {"data/prepared/train": version("a")})
    tracker.committed("stranger", {"models/stranger": version("1")})
    assert run_stage(tracker, "sample", "stranger", {"models/stranger": version("9")}) != known


def test_other_settings_open_a_child_because_parameters_of_a_run_cannot_change(tracker: Tracker) -> None:
    parent = run_stage(tracker, "train", "child", {"data/prepared/train": version("a")})
    changed = PARAMS | {"sample": {"batch": 8}}
    child = run_stage(tracker, "sample", "child", {"models/child": version("b")}, changed)
    assert child != parent
    assert run(tracker, child).data.tags["mlflow.parentRunId"] == parent
    assert run(tracker, child).data.params["sample.batch"] == "8"
    assert run(tracker, parent).data.params["sample.batch"] == "4"
    other_family = changed | {"dcgan": {"steps": 99}}
    assert run_stage(tracker, "filter", "child", {"data/synthetic/child": version("c")}, other_family) == child


def test_settings_are_flat_and_the_split_key_is_never_recorded(tracker: Tracker, ws: Workspace) -> None:
    entity = run(tracker, run_stage(tracker, "prepare", None, {"data/raw": version("d")}))
    assert entity.info.run_name == "prepare"
    assert entity.data.params["prepare.size_px"] == "8"
    assert entity.data.params["prepare.split_key"] == "(hidden)"
    assert b"canary-split-key" not in (ws.state / "mlflow/mlflow.db").read_bytes()


def test_inputs_carry_their_dvc_digest_and_no_absolute_path(tracker: Tracker, ws: Workspace) -> None:
    entity = run(
        tracker, run_stage(tracker, "baseline", None, {"data/prepared/train": version("e"), "data/raw": MD5 + "ef"})
    )
    found = {item.dataset.name: item.dataset for item in entity.inputs.dataset_inputs}
    assert found["data/prepared/train"].digest == version("e")
    assert found["data/raw"].digest == MD5 + "ef"
    assert json.loads(found["data/raw"].source) == {"uri": "data/raw"}


def test_a_stage_that_raises_ends_its_run_failed_and_shows_its_own_error(tracker: Tracker) -> None:
    def work() -> None:
        with tracker.stage("train", "broken", PARAMS, {}) as record:
            record.reporter.metrics({"loss_d": 1.0}, 3)
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        work()
    entity = run(tracker, str(tracker.book.get("broken", tracker.uri)))
    assert entity.info.status == "FAILED"
    assert entity.data.metrics == {"train/curves/loss_d": 1.0}


def test_a_stage_whose_output_was_refused_leaves_a_failed_run_until_it_succeeds(tracker: Tracker) -> None:
    first = run_stage(tracker, "train", "refused", {})
    tracker.committed("refused", {"models/refused": version("1")})
    with tracker.stage("sample", "refused", PARAMS, {"models/refused": version("1")}) as record:
        pass  # a blocking expectation failed: finish is never called
    assert record.run_id == first
    assert run(tracker, first).info.status == "FAILED"
    run_stage(tracker, "sample", "refused", {"models/refused": version("1")})
    assert run(tracker, first).info.status == "FINISHED"


def test_the_link_leads_to_the_run_and_is_known_without_mlflow(tracker: Tracker, ws: Workspace) -> None:
    with tracker.stage("train", "linked", PARAMS, {}) as record:
        record.finish({}, [])
    assert record.url == f"http://127.0.0.1:5000/#/experiments/1/runs/{record.run_id}"
    code = f"{IMPORTS}print(Tracker(Workspace(Path({str(ws.root)!r}))).url('linked'), 'mlflow' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert told == [record.url, "False"]


def test_a_missing_setting_is_named(tracker: Tracker) -> None:
    with (
        pytest.raises(CallError, match=r"tracking\.ui_url"),
        tracker.stage("train", "x", {"tracking": {"flush_s": 1}}, {}),
    ):
        pass


def test_a_store_that_cannot_be_used_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 100)
    with pytest.raises(UnderstudyError, match="expected MLflow to record in sqlite") as caught:
        Tracker(Workspace(tmp_path), uri=f"sqlite:///{broken}").prepare()
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- while a stage works


def test_curves_and_grids_arrive_in_batches_with_their_steps(tracker: Tracker) -> None:
    with tracker.stage("train", "curves", PARAMS, {}) as record:
        for step in range(500):
            record.reporter.metrics({"loss_d": step / 2}, step)
            record.reporter.progress("train", step, 500, loss_d=0.0)
        for step in (0, 100):
            record.reporter.image("samples", np.full((20, 20, 3), step, np.uint8), step)
        record.reporter.note("the generator has collapsed")
        record.finish({}, [])
    history = tracker.client.get_metric_history(record.run_id, "train/curves/loss_d")
    assert [point.step for point in sorted(history, key=lambda point: point.step)] == list(range(500))
    images = [
        item.path for item in tracker.client.list_artifacts(record.run_id, "images") if item.path.endswith(".png")
    ]
    assert sorted("step+0+" in path or "step/0/" in path for path in images) == [False, True]
    assert [item.path for item in tracker.client.list_artifacts(record.run_id, "notes")] == ["notes/train.txt"]


def test_recording_costs_under_two_percent_between_writes_and_starts_no_thread(tracker: Tracker) -> None:
    """A write's own cost depends on the machine's load; that it is paid back a hundredfold is the next test's claim."""
    threads, spent_s, work_s = set(threading.enumerate()), 0.0, 2.0
    with tracker.stage("train", "cost", PARAMS, {}) as record:
        started_s = time.perf_counter()
        while time.perf_counter() - started_s < work_s:
            time.sleep(0.002)
            called_s = time.perf_counter()
            record.reporter.metrics({"loss_d": 1.0, "loss_g": 2.0, "accuracy_d": 0.5}, 1)
            record.reporter.progress("train", 1, 2)
            spent_s += time.perf_counter() - called_s
        writes_s = record.buffer.spent_s
        record.finish({}, [])
    assert writes_s > 0
    assert spent_s - writes_s < 0.02 * work_s
    assert set(threading.enumerate()) <= threads


def test_the_next_write_waits_a_hundred_times_what_the_last_one_took() -> None:
    reporter = records.BufferedReporter(lambda metrics, images: time.sleep(0.02), "train/curves", flush_s=0.0)
    started_s, writes = time.monotonic(), 0
    while time.monotonic() - started_s < 0.5:
        before_s = reporter.spent_s
        reporter.metrics({"loss": 1.0}, 0)
        writes += reporter.spent_s > before_s
    assert writes == 1


def test_what_could_not_be_written_stays_buffered() -> None:
    def refuse(metrics: Any, images: Any) -> None:
        raise OSError("server away")

    reporter = records.BufferedReporter(refuse, "train/curves", flush_s=100.0)
    reporter.metrics({"loss": 1.0}, 0)
    with pytest.raises(OSError, match="server away"):
        reporter.flush()
    assert len(reporter.buffered) == 1


# ---------------------------------------------------------------- outputs


def test_reports_and_curves_are_recorded_and_private_images_never(tracker: Tracker) -> None:
    root = tracker.ws.root
    for path in (
        "data/raw/photo.png",
        "data/raw/notes.csv",
        "models/copycat/images-00000.npy",
        "models/copycat/manifest.parquet",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"private")
    for path in ("data/raw/ingest.json", "models/copycat/curves.csv", "reports/copycat/pictures/grid.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("{}")
    outs = [root / "data/raw", root / "models/copycat", root / "reports/copycat/pictures"]
    shown = [f"{folder}/{path.name}" for path, folder in records.to_show(outs, root)]
    assert shown == ["data/raw/ingest.json", "models/copycat/curves.csv", "reports/copycat/pictures/grid.png"]
    with tracker.stage("report", "copycat", PARAMS, {}) as record:
        record.finish({}, outs)
    recorded = [item.path for item in tracker.client.list_artifacts(record.run_id, "reports/copycat/pictures")]
    assert recorded == ["reports/copycat/pictures/grid.png"]


def test_figures_keep_their_numbers_and_undefined_ones_are_left_out() -> None:
    figures = {"kept": 3, "accuracy_tstr_pömmel": 0.5, "collapsed": True, "fid": None, "status": "DIVERGED"}
    assert records.numbers(figures, "train") == {
        "train/kept": 3,
        "train/accuracy_tstr_p_mmel": 0.5,
        "train/collapsed": 1,
    }
    assert records.texts(figures, "train") == {"train.status": "DIVERGED"}


# ---------------------------------------------------------------- the generator as a model


def model_file() -> Any:
    """mlflow/generator_model.py as a module, loaded as MLflow loads it."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("generator_model", MLFLOW_FOLDER / "generator_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CASES = [
    ("residual", 32),
    ("residual", 48),
    ("pyramid", 8),
    ("pyramid", 16),
    ("plain", 32),
    ("stack", 8),
    ("stack", 48),
]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(("architecture", "size_px"), CASES)
def test_the_model_file_draws_the_bytes_that_stage_sample_draws(
    tmp_path: Path, architecture: str, size_px: int, bf16: bool
) -> None:
    folder = tmp_path / "model"
    family = dcgan if architecture == "stack" else sngan
    config = write_dcgan(folder, size_px) if architecture == "stack" else write_sngan(folder, architecture, size_px)
    settings = RUNTIME.model_copy(update={"precision": "bf16" if bf16 else "fp32"})
    parts = list(family.draw(folder, folder, plan(), config=config, runtime=settings, reporter=SilentReporter()))
    expected = np.concatenate([images for _, images in parts])[np.argsort(np.concatenate([rows for rows, _ in parts]))]

    model = model_file().Generator()
    model.about = read_json(folder / "generator.json")
    model.nets = model_file().read_nets(folder / "generator.safetensors", model.about)
    model.batch, model.bf16 = 4, bf16
    assert np.array_equal(model.predict(None, table()), expected)
    assert expected.std() > 5


def test_a_trained_generator_is_registered_and_loads_with_pickle_refused(
    tracker: Tracker, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    folder = ws.model("sngan")
    config = write_sngan(folder, "pyramid", 8)
    with tracker.stage(
        "train", "sngan", PARAMS, {"data/prepared/train": version("a")}, {"git.sha": "f" * 40}
    ) as record:
        record.finish({"loss_d": 0.25}, [folder])
    import mlflow

    found = tracker.client.get_model_version_by_alias("understudy-sngan", "candidate")
    assert found.run_id == record.run_id
    for said in ("**sngan**", version("a"), "| loss_d | 0.25 |", "f" * 40, "Its privacy: the attacks run later"):
        assert said in found.description

    with tracker.as_default():
        model = mlflow.pyfunc.load_model("models:/understudy-sngan@candidate")
        images = model.predict(table())
        again = model.predict(pd.DataFrame({"label": ["a", "b"]}), params={"seed": 5})
        other = model.predict(pd.DataFrame({"label": ["a", "b"]}), params={"seed": 6})
        with pytest.raises(Exception, match="found \\['zebra'\\]"):
            model.predict(pd.DataFrame({"label": ["zebra"]}))
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert np.array_equal(images, drawn(sngan, folder, config))
    assert again.shape == (2, 8, 8, 3)
    assert again.dtype == np.uint8
    assert not np.array_equal(again, other)
    assert run(tracker, record.run_id).info.status == "FINISHED"


def test_the_logged_model_holds_no_pickle_and_no_private_image(tracker: Tracker, ws: Workspace) -> None:
    models = ws.state / "mlflow/artifacts/models"
    names = {path.name for path in models.rglob("*") if path.is_file()}
    assert {"generator_model.py", "generator.safetensors", "generator.json", "MLmodel"} <= names
    assert [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".npy"))] == []


def test_a_family_without_weights_is_no_model(tracker: Tracker, tmp_path: Path) -> None:
    write_json(tmp_path / "generator.json", {"classes": ["a"], "family": "oracle"})
    assert tracker.log_generator("oracle", tmp_path, PARAMS) is None
    assert not tracker.client.search_registered_models(filter_string="name = 'understudy-oracle'")


def test_the_model_file_needs_nothing_of_understudy() -> None:
    text = (MODEL_FOLDER / "generator_model.py").read_text()
    assert not any(line.startswith(("from ops", "import ops", "from pipelines")) for line in text.splitlines())


def test_the_folder_mlflow_never_shadows_the_library() -> None:
    import mlflow

    assert not (MLFLOW_FOLDER / "__init__.py").exists()
    assert "site-packages" in str(mlflow.__file__)


# ---------------------------------------------------------------- the store


def open_a_run(root: Path) -> None:
    tracker = Tracker(Workspace(root))
    tracker.prepare()
    tracker.client.create_run(tracker._experiment)


def test_two_processes_that_start_together_leave_one_sound_store(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=open_a_run, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(timeout=300)
    assert [process.exitcode for process in both] == [0, 0]
    tracker = Tracker(Workspace(tmp_path))
    assert len(tracker.client.search_runs([tracker.client.get_experiment_by_name("understudy").experiment_id])) == 2
    assert sorted(path.name for path in (tmp_path / "state/mlflow").iterdir()) == ["mlflow.db", "store.lock"]


def test_an_experiment_of_dvc_records_in_the_store_of_the_workspace_that_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "try-1")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    tracker = Tracker(Workspace(tmp_path / "copy"))
    assert tracker.local == f"sqlite:///{tmp_path / 'main/state/mlflow/mlflow.db'}"
    assert tracker.book.path == tmp_path / "copy/state/mlflow/runs.json"
