"""Tells Dagster what dvc.lock holds: after ``dvc repro``, ``checkout`` or ``pull``, DVC knows and Dagster does not.

For each stage, parents first, whose recorded data version differs from dvc.lock, one materialization is reported with
the tags that a real run would have left, so that Dagster's staleness agrees with ``dvc status``.
"""

from pathlib import Path

from pipelines import workspaces
from pipelines.graph import edges, in_order
from pipelines.versioning import Versioning, in_experiment


def sync_workspace(root: Path) -> list[str]:
    """Report every asset whose version in dvc.lock Dagster does not know. Returns their keys as text."""
    import dagster as dg

    if in_experiment():
        return []
    Versioning(root)
    workspaces.dagster_home(root)
    with dg.DagsterInstance.get() as instance:
        return sync_instance(root, instance)


def sync_instance(root: Path, instance) -> list[str]:  # type: ignore[no-untyped-def]
    """As :func:`sync_workspace`, on a given instance."""
    from ops.core.config import load_params

    versioning = Versioning(root)
    by_address = {stage.address: stage for stage in edges(versioning, load_params(versioning.root / "params.yaml"))}
    stale = versioning.changes()
    reported: list[str] = []
    for node in in_order(versioning.nodes):
        versions = versioning.out_versions(node.address)
        stage = by_address[node.address]
        if node.address in stale or not versions:
            continue
        for path, key in stage.outs.items():
            if _report(instance, key, versions[path], stage):
                reported.append("/".join(key))
    return reported


def _report(instance, key, md5: str, stage) -> bool:  # type: ignore[no-untyped-def]
    """Report one asset at one version, unless Dagster knows it so already; True where it was reported."""
    import dagster as dg
    from dagster._core.definitions.data_version import (
        CODE_VERSION_TAG,
        DATA_VERSION_IS_USER_PROVIDED_TAG,
        DATA_VERSION_TAG,
        extract_data_version_from_entry,
        get_input_data_version_tag,
        get_input_event_pointer_tag,
    )

    asset_key = dg.AssetKey(list(key))
    tags = {DATA_VERSION_TAG: md5, DATA_VERSION_IS_USER_PROVIDED_TAG: "true", CODE_VERSION_TAG: stage.code_version}
    for read in stage.reads:
        parent = dg.AssetKey(list(read))
        record = instance.get_latest_data_version_record(parent)
        if record is None:
            continue
        version = extract_data_version_from_entry(record.event_log_entry)
        tags[get_input_data_version_tag(parent)] = version.value if version else ""
        tags[get_input_event_pointer_tag(parent)] = str(record.storage_id)
    known = instance.get_latest_data_version_record(asset_key)
    if known is not None and _agrees(known.event_log_entry, tags, md5, stage.code_version):
        return False
    instance.report_runless_asset_event(dg.AssetMaterialization(asset_key, metadata={"source": "dvc.lock"}, tags=tags))
    return True


def _agrees(entry, tags: dict[str, str], md5: str, code_version: str) -> bool:  # type: ignore[no-untyped-def]
    """Whether the last materialization says the same version, code and input versions."""
    from dagster._core.definitions.data_version import CODE_VERSION_TAG, extract_data_version_from_entry

    version = extract_data_version_from_entry(entry)
    have = (entry.asset_materialization.tags or {}) if entry.asset_materialization else {}
    inputs = {name: value for name, value in tags.items() if "input_data_version" in name}
    return (
        version is not None
        and version.value == md5
        and have.get(CODE_VERSION_TAG) == code_version
        and all(have.get(name) == value for name, value in inputs.items())
    )
