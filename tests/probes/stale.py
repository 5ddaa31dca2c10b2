"""Print each asset of the workspace argv[1] that Dagster does not call FRESH, and why. Run in a process of its own."""

import sys
from pathlib import Path

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from pipelines import workspaces
from pipelines.definitions import build

root = Path(sys.argv[1]).resolve()
workspaces.dagster_home(root)
graph = build(root).resolve_asset_graph()
with dg.DagsterInstance.get() as instance:
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    for key in sorted(graph.materializable_asset_keys):
        state = resolver.get_status(key).value
        if state != "FRESH":
            print("STALE", key.to_user_string(), state, [cause.reason for cause in resolver.get_stale_causes(key)])
