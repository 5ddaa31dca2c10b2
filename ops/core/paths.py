"""The one map of a workspace: every folder and file that a run reads or writes, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROLES = ("train", "audit", "reference", "test")


@dataclass(frozen=True)
class Workspace:
    """Paths of one workspace. ``root`` holds ``params.yaml`` and ``dvc.yaml``; all other paths derive from it."""

    root: Path

    # settings and graph
    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    # data, raw to filtered
    @property
    def raw(self) -> Path:
        return self.root / "data/raw"

    @property
    def prepared(self) -> Path:
        return self.root / "data/prepared"

    def role(self, role: str) -> Path:
        return self.prepared / role

    def synthetic(self, family: str) -> Path:
        return self.root / "data/synthetic" / family

    def filtered(self, family: str) -> Path:
        return self.root / "data/filtered" / family

    # models
    @property
    def features(self) -> Path:
        return self.root / "models/features"

    def model(self, family: str) -> Path:
        return self.root / "models" / family

    # evidence
    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def real(self) -> Path:
        return self.reports / "real.json"

    @property
    def controls(self) -> Path:
        return self.reports / "controls.json"

    def utility(self, family: str) -> Path:
        return self.reports / family / "utility.json"

    def pictures(self, family: str) -> Path:
        return self.reports / family / "pictures"

    def attacks(self, family: str) -> Path:
        return self.reports / family / "attacks"

    def verdict(self, family: str) -> Path:
        return self.reports / family / "verdict.json"

    def report(self, family: str) -> Path:
        return self.reports / family / "report.html"

    @property
    def leaderboard(self) -> Path:
        return self.root / "leaderboard"

    def release(self, family: str) -> Path:
        return self.root / "release" / family

    # what is remembered but never released or versioned
    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def ingest_cache(self) -> Path:
        return self.state / "ingest"

    @property
    def timing(self) -> Path:
        return self.state / "timing"

    @property
    def docs(self) -> Path:
        return self.state / "docs"
