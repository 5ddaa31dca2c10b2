"""The only place that speaks to Great Expectations: both doors call it after a stage, before the commit.

:func:`check` judges what a stage wrote and renders Data Docs; :func:`enforce` refuses a set that broke a blocking
expectation, so that it never enters ``dvc.lock``. What is expected is code too: :mod:`pipelines.suites`.

No private value reaches Data Docs, by three locks. (1) Labels, subjects and roles are not in the validated table, only
flags and shares measured from them. (2) Ids and hashes are validated as they are, with the result format
``BOOLEAN_ONLY``, which keeps no value of any row. (3) Great Expectations prints a fingerprint of the table; a random
column salts it, because an unsalted hash of a private manifest is an oracle for membership.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.core import config as settings
from ops.core import files
from ops.core.errors import UnderstudyError
from ops.core.paths import Workspace
from ops.core.protocols import Finding
from pipelines.suites import SUITES, Case, Config, Rule, Suite

__all__ = ["CHECKED_STAGES", "Config", "check", "docs_folder", "enforce", "suites"]

CHECKED_STAGES = tuple(SUITES)  # stages that a suite follows
SHOWN_ROWS = 3  # failing rows named in a finding


def suites(stage: str) -> list[str]:
    """Names of the suites that follow a stage (for Dagster's check specs; costs no import of Great Expectations)."""
    return [SUITES[stage][0]] if stage in SUITES else []


def docs_folder(stage: str, ws: Workspace, family: str | None) -> Path:
    """Where the stage's Data Docs lie: ``state/docs/sample-sngan/index.html``."""
    return ws.docs / (f"{stage}-{family}" if family else stage)


def check(stage: str, ws: Workspace, family: str | None, params: Mapping[str, Any]) -> list[Finding]:
    """Validate what a stage wrote, render Data Docs, return one finding an expectation; [] where it has no suite.

    Raises CallError for a wrong ``expectations`` block and UnderstudyError where the set cannot be read at all.
    A failed expectation raises nothing: see :func:`enforce`.
    """
    if stage not in SUITES:
        return []
    case = Case(ws, family, settings.block(params, "expectations", Config), params)
    suite = SUITES[stage][1](case)
    with files.atomic_folder(docs_folder(stage, ws, family)) as folder:
        return _validate(suite, folder)


def enforce(findings: Sequence[Finding]) -> None:
    """Refuse a set that broke a blocking expectation. Raises UnderstudyError with a table of what failed."""
    failed = [finding for finding in findings if finding.blocking and not finding.passed]
    if failed:
        rows = "\n".join(f"  {f.name}: expected {f.expected}, found {f.found}" for f in failed)
        held = f"{len(findings) - len(failed)} of {len(findings)} expectations held"
        raise UnderstudyError(
            f"the data broke {len(failed)} blocking expectations ({held}), nothing was committed:\n{rows}"
        )


def _validate(suite: Suite, docs: Path) -> list[Finding]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    _add_site(context, docs)
    expected = [_expectation(gx, rule) for rule in suite.rules]
    declared = context.suites.add(gx.ExpectationSuite(name=suite.name, expectations=expected))
    asset = context.data_sources.add_pandas("understudy").add_dataframe_asset("manifest")
    whole = asset.add_batch_definition_whole_dataframe("all")
    definition = gx.ValidationDefinition(name=suite.name, data=whole, suite=declared)
    checkpoint = gx.Checkpoint(
        name=suite.name,
        validation_definitions=[context.validation_definitions.add(definition)],
        actions=[gx.checkpoint.UpdateDataDocsAction(name="docs", site_names=["understudy"])],
        result_format={"result_format": "BOOLEAN_ONLY"},
    )
    rows = {"dataframe": suite.table.assign(salt=secrets.token_hex(16))}
    (validation,) = context.checkpoints.add(checkpoint).run(batch_parameters=rows).run_results.values()
    passed = {_rule_name(item.expectation_config): bool(item.success) for item in validation.results}
    return [_finding(gx, rule, passed[rule.name], whole, rows) for rule in suite.rules]


def _add_site(context: Any, docs: Path) -> None:
    context.delete_data_docs_site("local_site")
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs)}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    context.add_data_docs_site(
        "understudy", {"class_name": "SiteBuilder", "site_index_builder": index, "store_backend": store}
    )


def _expectation(gx: Any, rule: Rule) -> Any:
    severity = "critical" if rule.blocking else "warning"
    return getattr(gx.expectations, rule.kind)(**rule.options, severity=severity, meta={"rule": rule.name})


def _rule_name(configuration: Any) -> str:
    return str(configuration.meta["rule"])


def _finding(gx: Any, rule: Rule, passed: bool, whole: Any, rows: Mapping[str, Any]) -> Finding:
    """One row of the table of findings. A failed rule is judged again, in memory, to say which rows failed it."""
    if passed:
        return Finding(rule.name, True, rule.expected, "as expected", rule.blocking)
    result = whole.get_batch(batch_parameters=rows).validate(_expectation(gx, rule), result_format="COMPLETE").result
    if "unexpected_index_list" not in result:
        found = f"{result['observed_value']} rows" if "observed_value" in result else "what cannot be judged"
        return Finding(rule.name, False, rule.expected, found, rule.blocking)
    failing = result["unexpected_index_list"]
    shown = ", ".join(map(str, failing[:SHOWN_ROWS])) + (", …" if len(failing) > SHOWN_ROWS else "")
    found = f"otherwise in {len(failing)} of {len(rows['dataframe'])} rows ({shown})"
    return Finding(rule.name, False, rule.expected, found, rule.blocking, len(failing))
