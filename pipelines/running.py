"""One stage, whole, for both doors: admission, work, expectations, tracking, and (Dagster's door) the commit to DVC."""

import platform
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops import stages
from ops.core import files
from ops.core.config import load_params
from ops.core.errors import UnderstudyError, explain
from ops.core.paths import Workspace
from ops.core.progress import Reporter, TeeReporter
from ops.core.protocols import Finding, Outcome
from pipelines import attempts, expectations, releasing
from pipelines.records import locked
from pipelines.tracking import Tracker
from pipelines.versioning import StageNode, Versioning, git_revision, overlap


class Runner:
    """Runs stages of one workspace. ``listeners`` hear what each stage says besides the reporter of the call."""

    def __init__(self, root: Path, listeners: Sequence[Reporter] = (), tracker: Tracker | None = None) -> None:
        self.ws = Workspace(Path(root).resolve())
        self.root = self.ws.root
        self.versioning = Versioning(self.root)
        self.tracker = tracker or Tracker(self.ws)
        self.listeners = list(listeners)

    def run(
        self,
        stage: str,
        family: str | None,
        *,
        reporter: Reporter,
        force: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run the stage and commit it to DVC, unless dvc.lock says that it is current."""
        node = self.versioning.node(stage, family)
        with locked(self.ws.state / "locks" / f"{node.address}.lock"):  # a second one waits, then finds it current
            return self._run(node, reporter, force, tags or {})

    def _run(self, node: StageNode, reporter: Reporter, force: bool, tags: Mapping[str, str]) -> Outcome:
        if not force and not self.versioning.changes([node.address]):
            versions = self.versioning.out_versions(node.address)
            figures, findings = self.remembered(node, versions)
            url = self.tracker.url(node.family) if figures else None
            return Outcome(figures=figures, versions=versions, findings=findings, was_current=True, run_url=url)
        outcome = self.perform(node, reporter, tags)
        if outcome.blocked:
            return outcome
        self.versioning.commit(node.address)
        versions = self.versioning.out_versions(node.address)
        self.tracker.committed(node.family, versions)
        self.remember_versions(node, versions)
        return Outcome(**{**vars(outcome), "versions": versions})

    def perform(self, node: StageNode, reporter: Reporter, tags: Mapping[str, str]) -> Outcome:
        """The stage without the commit: what ``dvc repro`` calls, because DVC commits by itself."""
        params = load_params(self.ws.params)
        code = self.versioning.code_version(node, params)
        attempts.admit(self.ws, node, params, self.versioning)
        inputs = self.input_versions(node)
        started_s = time.perf_counter()
        tags = {**tags, **({"git.sha": sha} if (sha := git_revision(self.root)) else {})}
        with self.tracker.stage(node.stage, node.family, params, inputs, tags) as handle:
            speakers = TeeReporter([reporter, handle.reporter, *self.listeners])
            about = {"created": releasing.now(), "code": sha or "", "run": (handle.url or "").rsplit("/", 1)[-1]}
            figures = stages.run(node.stage, stages.Work(self.ws, params, speakers, about), node.family)
            work_s = time.perf_counter() - started_s
            self._unchanged(node, code)
            findings = expectations.check(node.stage, self.ws, node.family, params)
            blocked = [f for f in findings if f.blocking and not f.passed]
            if not blocked:
                releasing.remember(self.ws, node, figures, about, self.versioning.written())
                handle.finish(figures, [self.root / out for out in node.outs])
        self.remember(node, figures, findings, work_s, time.perf_counter() - started_s)
        return Outcome(figures=figures, versions={}, findings=findings, run_url=handle.url, seconds=work_s)

    def _unchanged(self, node: StageNode, code: str) -> None:
        """Refuse to record a result under settings or code that it was not made with (DVC hashes them at the end)."""
        if self.versioning.code_version(node, load_params(self.ws.params)) != code:
            expected = f"settings and code of {node.address} unchanged while it ran"
            raise UnderstudyError(explain(expected=expected, found="an edit", todo="run again; nothing was committed"))

    def input_versions(self, node: StageNode) -> dict[str, str]:
        """Input path → the md5 of the output that it is, as dvc.lock holds it now."""
        return {path: md5 for path, md5 in self.versioning.written().items() for dep in node.deps if overlap(path, dep)}

    def remember(
        self, node: StageNode, figures: Mapping[str, Any], findings: Sequence[Finding], work_s: float, whole_s: float
    ) -> None:
        """Costs and figures of the last run, outside what DVC tracks (a clock would make every output new)."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        record = {
            "stage": node.stage, "family": node.family, "seconds": round(work_s, 3),
            "seconds_around": round(whole_s - work_s, 3), "peak_memory_mb": round(peak / 2**20),
            "machine": f"{platform.system()} {platform.machine()}", "figures": dict(figures),
            "findings": [vars(finding) for finding in findings],
        }  # fmt: skip
        files.write_json(self.ws.timing / f"{node.address}.json", record)

    def remember_versions(self, node: StageNode, versions: Mapping[str, str]) -> None:
        """Note which outputs the remembered figures are of."""
        path = self.ws.timing / f"{node.address}.json"
        files.write_json(path, {**files.read_json(path), "versions": dict(versions)})

    def remembered(self, node: StageNode, versions: Mapping[str, str]) -> tuple[dict[str, Any], list[Finding]]:
        """Figures and findings of the run that made these very outputs, where this workspace remembers it."""
        path = self.ws.timing / f"{node.address}.json"
        record = files.read_json(path) if path.is_file() else {}
        if record.get("versions") != dict(versions):
            return {}, []
        return dict(record["figures"]), [Finding(**finding) for finding in record.get("findings", [])]
