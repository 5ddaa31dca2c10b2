"""The judge: every branch of the rule, its order, and what no data can make it say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops import judgement
from ops.core.errors import CallError, UnderstudyError
from ops.statistics import roc
from ops.statistics.decision import Attack
from ops.statistics.limits import top_size
from ops.statistics.membership import tag

FPRS = (0.001, 0.0025, 0.005, 0.01, 0.05)
POLICY: dict[str, Any] = {
    "attempts": 1, "fpr": 0.01, "max_ratio": 3.0, "max_auc": 0.55, "pass_confidence": 0.95, "fail_confidence": 0.99,
    "precondition_alpha": 0.01, "min_subjects": 500, "needed_probability": 0.9, "miss_probability": 0.05,
    "min_tstr_over_trtr": 0.9,
}  # fmt: skip


def policy(**changes: Any) -> judgement.Config:
    return judgement.Config.model_validate({**POLICY, **changes})


def membership(n: int = 3276, leaked: int = 0, auc: float = 0.5, **changes: Any) -> dict[str, Any]:
    """Figures of an attack that ranks ``leaked`` members above everybody, and half and half below."""
    figures: dict[str, Any] = {
        "kind": "membership", "evaluated": True, "n_subjects_per_side": n, "fprs": ",".join(f"{f:g}" for f in FPRS),
        "auc": max(auc, 0.5 + leaked / n / 2), "auc_standard_error": (6 * n) ** -0.5, "p_permutation": 0.5,
    }  # fmt: skip
    for fpr in FPRS:
        k = top_size(n, fpr)
        sure = min(leaked, k)
        figures |= {f"top_at_fpr_{tag(fpr)}": k, f"members_in_top_at_fpr_{tag(fpr)}": sure + (k - sure) // 2}
        figures |= {f"members_in_bottom_at_fpr_{tag(fpr)}": k // 2}
    return figures | changes


def census(**changes: int) -> dict[str, Any]:
    keys = [f"copies_{stage}_of_{role}" for stage in ("drawn", "released") for role in ("train", "audit")]
    return {"kind": "census"} | dict.fromkeys(keys, 0) | changes


def controls(**changes: Any) -> dict[str, Any]:
    names = ["blind", "fresh_nn", "members_nn", "copier_nn", "fresh_cc", "audit_cc", "copier_cc"]
    found: dict[str, Any] = {"controls": ",".join(names), "frozen_sha256": "abc"}
    for name in names:
        null = name in ("blind", "fresh_nn", "members_nn")
        found |= {f"control_{name}_ok": True, f"control_{name}_kind": "null" if null else "plant"}
        found |= {f"control_{name}_found": "as expected"} | ({f"control_{name}_p": 0.4} if null else {})
    return found | changes


def weigh(
    nn: dict[str, Any] | None = None, cc: dict[str, Any] | None = None, held: dict[str, Any] | None = None,
    rules: judgement.Config | None = None, **summary: Any,
) -> dict[str, Any]:  # fmt: skip
    nn = nn or membership()
    size = nn.get("n_subjects_per_side", 0)
    threat = {
        "n_member_subjects": size,
        "n_nonmember_subjects": size,
        "subjects_in_two_roles": 0,
        "images_in_two_roles": 0,
    }
    threat |= {"frozen_sha256": "abc"} | summary
    attacks = [Attack("images_nn", nn), Attack("images_cc", cc or census())]
    return judgement.weigh(attacks, {"images": threat}, held or controls(), rules or policy())


def test_a_clean_generator_passes_and_says_what_would_not_be_seen() -> None:
    found = weigh()
    assert found["verdict"] == "PASS"
    assert found["because"].endswith("bounded under its limits.")
    assert 0.005 < found["largest_missable_leak_fraction"] < 0.01
    assert found["pass_probability_if_clean"] > 0.97
    assert found["subjects_needed"] is None


@pytest.mark.parametrize("stage", ["drawn", "released"])
def test_one_copy_fails_the_generator_before_or_after_the_filter(stage: str) -> None:
    found = weigh(cc=census(**{f"copies_{stage}_of_train": 1}))
    assert found["verdict"] == "FAIL"
    assert "copies of training images" in found["because"]


def test_a_copy_of_an_audit_image_makes_the_audit_invalid_even_beside_copies_of_training_images() -> None:
    found = weigh(cc=census(copies_drawn_of_train=500, copies_drawn_of_audit=1))
    assert found["verdict"] == "INVALID"


def test_a_leak_of_two_in_a_hundred_fails_by_its_lower_bound() -> None:
    found = weigh(membership(1000, leaked=20))
    assert found["verdict"] == "FAIL"
    assert found["images_nn_p_over_limit_holm"] <= 0.01


def test_a_leak_of_sixty_among_ten_thousand_fails_although_the_one_percent_cut_off_would_pass() -> None:
    found = weigh(membership(10_000, leaked=60))
    assert found["images_nn_ratio_upper"] < 3
    assert found["verdict"] == "FAIL"


def test_repulsion_by_a_filter_fails_like_attraction() -> None:
    nn = membership()
    empty = {key: 0 for key in nn if key.startswith("members_in_top_at")}
    assert weigh(nn | empty)["verdict"] == "FAIL"


@pytest.mark.parametrize("auc", [0.65, 0.35])
def test_an_auc_above_its_limit_fails_on_either_side(auc: float) -> None:
    assert weigh(membership() | {"auc": auc})["verdict"] == "FAIL"


def test_an_auc_that_could_be_above_its_limit_is_undecided_with_the_subjects_that_would_decide() -> None:
    found = weigh(membership(auc=0.545))
    assert found["verdict"] == "UNDECIDED"
    assert found["more_subjects_needed"] == found["subjects_needed"] - 3276 > 0


def test_a_significant_leak_that_is_bounded_passes_with_the_leak_stated() -> None:
    found = weigh(membership(5000, auc=0.52, p_permutation=0.0005))
    assert found["verdict"] == "PASS"
    assert "a leak is there" in found["because"]
    assert found["images_nn_leak_significant"]


def test_under_five_hundred_subjects_is_undecided_and_says_how_many_more() -> None:
    found = weigh(membership(499))
    assert found["verdict"] == "UNDECIDED"
    assert found["more_subjects_needed"] > 1
    assert found["largest_missable_leak_basis"] == "fail"


def test_attempts_tighten_pass_and_never_loosen_fail() -> None:
    nn = membership(3276)
    key = f"members_in_top_at_fpr_{tag(0.01)}"
    assert weigh(nn | {key: 41})["verdict"] == "PASS"
    assert weigh(nn | {key: 41}, rules=policy(attempts=4))["verdict"] == "UNDECIDED"
    leaky = membership(1000, leaked=20)
    proofs = [weigh(leaky, rules=policy(attempts=m))["images_nn_p_over_limit"] for m in (1, 4)]
    assert proofs[0] == proofs[1]


def test_a_flagged_null_control_is_invalid_after_holm_and_not_before() -> None:
    assert weigh(held=controls(control_blind_p=0.002))["verdict"] == "INVALID"
    assert weigh(held=controls(control_blind_p=0.005))["verdict"] == "PASS"  # 0.005 × 3 > 0.01


def test_a_copier_that_is_not_caught_is_invalid() -> None:
    found = weigh(cc=census(copies_drawn_of_train=3), held=controls(control_copier_nn_ok=False))
    assert found["verdict"] == "INVALID"
    assert "copier_nn" in found["because"]


def test_controls_of_other_settings_are_invalid() -> None:
    assert weigh(held=controls(frozen_sha256="other"))["verdict"] == "INVALID"


@pytest.mark.parametrize("what", ["subjects_in_two_roles", "images_in_two_roles"])
def test_a_straddling_subject_or_image_is_invalid(what: str) -> None:
    assert weigh(**{what: 1})["verdict"] == "INVALID"


def test_a_control_with_too_few_subjects_ends_undecided() -> None:
    found = weigh(held=controls(control_fresh_cc_ok=None))
    assert found["verdict"] == "UNDECIDED"
    assert "fresh_cc" in found["because"]


def test_an_attack_that_could_not_run_ends_undecided() -> None:
    nn = {"kind": "membership", "evaluated": False, "why": "nothing is released: no image survived the filter"}
    found = weigh(nn, n_member_subjects=3000, n_nonmember_subjects=3000)
    assert found["verdict"] == "UNDECIDED"
    assert "survived" in found["because"]
    assert found["largest_missable_leak_fraction"] == 1.0


@given(missing=st.sampled_from(["blind", "fresh_nn", "members_nn", "copier_nn", "fresh_cc", "audit_cc", "copier_cc"]))
@settings(deadline=None, max_examples=10)
def test_pass_is_unreachable_when_any_precondition_is_missing(missing: str) -> None:
    held = {key: value for key, value in controls().items() if not key.startswith(f"control_{missing}_")}
    assert weigh(held=held)["verdict"] == "INVALID"


@given(n=st.integers(2, 499), auc=st.floats(0.45, 0.55), leaked=st.integers(0, 10))
@settings(deadline=None, max_examples=20)
def test_pass_is_unreachable_under_five_hundred_subjects(n: int, auc: float, leaked: int) -> None:
    assert weigh(membership(n, min(leaked, n), auc))["verdict"] != "PASS"


@pytest.mark.parametrize("n", [1000, 3276, 6000])
def test_the_verdict_never_gets_better_as_the_leak_grows(n: int) -> None:
    order = {"PASS": 0, "UNDECIDED": 1, "FAIL": 2}
    seen = [order[weigh(membership(n, leaked))["verdict"]] for leaked in range(0, n // 20, n // 100)]
    assert seen == sorted(seen)
    assert seen[-1] == 2


def test_an_fpr_that_the_audit_did_not_measure_is_refused_by_name() -> None:
    with pytest.raises(CallError, match=r"audit\.fprs"):
        weigh(rules=policy(fpr=0.02))


def test_pass_needs_both_a_membership_attack_and_a_census() -> None:
    only = [Attack("images_nn", membership())]
    summary = {"n_member_subjects": 3276, "n_nonmember_subjects": 3276, "frozen_sha256": "abc"}
    summary |= {"subjects_in_two_roles": 0, "images_in_two_roles": 0}
    assert judgement.weigh(only, {"images": summary}, controls(), policy())["verdict"] == "UNDECIDED"


def test_no_wording_promises_more_than_evidence() -> None:
    forbidden = re.compile(r"anonym|guarante|gdpr|complian|100 ?% private", re.IGNORECASE)
    cases = [weigh(), weigh(membership(499)), weigh(cc=census(copies_drawn_of_train=1)), weigh(membership(1000, 20))]
    for found in cases:
        assert not forbidden.search(json.dumps(found))
        assert "evidence, not proof" in found["wording"]
        assert "would not be seen" in found["wording"]


def test_several_attacks_are_corrected_by_holm() -> None:
    leaky = membership(1000, leaked=20)
    summary = {"n_member_subjects": 1000, "n_nonmember_subjects": 1000, "frozen_sha256": "abc"}
    summary |= {"subjects_in_two_roles": 0, "images_in_two_roles": 0}
    many = [
        Attack("images_nn", leaky),
        *(Attack(f"images_x{i}", membership(1000)) for i in range(4)),
        Attack("images_cc", census()),
    ]
    found = judgement.weigh(many, {"images": summary}, controls(), policy())
    assert found["images_nn_p_over_limit_holm"] == pytest.approx(5 * found["images_nn_p_over_limit"])


def write(folder: Path, utility: dict[str, Any]) -> dict[str, Path]:
    attacks = folder / "attacks/images"
    attacks.mkdir(parents=True)
    summary = {"attacks": "cc,nn", "frozen_sha256": "abc", "subjects_in_two_roles": 0, "images_in_two_roles": 0}
    summary |= {"n_member_subjects": 3276, "n_nonmember_subjects": 3276}
    parts = {"summary": summary, "nn": membership(), "cc": census()}
    for name, value in parts.items():
        (attacks / f"{name}.json").write_text(json.dumps(value))
    (folder / "utility.json").write_text(json.dumps(utility))
    (folder / "controls.json").write_text(json.dumps(controls()))
    return {"attacks": folder / "attacks", "utility": folder / "utility.json", "controls": folder / "controls.json"}


def test_judge_writes_what_it_returns_twice_the_same_bytes(tmp_path: Path) -> None:
    paths = write(tmp_path, {"accuracy_tstr": 0.88, "accuracy_trtr": 0.92})
    found = judgement.judge("sngan", **paths, config=policy(), out=tmp_path / "verdict.json")
    first = (tmp_path / "verdict.json").read_bytes()
    judgement.judge("sngan", **paths, config=policy(), out=tmp_path / "verdict.json")
    assert json.loads(first) == found
    assert (tmp_path / "verdict.json").read_bytes() == first
    assert found["verdict"] == "PASS"
    assert found["release_utility_ok"]


@pytest.mark.parametrize("utility", [{"accuracy_tstr": 0.5, "accuracy_trtr": 0.92}, {}])
def test_utility_stands_beside_the_verdict_and_does_not_change_it(tmp_path: Path, utility: dict[str, Any]) -> None:
    found = judgement.judge("f", **write(tmp_path, utility), config=policy(), out=tmp_path / "verdict.json")
    assert found["verdict"] == "PASS"
    assert not found["release_utility_ok"]


def test_missing_evidence_is_an_error_that_names_it(tmp_path: Path) -> None:
    paths = write(tmp_path, {})
    (tmp_path / "controls.json").unlink()
    with pytest.raises(UnderstudyError, match=r"controls\.json"):
        judgement.judge("f", **paths, config=policy(), out=tmp_path / "verdict.json")


def test_fewer_than_five_hundred_subjects_cannot_be_set_in_the_policy() -> None:
    with pytest.raises(ValueError, match="500"):
        policy(min_subjects=100)


def test_a_clean_generator_is_failed_at_most_once_in_a_hundred_and_passes_97_times() -> None:
    """C1: 2 000 clean audits of 3 276 people a side with 2 to 4 images each, by the whole rule on real scores."""
    random, n, runs = np.random.default_rng(0), 3276, 2000
    decisions = {"PASS": 0, "FAIL": 0, "UNDECIDED": 0}
    top, bottom, areas = clean_audits(random, n, runs)
    error = float(np.sqrt((2 * n + 1) / 12.0) / n)
    for run in range(runs):
        figures = membership(n) | {"auc": float(areas[run]), "auc_standard_error": error}
        for i, fpr in enumerate(FPRS):
            figures[f"members_in_top_at_fpr_{tag(fpr)}"] = int(top[run, i])
            figures[f"members_in_bottom_at_fpr_{tag(fpr)}"] = int(bottom[run, i])
        decisions[judgement.decide([Attack("a", figures)], policy())[0].decision] += 1
    assert decisions["FAIL"] <= 2
    assert decisions["PASS"] >= 0.97 * runs


def clean_audits(random: np.random.Generator, n: int, runs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts at the top and bottom and AUC of audits without a leak; people's scores are the largest of 2 to 4."""
    cut = np.array([top_size(n, fpr) for fpr in FPRS]) - 1
    rows = []
    for _ in range(runs):
        people = np.log(random.random(2 * n)) / random.integers(2, 5, 2 * n)  # largest of 2 to 4 uniforms, as a log
        flags = np.argsort(-people) < n
        area = ((np.arange(2 * n, 0, -1) @ flags) - n * (n + 1) / 2) / n**2
        rows.append((np.cumsum(flags[: cut[-1] + 1])[cut], np.cumsum(flags[::-1][: cut[-1] + 1])[cut], area))
    assert roc.auc(people[:n], people[n:]).value == pytest.approx(rows[-1][2])
    return np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), np.array([r[2] for r in rows])
