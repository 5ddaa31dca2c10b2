"""Stage ``judge``: four possible verdicts, from stored counts, by the policy. No private data and no random number.

- INVALID: a precondition or a planted control failed, so that nothing that follows means anything. It comes first: when
  the census also "finds" images of the audit role, which nobody trained on, its hits in the train role prove nothing.
- FAIL: the census found a copy of a training image, before or after the filter; or an attack is proven to be above a
  limit (``fail_confidence``, Holm over attacks).
- PASS: for every attack every upper bound is below its limit (``pass_confidence``, tightened to 1 − 0.05/m by m
  attempts). Every attack must pass, so no further correction. A leak that is significant yet bounded passes, stated.
- UNDECIDED: neither; with the number of subjects that would decide it. Under ``min_subjects`` PASS is out of reach.

The limits (audit.md §3.3): the attacker's ratio TPR/FPR at ``fpr`` in the pooled top k = 2·fpr·n, both tails of the
count (attraction, and repulsion by a filter); the two-sided AUC; no copy. The ratio's limit is also held at every
stricter cut-off when FAIL is asked, since a leak that touches few people shows nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from ops.core import files
from ops.core.config import StrictModel
from ops.core.errors import UnderstudyError, explain
from ops.statistics import power
from ops.statistics.decision import ERROR_SHARES, Attack, decide
from ops.statistics.multiple import holm

VERDICTS = ("PASS", "FAIL", "UNDECIDED", "INVALID")


class Config(StrictModel):
    """The block ``policy``: what a release must hold."""

    attempts: int = Field(ge=1, description="releases of the same family on the same audit role, this one included")
    fpr: float = Field(gt=0, lt=0.5, description="false positive rate at which the ratio is limited; one of audit.fprs")
    max_ratio: float = Field(gt=1, description="limit of an attacker's TPR/FPR at that rate")
    max_auc: float = Field(gt=0.5, lt=1, description="limit of the two-sided AUC")
    pass_confidence: float = Field(
        ge=0.9, lt=1, description="of the upper bounds; m attempts leave a m-th of the error"
    )
    fail_confidence: float = Field(ge=0.9, lt=1, description="of the lower bounds, Holm over attacks")
    precondition_alpha: float = Field(gt=0, lt=0.5, description="level of the preconditions, Holm over them")
    min_subjects: int = Field(ge=500, description="subjects a side under which PASS is out of reach; never under 500")
    needed_probability: float = Field(gt=0.5, lt=1, description="chance to PASS for which missing subjects are counted")
    miss_probability: float = Field(gt=0, lt=0.5, description="chance of a PASS from which a leak counts as missable")
    min_tstr_over_trtr: float = Field(ge=0, le=1.5, description="utility a release needs: TSTR accuracy over TRTR")

    @property
    def confidence(self) -> float:
        """Confidence of the upper bounds after ``attempts``."""
        return 1.0 - (1.0 - self.pass_confidence) / self.attempts


def judge(family: str, attacks: Path, utility: Path, controls: Path, config: Config, *, out: Path) -> dict[str, Any]:
    """Judge one family from the folders ``attacks/<threat>/``, and write and return the flat verdict.

    ``because`` is one sentence; ``wording`` is the text that may be quoted; ``<threat>_<attack>_…`` are bounds, limits
    and decisions. Raises UnderstudyError where an input is missing, CallError where ``fpr`` is none of the audit's.
    """
    threats = {folder.name: _read(folder / "summary.json") for folder in sorted(attacks.iterdir()) if folder.is_dir()}
    if not threats:
        todo = "run the attack stage"
        raise UnderstudyError(explain(expected=f"a threat model's folder in {attacks}", found="none", todo=todo))
    found = [
        Attack(f"{threat}_{name}", _read(attacks / threat / f"{name}.json"))
        for threat, summary in threats.items()
        for name in str(summary["attacks"]).split(",")
    ]
    verdict = weigh(found, threats, _read(controls), config)
    verdict = {"family": family} | verdict | _utility(_read(utility), config)
    files.write_json(out, verdict)
    return verdict


def weigh(
    attacks: list[Attack], threats: Mapping[str, Mapping[str, Any]], controls: Mapping[str, Any], config: Config
) -> dict[str, Any]:
    """The verdict without its utility, from figures in memory: flat and JSON-ready."""
    broken = failed_preconditions(attacks, threats, controls, config)
    judged = decide(attacks, config)
    subjects = min(min(int(t["n_member_subjects"]), int(t["n_nonmember_subjects"])) for t in threats.values())
    idle = idle_controls(controls)
    state, because = conclude(judged, broken, idle, subjects, config)
    figures: dict[str, Any] = {
        "verdict": state, "because": because, "attempts": config.attempts, "n_subjects_per_side": subjects,
        "min_subjects": config.min_subjects, "pass_confidence": config.confidence,
        "fail_confidence": config.fail_confidence, "max_ratio": config.max_ratio, "max_auc": config.max_auc,
        "fpr": config.fpr, "preconditions_ok": not broken, "preconditions_failed": "; ".join(broken) or None,
        "controls_not_run": ", ".join(idle) or None, "threats": ",".join(threats),
        "attacks": ",".join(attack.name for attack in judged),
    }  # fmt: skip
    for attack in judged:
        kept = {"decision": attack.decision, "because": attack.because or None} | attack.bounds
        figures |= {f"{attack.name}_{key}": value for key, value in kept.items()}
    figures |= sight(judged, subjects, state, config)
    return figures | {"wording": wording(figures, judged)}


def failed_preconditions(
    attacks: list[Attack], threats: Mapping[str, Mapping[str, Any]], controls: Mapping[str, Any], config: Config
) -> list[str]:
    """Every reason why nothing can be concluded, in words; empty when all preconditions hold."""
    broken = []
    for threat, summary in threats.items():
        for what in ("subjects", "images"):
            if summary[f"{what}_in_two_roles"]:
                broken.append(f"{summary[f'{what}_in_two_roles']} {what} stand in two roles")
        if summary["frozen_sha256"] != controls.get("frozen_sha256"):
            broken.append(f"the controls were run with other attacks, settings or feature net than threat '{threat}'")
    broken += [f"{a.name} found copies of audit images, which nobody trained on" for a in attacks if _audit_hits(a)]
    return broken + _failed_controls(attacks, controls, config)


def _audit_hits(attack: Attack) -> int:
    return sum(int(attack.figures.get(f"copies_{stage}_of_audit") or 0) for stage in ("drawn", "released"))


def _failed_controls(attacks: list[Attack], controls: Mapping[str, Any], config: Config) -> list[str]:
    """Controls that are missing, or ran and went wrong. p-values are judged here, Holm over those that must be null."""
    names = wanted_controls(attacks)
    broken = [f"control '{name}' is missing" for name in names if f"control_{name}_ok" not in controls]
    present = [name for name in names if f"control_{name}_ok" in controls]
    null = {name: controls.get(f"control_{name}_p") for name in present if controls[f"control_{name}_kind"] == "null"}
    corrected = holm({name: float(p) for name, p in null.items() if p is not None})
    broken += [
        f"control '{name}' was flagged (p = {p:.2g} after Holm)"
        for name, p in corrected.items()
        if p <= config.precondition_alpha
    ]
    failed = [name for name in present if name not in null and controls[f"control_{name}_ok"] is False]
    return broken + [f"control '{name}' failed ({controls[f'control_{name}_found']})" for name in failed]


def wanted_controls(attacks: list[Attack]) -> list[str]:
    """Names of the controls that these attacks rest on."""
    kinds = {"membership": ("fresh", "members", "copier"), "census": ("fresh", "audit", "copier")}
    bare = {attack.name.split("_", 1)[1]: attack.kind for attack in attacks}
    return ["blind", *(f"{control}_{name}" for name, kind in bare.items() for control in kinds[kind])]


def idle_controls(controls: Mapping[str, Any]) -> list[str]:
    """Controls that had too few subjects to run."""
    return [
        name for name in str(controls.get("controls", "")).split(",") if controls.get(f"control_{name}_ok", 0) is None
    ]


def conclude(
    attacks: list[Attack], broken: list[str], idle: list[str], subjects: int, config: Config
) -> tuple[str, str]:
    """The state and its reason in one sentence, by the order INVALID, FAIL, UNDECIDED, PASS."""
    failed = [attack for attack in attacks if attack.decision == "FAIL"]
    undecided = [attack for attack in attacks if attack.decision == "UNDECIDED"]
    if broken:
        return "INVALID", f"Nothing can be concluded: {'; '.join(broken)}."
    if failed:
        return "FAIL", f"{'; '.join(f'{a.name}: {a.because}' for a in failed)}."
    if subjects < config.min_subjects:
        return "UNDECIDED", f"{subjects} subjects a side are too few: a PASS needs {config.min_subjects} or more."
    if undecided:
        return "UNDECIDED", f"Neither proven nor bounded: {'; '.join(f'{a.name}: {a.because}' for a in undecided)}."
    if idle:
        return "UNDECIDED", f"Controls had too little data to run: {', '.join(idle)}."
    if not {"membership", "census"} <= {attack.kind for attack in attacks}:
        return "UNDECIDED", "A PASS needs a membership attack and a copy census; one of them is not set."
    stated = [attack.name for attack in attacks if attack.bounds.get("leak_significant")]
    leak = f"; a leak is there (significant for {', '.join(stated)}) but bounded" if stated else ""
    return "PASS", f"No copy was found and every attack is bounded under its limits{leak}."


def sight(attacks: list[Attack], subjects: int, state: str, config: Config) -> dict[str, Any]:
    """What this audit could not have seen, and how many subjects would decide it.

    ``largest_missable_leak_fraction``: the largest share of members which, outranking everybody else, would still have
    got a PASS with probability ``miss_probability`` or more (basis *pass*); where PASS is out of reach, the largest
    that would not be proven (basis *fail*; 1: none would be). ``more_subjects_needed`` is None where no number
    would help or none is needed.
    """
    membership = [attack for attack in attacks if attack.evaluated]
    if not membership:
        unseen = {"largest_missable_leak_fraction": 1.0, "largest_missable_leak_basis": "fail"}
        return unseen | {"subjects_needed": None, "more_subjects_needed": None, "pass_probability_if_clean": 0.0}
    rules = {attack.name: _rule(attack, len(membership), config) for attack in membership}
    sizes = {attack.name: int(attack.figures["n_subjects_per_side"]) for attack in membership}
    missable = [power.largest_missable_leak(sizes[name], rule, config.miss_probability) for name, rule in rules.items()]
    reachable = subjects >= config.min_subjects and None not in missable
    unproven = [power.largest_unproven_leak(sizes[name], rule, config.miss_probability) for name, rule in rules.items()]
    needed = [_needed(attack, rules[attack.name], config) for attack in membership] if state == "UNDECIDED" else []
    most = None if None in needed or not needed else max(n for n in needed if n is not None)
    return {
        "largest_missable_leak_fraction": min(m for m in missable if m is not None) if reachable else min(unproven),
        "largest_missable_leak_basis": "pass" if reachable else "fail",
        "subjects_needed": most,
        "more_subjects_needed": max(1, most - subjects) if most is not None else None,
        "pass_probability_if_clean": min(power.pass_probability(sizes[name], rule) for name, rule in rules.items()),
    }


def _rule(attack: Attack, tests: int, config: Config) -> power.Rule:
    named = [float(key) for key in str(attack.figures["fprs"]).split(",")]
    strict = tuple(sorted(fpr for fpr in named if fpr <= config.fpr))
    alpha = (1.0 - config.fail_confidence) * ERROR_SHARES["top"] / tests
    return power.Rule(config.fpr, strict, config.max_ratio, config.max_auc, config.confidence, alpha)


def _needed(attack: Attack, rule: power.Rule, config: Config) -> int | None:
    """Subjects with which this attack would pass if what was seen keeps its size; where that is above a limit but no
    more than chance brings in so small a top, those with which a clean generator would. None: no number helps."""
    share, least = attack.bounds["members_in_top"] / attack.bounds["top"], config.min_subjects
    seen = power.subjects_needed(rule, config.needed_probability, share, float(attack.bounds["auc"]), least)
    if seen is not None or attack.bounds["leak_significant"]:
        return seen
    return power.subjects_needed(rule, config.needed_probability, least=least)


def wording(figures: Mapping[str, Any], attacks: list[Attack]) -> str:
    """The text that may be quoted: what was tried, on how many, what is bounded, what would not be seen."""
    names = ", ".join(attack.name for attack in attacks)
    parts = [f"Against the attacks {names} with {figures['n_subjects_per_side']} subjects a side"]
    bounded = [attack for attack in attacks if "auc_upper" in attack.bounds]
    if bounded:
        share = max(
            upper if upper is not None else float("inf") for a in bounded for upper in [a.bounds["ratio_upper"]]
        )
        area = max(a.bounds["auc_upper"] for a in bounded)
        parts += [
            f", the upper {100 * figures['pass_confidence']:.4g} % bound on TPR/FPR at {100 * figures['fpr']:g} % FPR "
            "is "
            + (f"{share:.2f}" if share < float("inf") else "without limit")
            + f" and on the two-sided AUC {area:.3f}"
        ]
    copies = [attack.bounds["copies_drawn"] for attack in attacks if "copies_drawn" in attack.bounds]
    parts += [f"; {sum(copies)} copies of training images were found" if copies else "; no copy census was run"]
    missed = 100 * figures["largest_missable_leak_fraction"]
    parts += [f"; leaks touching fewer than {missed:.2g} % of the subjects would not be seen reliably."]
    return "".join(parts) + " This is evidence, not proof, and no statement of differential privacy."


def _utility(figures: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Whether the filtered set is useful enough; None where its accuracy was not measured."""
    tstr, trtr = (figures.get(name) for name in ("accuracy_tstr", "accuracy_trtr"))
    share = float(tstr) / float(trtr) if tstr is not None and trtr else None
    ok = share >= config.min_tstr_over_trtr if share is not None else False
    return {"tstr_over_trtr": share, "min_tstr_over_trtr": config.min_tstr_over_trtr, "release_utility_ok": ok}


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UnderstudyError(
            explain(expected=f"{path.name} in {path.parent}", found="no such file", todo="run its stage")
        )
    return files.read_json(path)
