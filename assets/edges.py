"""What a factory needs to know of one stage: what it writes, what it reads, what makes it stale."""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg


@dataclass(frozen=True)
class StageEdges:
    """One stage of the graph in Dagster's terms. ``outs`` maps each path to its asset key."""

    stage: str
    family: str | None
    outs: Mapping[str, tuple[str, ...]]
    reads: tuple[tuple[str, ...], ...]
    code_version: str

    @property
    def address(self) -> str:
        return f"{self.stage}@{self.family}" if self.family else self.stage

    @property
    def op_name(self) -> str:
        return self.address.replace("@", "__").replace("-", "_")

    @property
    def keys(self) -> list[dg.AssetKey]:
        return [dg.AssetKey(list(key)) for key in self.outs.values()]
