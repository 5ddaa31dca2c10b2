"""The whole of params.yaml checked at once: every block against its model, unknown blocks by name.

A stage reads only its own blocks; this is for the verbs that look at everything before long work begins.
"""

from collections.abc import Mapping
from typing import Any

from ops.core.config import StrictModel, block
from ops.core.errors import CallError, explain


def models() -> dict[str, type[StrictModel]]:
    """Block name → model, of every block that is not a family, a source or an attack."""
    from ops import auditing, filtering, generation, ingestion, judgement, preparation, release, validation
    from ops.classifiers import features, training
    from ops.core import runtime
    from ops.metrics import copies
    from pipelines import expectations, tracking

    return {
        "runtime": runtime.Config, "ingest": ingestion.Config, "prepare": preparation.Config, "copies": copies.Config,
        "classifier": training.Config, "features": features.Config, "validate": validation.Config,
        "sample": generation.Config, "filter": filtering.Config, "audit": auditing.Config, "policy": judgement.Config,
        "release": release.Config,
        "expectations": expectations.Config, "tracking": tracking.Config,
    }  # fmt: skip


def check(params: Mapping[str, Any]) -> None:
    """Raise CallError naming the first block or key that is unknown, missing or wrong."""
    from ops import attacks, generators, sources

    known = {**models(), **{name: generators.load(name).Config for name in generators.names() if name in params}}
    unknown = sorted(set(params) - set(known) - {"seed", "families", "source", "attacks"})
    if unknown:
        raise CallError(
            explain(
                expected=f"blocks among {', '.join(sorted(known))}", found=str(unknown), todo="remove or rename them"
            )
        )
    if not isinstance(params.get("seed"), int):
        raise CallError(
            explain(expected="a whole number 'seed' in params.yaml", found=repr(params.get("seed")), todo="add it")
        )
    for name in known:
        block(params, name, known[name])
    for family in params.get("families") or {}:
        block(params, family, generators.load(family).Config)
    kind = (params.get("source") or {}).get("kind")
    block(params, "source", sources.load(str(kind)).Config)
    for attack in params.get("attacks") or {}:
        block(params, f"attacks.{attack}", attacks.load(attack).Config)
