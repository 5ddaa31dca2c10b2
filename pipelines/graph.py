"""Gives Dagster its edges from DVC's resolved stages, so that there is one graph and nothing to keep equal."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from assets.edges import StageEdges
from pipelines.versioning import StageNode, Versioning, overlap

NOUNS = {"models": "generator"}  # models/F is the family's generator


def asset_key(path: str, family: str | None) -> tuple[str, ...]:
    """``data/prepared/train`` → (prepared, train); ``reports/sngan/utility.json`` → (sngan, utility)."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    top, rest = parts[0], parts[1:] or parts
    if family is None:
        return tuple(rest)
    others = [part for part in rest if part != family]
    if not others:
        others = [NOUNS.get(top, top)]
    elif top == "data":
        others = others[-1:]
    return (family, *others)


def edges(versioning: Versioning, params: Mapping[str, Any]) -> list[StageEdges]:
    """Every stage of dvc.yaml with the asset keys of what it writes and reads."""
    nodes = versioning.nodes
    keys = {out: asset_key(out, node.family) for node in nodes for out in node.outs}
    return [_stage_edges(node, keys, versioning.code_version(node, params)) for node in nodes]


def _stage_edges(node: StageNode, keys: Mapping[str, tuple[str, ...]], code_version: str) -> StageEdges:
    reads = {out: key for out, key in keys.items() for dep in node.deps if overlap(out, dep) and out not in node.outs}
    return StageEdges(
        stage=node.stage,
        family=node.family,
        outs={out: keys[out] for out in node.outs},
        reads=tuple(sorted(set(reads.values()))),
        code_version=code_version,
    )


def upstream(nodes: Sequence[StageNode], node: StageNode) -> list[StageNode]:
    """The stages whose outputs this one reads directly, in the graph's order."""
    return [
        other
        for other in nodes
        if other is not node and any(overlap(out, dep) for out in other.outs for dep in node.deps)
    ]


def in_order(nodes: Sequence[StageNode]) -> list[StageNode]:
    """The stages so that each comes after all that it reads (ties in the order of dvc.yaml)."""
    done: list[StageNode] = []
    waiting = list(nodes)
    while waiting:
        ready = [node for node in waiting if all(parent in done for parent in upstream(nodes, node))]
        done += ready
        waiting = [node for node in waiting if node not in ready]
    return done
