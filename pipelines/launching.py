"""``understudy run`` and ``status``: the whole graph through Dagster in this process, with progress and a summary."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rich
from rich.table import Table

from ops.core import files
from ops.core.config import load_params
from ops.core.errors import UnderstudyError
from ops.core.paths import Workspace
from ops.core.progress import ConsoleReporter, Reporter
from ops.core.protocols import Outcome
from pipelines import workspaces
from pipelines.graph import in_order
from pipelines.running import Runner
from pipelines.settings import check
from pipelines.versioning import Versioning

COLOURS = {"PASS": "green", "FAIL": "red", "UNDECIDED": "yellow", "INVALID": "magenta"}


class AnnouncingRunner(Runner):
    """A runner that says on the terminal which stage begins and what it came to, and keeps the outcomes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, listeners=[ConsoleReporter(prefix="    ")])
        self.outcomes: dict[str, Outcome] = {}
        self.refused: UnderstudyError | None = None

    def run(self, stage: str, family: str | None, *, reporter: Reporter, force: bool = False, tags=None) -> Outcome:  # type: ignore[no-untyped-def]
        address = f"{stage}@{family}" if family else stage
        started_s = time.perf_counter()
        try:
            outcome = super().run(stage, family, reporter=reporter, force=force, tags=tags)
        except UnderstudyError as error:
            self.refused = self.refused or error
            rich.print(f"[red]✗[/] {address}: {error}", file=sys.stderr)
            raise
        mark = "[red]✗[/]" if outcome.blocked else "[dim]·[/]" if outcome.was_current else "[green]✓[/]"
        took = "current" if outcome.was_current else f"{time.perf_counter() - started_s:.1f} s"
        rich.print(f"{mark} {address} [dim]{took}[/]", file=sys.stderr)
        for finding in outcome.blocked:
            rich.print(
                f"    [red]{finding.name}[/]: expected {finding.expected}, found {finding.found}", file=sys.stderr
            )
        self.outcomes[address] = outcome
        return outcome


def run_everything(root: Path, families: Sequence[str], force: bool) -> int:
    """Materialize every asset of the workspace; 0 where each active family reached a verdict, else 1."""
    check(load_params(root / "params.yaml"))
    Versioning(root)
    with workspaces.only_one(root, "understudy run"):
        for family in families:
            if workspaces.activate(root, family):
                print(f"added '{family}' to the active families in {root / 'params.yaml'}", file=sys.stderr)
        workspaces.keep_metrics(root)
        workspaces.dagster_home(root)
        started_s = time.perf_counter()
        runner = AnnouncingRunner(root)
        succeeded = _materialize(runner, force)
        whole_s = time.perf_counter() - started_s
    summary(root, runner, whole_s)
    if runner.refused is not None:
        return runner.refused.exit_code
    return 0 if succeeded and all(judged(root, runner, name) for name in workspaces.families(root)) else 1


def _materialize(runner: AnnouncingRunner, force: bool) -> bool:
    import dagster as dg

    from assets.stage import FORCE_TAG
    from pipelines.definitions import build

    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.get() as instance:
        _release_dead_slots(instance)
        job = build(runner.root, runner).resolve_job_def("pipeline")
        tags = {"understudy/door": "run", **({FORCE_TAG: "true"} if force else {})}
        result = job.execute_in_process(instance=instance, run_config=quiet, tags=tags, raise_on_error=False)
    for failure in [event for event in result.all_events if event.is_step_failure]:
        error = failure.step_failure_data.error
        cause = error.cause if error and error.cause else error
        if cause and "UnderstudyError" not in str(cause.cls_name) and "CallError" not in str(cause.cls_name):
            print(f"{failure.step_key}: {cause.message.strip()}", file=sys.stderr)
    return bool(result.success)


def _release_dead_slots(instance) -> None:  # type: ignore[no-untyped-def]
    """Runs of this door die with the workspace's lock: what is left STARTED under it was killed. Free what it held."""
    import dagster as dg

    filters = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING], tags={"understudy/door": "run"}
    )
    for dead in instance.get_runs(filters):
        instance.report_run_failed(dead, "the process that ran it was killed")
        instance.event_log_storage.free_concurrency_slots_for_run(dead.run_id)


def verdict_of(root: Path, family: str) -> str | None:
    """The family's verdict, or None where it was not judged."""
    path = Workspace(root).verdict(family)
    return str(files.read_json(path)["verdict"]) if path.is_file() else None


def judged(root: Path, runner: AnnouncingRunner, family: str) -> str | None:
    """The verdict that this run reached or confirmed; an older one does not count."""
    return verdict_of(root, family) if f"judge@{family}" in runner.outcomes else None


def summary(root: Path, runner: AnnouncingRunner, whole_s: float) -> None:
    """Families and verdicts side by side, where the time went, where to look."""
    ws = Workspace(root)
    table = Table("family", "verdict", "TSTR", "of TRTR", "because", box=None, header_style="dim")
    for family in workspaces.families(root):
        verdict = judged(root, runner, family)
        if verdict is None:
            table.add_row(family, "—", "", "", "not judged")
            continue
        utility = files.read_json(ws.utility(family)) if ws.utility(family).is_file() else {}
        figures = [
            f"{utility[key]:.3f}" if isinstance(utility.get(key), float) else "—"
            for key in ("accuracy_tstr", "tstr_over_trtr")
        ]
        because = str(files.read_json(ws.verdict(family)).get("because", ""))
        table.add_row(family, f"[{COLOURS.get(verdict, 'white')}]{verdict}[/]", *figures, because)
    rich.print(table)
    done = [outcome for outcome in runner.outcomes.values() if not outcome.was_current]
    stages_s = sum(outcome.seconds for outcome in done)
    share = 100 * (1 - stages_s / whole_s) if done and whole_s else 0.0
    rich.print(
        f"{len(done)} stages run, {len(runner.outcomes) - len(done)} current · {whole_s:.0f} s"
        + (f", of which around the stages {whole_s - stages_s:.0f} s ({share:.1f} %)" if done else "")
    )
    for family in workspaces.families(root):
        if ws.report(family).is_file():
            rich.print(f"report: {ws.report(family)}")
    if (ws.leaderboard / "leaderboard.html").is_file():
        rich.print(f"leaderboard: {ws.leaderboard / 'leaderboard.html'} · understudy ui shows Dagster and MLflow")


def show_status(root: Path) -> None:
    """One row a stage: current, or why not; then the verdicts."""
    runner = Runner(root)
    changes = runner.versioning.changes()
    table = Table("stage", "state", "why", box=None, header_style="dim")
    for node in in_order(runner.versioning.nodes):
        reasons = changes.get(node.address)
        table.add_row(node.address, "[green]current[/]" if not reasons else "[yellow]stale[/]", _why(reasons))
    rich.print(table)
    for family in workspaces.families(root):
        verdict = verdict_of(root, family)
        mine = [n.address for n in runner.versioning.nodes if n.family in (None, family)]
        stale = verdict and any(a in changes for a in mine if a.split("@")[0] not in ("report", "compare"))
        shown = f"[{COLOURS.get(verdict or '', 'dim')}]{verdict or 'not judged'}[/]"
        rich.print(f"{family}: {shown}" + (" [yellow](of an earlier release; something is stale)[/]" if stale else ""))


def _why(reasons: object) -> str:
    if not isinstance(reasons, list):
        return ""
    parts = []
    for reason in reasons:
        if isinstance(reason, dict):
            parts += [f"{kind}: {', '.join(map(str, what))}" for kind, what in reason.items()]
        else:
            parts.append(str(reason))
    return "; ".join(parts)
