"""One stage of the graph as Dagster assets: call the stage, return what it came to."""

from collections.abc import Iterator, Sequence

import dagster as dg

from assets.edges import StageEdges
from assets.nouns import NOUNS, OWNERS, UNKNOWN
from assets.speaking import DagsterReporter, findings_table, metadata
from ops.core.protocols import Outcome, StageRunner

FORCE_TAG = "understudy/force"
CHECK = "expectations"


def stage_assets(edges: StageEdges, checked: bool) -> dg.AssetsDefinition:
    """The stage's outputs as assets, run whole; ``checked`` where it has expectations about its data."""
    noun = NOUNS.get(edges.stage, UNKNOWN)
    specs = [
        dg.AssetSpec(
            key,
            deps=[dg.AssetKey(list(read)) for read in edges.reads],
            description=noun.says,
            group_name=noun.group or edges.family,
            kinds=set(noun.kinds),
            owners=OWNERS,
            code_version=edges.code_version,
        )
        for key in edges.keys
    ]
    checks = [dg.AssetCheckSpec(CHECK, asset=edges.keys[0], blocking=True)] if checked else []

    @dg.multi_asset(name=edges.op_name, specs=specs, check_specs=checks, can_subset=False, pool=noun.pool)
    def body(
        context: dg.AssetExecutionContext, runner: dg.ResourceParam[StageRunner]
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        outcome = runner.run(
            edges.stage,
            edges.family,
            reporter=DagsterReporter(context, edges.keys[0]),
            force=FORCE_TAG in context.run.tags,
            tags={"dagster/run_id": context.run_id},
        )
        if checked:
            yield check_result(edges, outcome)
        if outcome.blocked:
            raise dg.Failure(
                f"{len(outcome.blocked)} expectations failed: {', '.join(f.name for f in outcome.blocked)}"
            )
        for path, key in edges.outs.items():
            yield dg.MaterializeResult(
                asset_key=dg.AssetKey(list(key)),
                data_version=dg.DataVersion(outcome.versions[path]),
                metadata=metadata(outcome, runner.root / path),
            )

    return body


def check_result(edges: StageEdges, outcome: Outcome) -> dg.AssetCheckResult:
    """The stage's expectations as one blocking check with a table of what held."""
    return dg.AssetCheckResult(
        asset_key=edges.keys[0],
        check_name=CHECK,
        passed=not outcome.blocked,
        metadata={"expectations": findings_table(outcome.findings)} if outcome.findings else {},
    )


def all_assets(stages: Sequence[StageEdges], checked: Sequence[str]) -> list[dg.AssetsDefinition]:
    """Every stage of the graph."""
    return [stage_assets(edges, edges.stage in checked) for edges in stages]
