"""What Dagster's assets need of the outside, as protocols, so that assets import nothing above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ops.core.progress import Reporter


@dataclass(frozen=True)
class Finding:
    """One expectation about data and whether it held."""

    name: str
    passed: bool
    expected: str
    found: str
    blocking: bool = True
    failing_rows: int = 0


@dataclass(frozen=True)
class Outcome:
    """What running one stage came to.

    ``versions`` maps each output path (relative to the workspace) to its DVC md5; empty where findings blocked it.
    """

    figures: Mapping[str, Any]
    versions: Mapping[str, str]
    findings: Sequence[Finding] = ()
    was_current: bool = False
    run_url: str | None = None
    seconds: float = 0.0

    @property
    def blocked(self) -> list[Finding]:
        """Blocking findings that failed: the stage's output was not committed."""
        return [finding for finding in self.findings if finding.blocking and not finding.passed]


class StageRunner(Protocol):
    """Runs one stage of the graph whole: work, expectations, tracking, commit."""

    root: Path

    def run(
        self,
        stage: str,
        family: str | None,
        *,
        reporter: Reporter,
        force: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run the stage unless it is current (or ``force``). Raises UnderstudyError where the work fails."""
        ...
