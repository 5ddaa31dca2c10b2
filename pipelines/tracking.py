"""The only ``import mlflow``: what a stage was given and what came of it, kept where a team looks for it.

One run a family *attempt*: ``train`` opens it, the later stages of the family write into it. A stage finds its run by
content: whatever it reads of the family (``models/F``, ``data/synthetic/F`` …) has a DVC md5, and the run that made
those bytes carries it as the tag ``understudy.out.<path>`` (and ``understudy.train`` for the model). Where no run says
so yet, because DVC commits only after the stage, the family's newest run (``state/mlflow/runs.json``) made it.
Parameters of a run cannot change: a later stage under other settings opens a child of the run. Stages without a family
open one run each time.

By default everything lies in the workspace (SQLite, ``state/mlflow/``), elsewhere when MLFLOW_TRACKING_URI says so.
``import mlflow`` costs seconds and happens when a run is opened, not when this module is imported.
"""

import contextlib
import importlib.metadata
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ops.core import config as settings
from ops.core import files
from ops.core.config import StrictModel
from ops.core.errors import UnderstudyError, explain
from ops.core.paths import Workspace
from ops.core.progress import Reporter
from pipelines import records
from pipelines.records import Record

__all__ = ["Config", "Record", "StageRecord", "Tracker"]

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

EXPERIMENT = "understudy"
MODEL_FOLDER = Path(__file__).resolve().parents[1] / "mlflow"
WEIGHTS, ABOUT = "generator.safetensors", "generator.json"
PACKAGES = ("mlflow", "numpy", "pandas", "safetensors", "torch")
OUT, STAGE = "understudy.out.", "understudy.stage."
PARENT = "mlflow.parentRunId"


class Config(StrictModel):
    """The block ``tracking``."""

    flush_s: float = Field(..., gt=0, description="seconds between writes of curves and grids while a stage works")
    system_metrics: bool = Field(
        ..., description="record CPU, memory and GPU load of each stage (a thread of MLflow's)"
    )
    ui_url: str = Field(..., description="where `understudy ui` serves MLflow; links lead there")


class StageRecord:
    """A stage's page in an MLflow run."""

    def __init__(
        self,
        tracker: "Tracker",
        run_id: str,
        url: str,
        stage: str,
        family: str | None,
        params: Mapping[str, Any],
        flush_s: float,
    ) -> None:
        self.tracker, self.run_id, self.url, self.stage, self.family = tracker, run_id, url, stage, family
        self.params = params
        self.buffer = records.BufferedReporter(self._write, f"{stage}/curves", flush_s)
        self.reporter: Reporter = self.buffer
        self.finished = False

    def _write(self, metrics: Sequence[tuple[str, float, int, int]], images: Sequence[tuple[str, Any, int]]) -> None:
        from mlflow.entities import Metric

        client = self.tracker.client
        for start in range(0, len(metrics), 1000):
            client.log_batch(self.run_id, metrics=[Metric(*point) for point in metrics[start : start + 1000]])
        for name, image_u8, step in images:
            client.log_image(self.run_id, image_u8, key=name, step=step, synchronous=True)

    def finish(self, figures: Mapping[str, Any], outs: Sequence[Path]) -> None:
        """Record final figures, files worth a look, and a generator found among the outputs. Raises UnderstudyError."""
        from mlflow.exceptions import MlflowException

        try:
            self._finish(figures, outs)
        except MlflowException as error:
            raise _refused(self.tracker.uri, error) from error
        self.finished = True

    def _finish(self, figures: Mapping[str, Any], outs: Sequence[Path]) -> None:
        now_ms, client = int(time.time() * 1000), self.tracker.client
        points = records.numbers(figures, self.stage)
        self.buffer.buffered += [(name, value, now_ms, 0) for name, value in points.items()]
        self.buffer.flush()
        for name, text in records.texts(figures, self.stage).items():
            client.set_tag(self.run_id, name, text)
        for path, folder in records.to_show(outs, self.tracker.ws.root):
            client.log_artifact(self.run_id, str(path), folder)
        for out in outs:
            if self.family is not None and (out / WEIGHTS).is_file():
                self.tracker.log_generator(self.family, out, self.params, self.run_id, figures)

    def close(self, status: str) -> None:
        """Write what is buffered, note how the stage ended, and end the run as its stages ended."""
        self.buffer.flush()
        if self.buffer.notes:
            self.tracker.client.log_text(self.run_id, "\n".join(self.buffer.notes) + "\n", f"notes/{self.stage}.txt")
        self.tracker.client.set_tag(self.run_id, STAGE + self.stage, status)
        ended = {tag for name, tag in self.tracker.tags(self.run_id).items() if name.startswith(STAGE)}
        whole = next((state for state in ("FAILED", "KILLED", "RUNNING") if state in ended), "FINISHED")
        if whole == "RUNNING":
            self.tracker.client.update_run(self.run_id, status=whole)
        else:
            self.tracker.client.set_terminated(self.run_id, status=whole)


class Tracker:
    """MLflow for one workspace. Nothing is opened before it is needed."""

    def __init__(self, ws: Workspace, uri: str | None = None) -> None:
        self.ws = ws
        self.home = _home(ws)
        self.local = f"sqlite:///{self.home / 'mlflow.db'}"
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or self.local
        self.book = records.RunBook(ws.state.resolve() / "mlflow")
        self._client: Any = None
        self._experiment = ""

    @property
    def client(self) -> Any:
        """An ``MlflowClient``, connected; store and experiment exist. Raises UnderstudyError where they cannot."""
        if self._client is None:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            for name in ("mlflow.store.db.utils", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)
            try:
                with records.locked(self.home / "store.lock"):
                    self._create_store(MlflowClient)
                    registry = os.environ.get("MLFLOW_REGISTRY_URI") or self.uri
                    client = MlflowClient(tracking_uri=self.uri, registry_uri=registry)
                    self._experiment = self._find_experiment(client)
            except (MlflowException, SQLAlchemyError) as error:
                raise _refused(self.uri, error) from error
            self._client = client
        return self._client

    def _create_store(self, client: Any) -> None:
        """Make the SQLite store once, whole: first use by two processes, or a kill while it is made, would break it."""
        database = self.home / "mlflow.db"
        if self.uri != self.local or database.exists():
            return
        with files.atomic_file(database) as partial:
            client(tracking_uri=f"sqlite:///{partial}").search_experiments(max_results=1)

    def _find_experiment(self, client: Any) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        if (experiment := client.get_experiment_by_name(name)) is not None:
            return str(experiment.experiment_id)
        where = (self.home / "artifacts").as_uri() if self.uri == self.local else None
        return str(client.create_experiment(name, artifact_location=where))

    def prepare(self) -> str:
        """Make sure that store and experiment exist; returns the store's URI (for ``mlflow server``)."""
        assert self.client is not None
        return self.uri

    def tags(self, run_id: str) -> dict[str, str]:
        return dict(self.client.get_run(run_id).data.tags)

    def url(self, family: str | None) -> str | None:
        """Link to the newest run of the family, or None; does not import mlflow."""
        return self.book.url(family) if family is not None else None

    @contextlib.contextmanager
    def stage(
        self,
        stage: str,
        family: str | None,
        params: Mapping[str, Any],
        inputs: Mapping[str, str],
        tags: Mapping[str, str] | None = None,
    ) -> Iterator[StageRecord]:
        """Track one stage. ``inputs``: path in the workspace → DVC md5. Without ``finish`` the run ends FAILED.

        Raises UnderstudyError where the store cannot be reached or refuses.
        """
        from mlflow.exceptions import MlflowException

        config = settings.block(params, "tracking", Config)
        flat = records.flatten(records.concerning(params, family))
        try:
            run_id = self._run(stage, family, flat, inputs, tags or {})
            self._describe(run_id, stage, flat, inputs, tags or {})
        except MlflowException as error:
            raise _refused(self.uri, error) from error
        base = self.uri if self.uri.startswith(("http://", "https://")) else config.ui_url
        url = f"{base.rstrip('/')}/#/experiments/{self._experiment}/runs/{run_id}"
        self.book.put(family or stage, run_id=run_id, uri=self.uri, url=url)
        record = StageRecord(self, run_id, url, stage, family, params, config.flush_s)
        try:
            with self._system_metrics(run_id, config):
                yield record
        except BaseException as error:
            with contextlib.suppress(MlflowException):  # the stage's own error is the one to show
                record.close("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        record.close("FINISHED" if record.finished else "FAILED")

    def _run(
        self,
        stage: str,
        family: str | None,
        flat: Mapping[str, str],
        inputs: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        """The run to write into: found, or opened."""
        own = {path: md5 for path, md5 in inputs.items() if family is not None and family in Path(path).parts}
        found = self._made(family, own) if family is not None and own else None
        if found is None:
            return self._open(family or stage, tags)
        logged = self.client.get_run(found).data.params
        if any(logged.get(name, value) != value for name, value in flat.items()):
            parent = self.tags(found).get(PARENT, found)
            return self._open(family or stage, {**tags, PARENT: parent})
        self.client.update_run(found, status="RUNNING")
        return found

    def _open(self, name: str, tags: Mapping[str, str]) -> str:
        extra = {"understudy.workspace": self.ws.root.name}
        if experiment := os.environ.get("DVC_EXP_NAME"):
            extra["dvc.experiment"] = experiment
        if sha := tags.get("git.sha"):
            extra["mlflow.source.git.commit"] = sha
        return str(self.client.create_run(self._experiment, run_name=name, tags={**tags, **extra}).info.run_id)

    def _made(self, family: str, own: Mapping[str, str]) -> str | None:
        """The run that made these inputs: the one that says so, else the family's newest if it says nothing else."""
        for path, md5 in own.items():
            matching = self.client.search_runs(
                [self._experiment],
                filter_string=f"tags.`{OUT}{path}` = '{md5}'",
                order_by=["attributes.start_time DESC"],
                max_results=1,
            )
            if matching:
                return str(matching[0].info.run_id)
        newest = self.book.get(family, self.uri)
        if newest is None:
            return None
        known = self._tags_of_active(newest)
        if known is None or any(known.get(OUT + path, md5) != md5 for path, md5 in own.items()):
            return None
        self._tag_outs(newest, own)
        return newest

    def _tags_of_active(self, run_id: str) -> dict[str, str] | None:
        """The run's tags, or None where it was deleted since."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException:
            return None
        return dict(run.data.tags) if run.info.lifecycle_stage == "active" else None

    def _tag_outs(self, run_id: str, versions: Mapping[str, str]) -> None:
        for path, md5 in versions.items():
            self.client.set_tag(run_id, OUT + path, md5)
            if path.startswith("models/"):
                self.client.set_tag(run_id, "understudy.train", md5)

    def committed(self, family: str | None, versions: Mapping[str, str]) -> None:
        """Tell the family's newest run which versions (path → md5) its last stage has made, right after the commit."""
        run_id = self.book.get(family, self.uri) if family is not None else None
        if run_id is not None and self._tags_of_active(run_id) is not None:
            self._tag_outs(run_id, versions)

    def _describe(
        self, run_id: str, stage: str, flat: Mapping[str, str], inputs: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Settings not yet there, tags, and the inputs with their DVC digests."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        logged = self.client.get_run(run_id).data.params
        fresh = [name for name in flat if name not in logged]
        for start in range(0, len(fresh), 100):
            chosen = [Param(name, flat[name]) for name in fresh[start : start + 100]]
            self.client.log_batch(run_id, params=chosen)
        started = {**tags, STAGE + stage: "RUNNING"}
        self.client.log_batch(run_id, tags=[RunTag(name, text) for name, text in started.items()])
        read = [
            DatasetInput(
                Dataset(name=path, digest=md5, source_type="local", source=records.dataset_source(path)),
                [InputTag("mlflow.data.context", stage), InputTag("dvc", md5)],
            )
            for path, md5 in inputs.items()
        ]
        if read:
            self.client.log_inputs(run_id, read)

    @contextlib.contextmanager
    def _system_metrics(self, run_id: str, config: Config) -> Iterator[None]:
        if not config.system_metrics:
            yield
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=self.uri)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def log_generator(
        self,
        family: str,
        model: Path,
        params: Mapping[str, Any],
        run_id: str | None = None,
        figures: Mapping[str, Any] | None = None,
    ) -> str | None:
        """Log the generator in ``model`` as a pyfunc, register it as ``understudy-F``, give it the alias ``candidate``.

        Returns its address (``models:/understudy-sngan/3``), or None where there is no ``generator.safetensors``: what
        keeps images instead of weights is no model. ``run_id``: default the family's newest run.
        """
        if not (model / WEIGHTS).is_file():
            return None
        run_id = run_id or self.book.get(family, self.uri)
        if run_id is None:
            raise UnderstudyError(explain(expected=f"a run of {family}", found="none", todo="track stage train first"))
        name, digest = f"understudy-{family}", files.sha256_file(model / WEIGHTS)
        card = self._card(family, model, digest, run_id, params, figures or {})
        tags = {"family": family, "weights.sha256": digest}
        with self.as_default():
            model_uri = self._log_pyfunc(run_id, model, params)
            if not self.client.search_registered_models(filter_string=f"name = '{name}'"):
                self.client.create_registered_model(name, description=PURPOSE)
            made = self.client.create_model_version(name, model_uri, run_id=run_id, tags=tags, description=card)
            self.client.set_registered_model_alias(name, "candidate", made.version)
        return f"models:/{name}/{made.version}"

    @contextlib.contextmanager
    def as_default(self) -> Iterator[None]:
        """Make this store MLflow's default while inside: its models and registry know no other way to be told.

        MLflow writes the default into the environment, where every later Tracker would read it: it is taken out again.
        """
        import mlflow

        before = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(self.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
            if before is not None:
                os.environ["MLFLOW_TRACKING_URI"] = before

    def _log_pyfunc(self, run_id: str, model: Path, params: Mapping[str, Any]) -> str:
        """Models-from-code: mlflow/generator_model.py, safetensors, signature, example. Returns ``models:/m-…``."""
        import mlflow

        about = files.read_json(model / ABOUT)
        with mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name="generator",
                python_model=str(MODEL_FOLDER / "generator_model.py"),
                artifacts={"weights": str(model / WEIGHTS), "about": str(model / ABOUT)},
                model_config=_drawing(params),
                pip_requirements=[f"{package}=={importlib.metadata.version(package)}" for package in PACKAGES],
                **_signature(about),
            )
        return str(info.model_uri)

    def _card(
        self, family: str, model: Path, digest: str, run_id: str, params: Mapping[str, Any], figures: Mapping[str, Any]
    ) -> str:
        """The model card (markdown), from mlflow/model_card.md.j2."""
        run = self.client.get_run(run_id)
        return records.card(
            MODEL_FOLDER / "model_card.md.j2",
            family=family,
            about=files.read_json(model / ABOUT),
            weights_sha256=digest,
            git_sha=run.data.tags.get("git.sha"),
            run_url=self.book.url(family) or run_id,
            inputs={item.dataset.name: item.dataset.digest for item in run.inputs.dataset_inputs},
            figures=figures,
            settings=records.flatten({family: params.get(family, {})}),
        )


PURPOSE = "Generators that wait for a verdict. They stay in the private zone; only images are released."


def _home(ws: Workspace) -> Path:
    """``state/mlflow`` of the workspace; of the one that asked, where DVC runs an experiment in a passing copy."""
    root = os.environ.get("DVC_ROOT") if os.environ.get("DVC_EXP_NAME") else None
    return (Path(root) if root else ws.root).resolve() / "state/mlflow"


def _refused(uri: str, error: Exception) -> UnderstudyError:
    found = " ".join(str(error).split())[:300]
    return UnderstudyError(
        explain(expected=f"MLflow to record in {uri}", found=found, todo="mend it or unset MLFLOW_TRACKING_URI")
    )


def _drawing(params: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a drawn image's bytes besides weights, label and seed: batch size and precision."""
    import torch

    from ops.core import runtime

    precision = settings.block(params, "runtime", runtime.Config).precision
    bf16 = precision == "bf16" or (precision == "auto" and runtime.has_bf16(torch.device("cpu")))
    return {"batch": int(params["sample"]["batch"]), "bf16": bf16}


def _signature(about: Mapping[str, Any]) -> dict[str, Any]:
    """Labels (and, where wanted, seeds) in, uint8 images out; the example names classes, never data."""
    import numpy as np
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    shape = (-1, about["size_px"], about["size_px"], about["channels"])
    signature = ModelSignature(
        inputs=Schema([ColSpec("string", "label"), ColSpec("long", "seed", required=False)]),
        outputs=Schema([TensorSpec(np.dtype("uint8"), shape)]),
        params=ParamSchema([ParamSpec("seed", "long", 0)]),
    )
    example = pd.DataFrame({"label": list(about["classes"])[:4]})
    return {"signature": signature, "input_example": (example, {"seed": 1})}
