"""Print what MLflow holds of the family argv[2] in the workspace argv[1], as one line of JSON."""

import json
import sys
from pathlib import Path

from ops.core.paths import Workspace
from pipelines.tracking import Tracker

tracker = Tracker(Workspace(Path(sys.argv[1]).resolve()))
client = tracker.client
experiments = [experiment.experiment_id for experiment in client.search_experiments()]
runs = [run for run in client.search_runs(experiments) if run.info.run_name == sys.argv[2]]
versions = client.search_model_versions(f"name='understudy-{sys.argv[2]}'")
print(
    json.dumps(
        {
            "status": [run.info.status for run in runs],
            "metrics": sorted(runs[0].data.metrics),
            "params": len(runs[0].data.params),
            "inputs": [read.dataset.digest for read in runs[0].inputs.dataset_inputs],
            "versions": [version.version for version in versions],
        }
    )
)
