"""The table of contents: every stage of the way from private images to a judged synthetic set, in order.

Each function binds one stage's paths in the workspace and its blocks in ``params.yaml`` to the step module that does
the work, and returns that stage's figures as one flat mapping. Both doors call these: ``dvc repro`` through
``python -m pipelines stage NAME``, Dagster through its assets. Steps are imported where they are called, so that naming
a stage costs nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ops.core import config
from ops.core.errors import CallError, explain
from ops.core.paths import Workspace
from ops.core.progress import Reporter, SilentReporter

Figures = Mapping[str, Any]
C = TypeVar("C", bound=config.StrictModel)


@dataclass(frozen=True)
class Work:
    """What a stage is given: the workspace, its settings, someone to report to."""

    ws: Workspace
    params: Mapping[str, Any]
    reporter: Reporter = field(default_factory=SilentReporter)
    about: Mapping[str, str] = field(default_factory=dict)
    """Where this run is written down: ``created``, ``code``, ``run``. Only a release's attestation may say so."""

    def block(self, name: str, model: type[C]) -> C:
        """The validated block ``name`` of ``params.yaml``."""
        return config.block(self.params, name, model)

    def raw_block(self, name: str) -> Mapping[str, Any]:
        """A block whose model is known to the part it names (a source, a family, the attacks)."""
        value = self.params.get(name)
        if not isinstance(value, Mapping):
            raise CallError(
                explain(expected=f"a block '{name}' in params.yaml", found=repr(value), todo=f"add '{name}:'")
            )
        return value

    @property
    def seed(self) -> int:
        value = self.params.get("seed")
        if not isinstance(value, int):
            raise CallError(explain(expected="a whole number 'seed' in params.yaml", found=repr(value), todo="add it"))
        return value

    def sample_reads(self, family: str) -> str:
        """The one path that the family's sampling reads besides its model."""
        families = self.raw_block("families")
        if family not in families:
            known = ", ".join(map(str, families))
            raise CallError(
                explain(expected="an active family", found=f"'{family}' (active: {known})", todo="add it to 'families'")
            )
        return str(families[family]["sample_reads"])


def ingest(work: Work) -> Figures:
    """Original bytes into 256 shards; what cannot be read into quarantine, with a reason."""
    from ops import ingestion

    ws = work.ws
    return ingestion.ingest(
        work.raw_block("source"), work.block("ingest", ingestion.Config),
        base=ws.root, out=ws.raw, cache=ws.ingest_cache, reporter=work.reporter,
    )  # fmt: skip


def prepare(work: Work) -> Figures:
    """Decode, resize, give every subject one of four roles, quarantine near-duplicates across roles."""
    from ops import preparation
    from ops.core import runtime
    from ops.metrics import copies

    return preparation.prepare(
        work.ws.raw, work.block("prepare", preparation.Config), work.block("copies", copies.Config),
        work.block("runtime", runtime.Config), out=work.ws.prepared, reporter=work.reporter,
    )  # fmt: skip


def baseline(work: Work) -> Figures:
    """The feature net, and everything about real data that no family changes: TRTR, real-to-real distances."""
    from ops import validation
    from ops.classifiers import features, training
    from ops.core import runtime

    ws = work.ws
    return validation.baseline(
        ws.role("train"), ws.role("reference"), ws.role("test"), work.block("validate", validation.Config),
        work.block("classifier", training.Config), work.block("features", features.Config),
        work.block("runtime", runtime.Config), work.seed,
        out_features=ws.features, out_real=ws.real, reporter=work.reporter,
    )  # fmt: skip


def controls(work: Work) -> Figures:
    """Every attack on releases whose answer is known: a copier must be caught, a fresh source must not."""
    from ops import auditing
    from ops.core import runtime
    from ops.metrics import copies

    ws = work.ws
    return auditing.controls(
        ws.role("train"), ws.role("audit"), ws.role("reference"), ws.features, work.raw_block("attacks"),
        work.block("copies", copies.Config), work.block("audit", auditing.Config),
        work.block("runtime", runtime.Config), work.seed, out=ws.controls, reporter=work.reporter,
    )  # fmt: skip


def train(work: Work, family: str) -> Figures:
    """Fit the family's generator on the train role."""
    from ops import generation
    from ops.core import runtime

    return generation.train(
        family, work.ws.role("train"), work.raw_block(family), work.block("runtime", runtime.Config), work.seed,
        out=work.ws.model(family), checkpoints=work.ws.state / "checkpoints", reporter=work.reporter,
    )  # fmt: skip


def sample(work: Work, family: str) -> Figures:
    """Draw a labelled set, each image traceable to its seed."""
    from ops import generation
    from ops.core import runtime

    return generation.sample(
        family, work.ws.model(family), work.ws.root / work.sample_reads(family), work.raw_block(family),
        work.block("sample", generation.Config), work.block("runtime", runtime.Config), work.seed,
        out=work.ws.synthetic(family), cache=work.ws.state / "samples", reporter=work.reporter,
    )  # fmt: skip


def filter(work: Work, family: str) -> Figures:
    """Score every drawn image by SSIM to real ones; keep the band that fresh real images reach."""
    from ops import filtering
    from ops.core import runtime

    ws = work.ws
    return filtering.filter_set(
        ws.synthetic(family), ws.role("train"), ws.role("reference"), work.block("filter", filtering.Config),
        work.block("runtime", runtime.Config), work.seed, out=ws.filtered(family), reporter=work.reporter,
    )  # fmt: skip


def validate(work: Work, family: str) -> Figures:
    """Train on synthetic, test on real; fidelity in feature space; pictures of synthetic images."""
    from ops import validation
    from ops.classifiers import training
    from ops.core import runtime

    ws = work.ws
    return validation.validate(
        family, ws.synthetic(family), ws.filtered(family), ws.role("train"), ws.role("reference"), ws.role("test"),
        ws.features, ws.real, work.block("validate", validation.Config), work.block("classifier", training.Config),
        work.block("runtime", runtime.Config), work.seed,
        out_utility=ws.utility(family), out_pictures=ws.pictures(family), reporter=work.reporter,
    )  # fmt: skip


def attack_images(work: Work, family: str) -> Figures:
    """All attacks of an adversary who holds the released images only."""
    from ops import auditing
    from ops.core import runtime
    from ops.metrics import copies

    ws = work.ws
    return auditing.attack(
        "images", family, ws.synthetic(family), ws.filtered(family), ws.role("train"), ws.role("audit"),
        ws.role("reference"), ws.features, work.raw_block("attacks"), work.block("copies", copies.Config),
        work.block("audit", auditing.Config), work.block("runtime", runtime.Config), work.seed,
        out=ws.attacks(family) / "images", reporter=work.reporter,
    )  # fmt: skip


def judge(work: Work, family: str) -> Figures:
    """PASS, FAIL, UNDECIDED or INVALID, by the policy."""
    from ops import judgement

    ws = work.ws
    return judgement.judge(
        family, ws.attacks(family), ws.utility(family), ws.controls, work.block("policy", judgement.Config),
        out=ws.verdict(family),
    )  # fmt: skip


def report(work: Work, family: str) -> Figures:
    """One page that reads in a minute."""
    from ops import reporting

    ws = work.ws
    return reporting.report(
        family, ws.filtered(family), ws.attacks(family), ws.pictures(family), ws.utility(family), ws.verdict(family),
        ws.controls, ws.real, ws.timing, out=ws.report(family), reporter=work.reporter,
    )  # fmt: skip


def compare(work: Work) -> Figures:
    """Active families side by side."""
    from ops import reporting

    return reporting.compare(
        work.ws.reports, list(work.raw_block("families")), work.ws.timing,
        out=work.ws.leaderboard, reporter=work.reporter,
    )  # fmt: skip


def release(work: Work, family: str) -> Figures:
    """A signed bundle where it is earned; the decision with its reasons always."""
    from ops import generators
    from ops import release as gate

    ws, planted = work.ws, bool(getattr(generators.load(family), "PLANTED", False))
    return gate.release(
        family, ws.filtered(family), ws.verdict(family), ws.utility(family), ws.report(family),
        work.block("release", gate.Config), planted=planted, secret=str(work.raw_block("prepare")["split_key"]),
        keys=ws.state / "keys", about=work.about, out=ws.release(family), reporter=work.reporter,
    )  # fmt: skip


IN_ORDER: tuple[Callable[..., Figures], ...] = (
    ingest, prepare, baseline, controls, train, sample, filter, validate, attack_images, judge, report, release,
    compare,
)  # fmt: skip
STAGES: dict[str, Callable[..., Figures]] = {step.__name__.replace("_", "-"): step for step in IN_ORDER}


def is_per_family(stage: str) -> bool:
    """Whether the stage runs once a family."""
    return "family" in inspect.signature(STAGES[stage]).parameters


def admit(stage: str, family: str | None) -> None:
    """Raise CallError for an unknown stage, or a family that is missing or superfluous."""
    if stage not in STAGES:
        raise CallError(
            explain(expected=f"a stage among {', '.join(STAGES)}", found=f"'{stage}'", todo="name one of them")
        )
    if is_per_family(stage) != (family is not None):
        wanted = f"--family with stage '{stage}'" if is_per_family(stage) else f"no --family with stage '{stage}'"
        raise CallError(explain(expected=wanted, found=repr(family), todo="correct the call"))


def run(stage: str, work: Work, family: str | None = None) -> Figures:
    """Run one stage. Raises CallError for a wrong call."""
    admit(stage, family)
    step = STAGES[stage]
    return step(work, family) if family is not None else step(work)
