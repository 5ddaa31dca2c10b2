"""The Dagster door: dvc.yaml's graph as assets, jobs. The workspace is ``UNDERSTUDY_WORKSPACE`` or here."""

import os
from pathlib import Path

import dagster as dg

from assets.stage import all_assets
from ops.core.config import load_params
from ops.stages import STAGES
from pipelines import expectations
from pipelines.graph import edges
from pipelines.running import Runner
from pipelines.versioning import Versioning

WORKSPACE_VARIABLE = "UNDERSTUDY_WORKSPACE"


def build(root: Path, runner: Runner | None = None) -> dg.Definitions:
    """The whole graph of one workspace as Dagster definitions."""
    versioning = runner.versioning if runner else Versioning(root)
    stages = edges(versioning, load_params(versioning.root / "params.yaml"))
    families = sorted({stage.family for stage in stages if stage.family})
    jobs = [dg.define_asset_job("pipeline", selection=dg.AssetSelection.all(), description="Raw to leaderboard.")]
    for family in families:
        selection = dg.AssetSelection.groups(family)
        jobs.append(
            dg.define_asset_job(f"{family}_only", selection=selection, description=f"Everything of {family} alone.")
        )
    return dg.Definitions(
        assets=all_assets(stages, checked=[name for name in STAGES if expectations.suites(name)]),
        jobs=jobs,
        resources={"runner": runner or Runner(versioning.root)},
        # One process a run: the stages are coarse, and a spawned one would import torch again for each of them.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What ``dagster dev`` loads."""
    return build(Path(os.environ.get(WORKSPACE_VARIABLE, ".")).resolve())
