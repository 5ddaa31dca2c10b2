"""The audit stages on disk, to the verdict: a copier fails, fresh images do not, a shifted role is found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops import auditing, judgement
from ops.attacks import _blind
from ops.core.errors import CallError
from tests.attacks import worlds
from tests.test_judgement import policy

ATTACKS = {"nearest_neighbour": worlds.NEAREST, "copy_census": worlds.CENSUS}
AUDIT: dict[str, Any] = {
    "fprs": [0.001, 0.0025, 0.005, 0.01, 0.05], "confidence": 0.95, "permutations": 599, "subject_score": "max",
    "equal_size_key": "k", "roc_points": 20, "embed_batch": 64, "alpha": 0.01, "min_control_subjects": 40,
    "control_images": 60, "copier_noise_u8": 1.0, "min_copies_found": 0.9, "blind_features": False, "blind_image_px": 4,
    "blind_folds": 5, "blind_permutations": 599, "blind_ridge": 50.0, "blind_projections": 32,
}  # fmt: skip
CONFIG = auditing.Config.model_validate(AUDIT)


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """150 people in train, 160 in audit, 60 in reference, two images each; an empty folder for the feature net."""
    root = tmp_path_factory.mktemp("prepared")
    found = {
        role: worlds.write_role(root / role, *worlds.people(n, 2, seed))
        for role, n, seed in (("train", 150, 1), ("audit", 160, 2))
    }
    images, subjects = worlds.people(60, 2, 3)
    half = np.where(np.arange(120) < 60, "calibrate", "control")
    features = root / "features"
    features.mkdir()
    return found | {"reference": worlds.write_role(root / "reference", images, subjects, half), "features": features}


@pytest.fixture(scope="module")
def held(roles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reports") / "controls.json"
    auditing.controls(
        **roles, attacks=ATTACKS, copies=worlds.COPIES, config=CONFIG, runtime=worlds.RUNTIME, seed=7, out=out
    )
    return out


def attack(roles: dict[str, Path], synthetic: Path, out: Path, **changes: Any) -> dict[str, Any]:
    given = {"threat": "images", "family": "f", "filtered": synthetic, "attacks": ATTACKS, "copies": worlds.COPIES}
    given |= {"config": CONFIG, "runtime": worlds.RUNTIME, "seed": 7} | changes
    return auditing.attack(synthetic=synthetic, out=out / "attacks/images", **roles, **given)


def verdict(root: Path, controls: Path) -> dict[str, Any]:
    (root / "utility.json").write_text(json.dumps({"accuracy_tstr": 0.9, "accuracy_trtr": 0.9}))
    return judgement.judge("f", root / "attacks", root / "utility.json", controls, policy(), out=root / "verdict.json")


def test_controls_behave_on_sound_data(held: Path) -> None:
    figures = json.loads(held.read_text())
    names = figures["controls"].split(",")
    assert len(names) == 7
    assert {name: figures[f"control_{name}_ok"] for name in names} == dict.fromkeys(names, True)


def test_a_copier_fails_and_its_copies_are_counted(roles: dict[str, Path], held: Path, tmp_path: Path) -> None:
    images, _ = worlds.people(150, 2, 1)
    noisy = np.clip(images + np.random.default_rng(0).normal(0, 1, images.shape).round(), 0, 255).astype(np.uint8)
    synthetic = worlds.write_role(tmp_path / "synthetic", noisy, np.array([f"s{i}" for i in range(300)]))
    figures = attack(roles, synthetic, tmp_path)
    assert figures["copy_census_copies_drawn_of_train"] >= 290
    assert figures["nearest_neighbour_auc"] > 0.99
    assert verdict(tmp_path, held)["verdict"] == "FAIL"


def test_fresh_images_end_undecided_at_this_size_and_leak_nothing(
    roles: dict[str, Path], held: Path, tmp_path: Path
) -> None:
    synthetic = worlds.write_role(tmp_path / "synthetic", *worlds.people(100, 1, 9))
    figures = attack(roles, synthetic, tmp_path)
    found = verdict(tmp_path, held)
    assert figures["nearest_neighbour_n_subjects_per_side"] == 150  # the larger side is cut
    assert (found["verdict"], found["preconditions_ok"]) == ("UNDECIDED", True)
    assert found["more_subjects_needed"] > 350


def test_what_is_written_names_no_private_image_and_is_the_same_twice(roles: dict[str, Path], tmp_path: Path) -> None:
    images, _ = worlds.people(150, 2, 1)
    synthetic = worlds.write_role(tmp_path / "synthetic", images[:50], np.array([f"s{i}" for i in range(50)]))
    contents = []
    for _ in range(2):
        attack(roles, synthetic, tmp_path)
        contents.append({path.name: path.read_bytes() for path in sorted((tmp_path / "attacks/images").iterdir())})
    assert contents[0] == contents[1]
    everything = b"".join(contents[0].values()).decode()
    assert "copy_census_hits.csv" in contents[0]
    for role in ("train", "audit", "reference"):
        assert f"{role}-" not in everything  # image ids
    assert "1-0" not in everything.replace("e-0", "")  # subject ids


def test_every_figure_is_flat_and_a_number_text_or_missing(roles: dict[str, Path], tmp_path: Path) -> None:
    synthetic = worlds.write_role(tmp_path / "synthetic", *worlds.people(30, 1, 9))
    figures = attack(roles, synthetic, tmp_path)
    assert all(value is None or isinstance(value, (bool, int, float, str)) for value in figures.values())


def test_the_hash_is_of_attacks_settings_and_feature_net(roles: dict[str, Path], tmp_path: Path) -> None:
    synthetic = worlds.write_role(tmp_path / "synthetic", *worlds.people(20, 1, 9))
    plain = attack(roles, synthetic, tmp_path)["frozen_sha256"]
    other = attack(roles, synthetic, tmp_path, config=CONFIG.model_copy(update={"subject_score": "mean"}))
    assert other["frozen_sha256"] != plain
    (tmp_path / "net").mkdir()
    (tmp_path / "net/config.json").write_text("{}")
    assert attack(roles | {"features": tmp_path / "net"}, synthetic, tmp_path)["frozen_sha256"] != plain


def test_an_empty_filtered_set_is_a_result_and_the_draw_is_still_searched(
    roles: dict[str, Path], held: Path, tmp_path: Path
) -> None:
    images, _ = worlds.people(150, 2, 1)
    names = np.array([f"s{i}" for i in range(20)])
    synthetic = worlds.write_role(tmp_path / "synthetic", images[:20], names)
    filtered = worlds.write_role(tmp_path / "filtered", images[:0], names[:0])
    figures = attack(roles, synthetic, tmp_path, filtered=filtered)
    assert figures["nearest_neighbour_evaluated"] is False
    assert verdict(tmp_path, held)["verdict"] == "FAIL"


def test_a_subject_in_two_roles_makes_the_audit_invalid(roles: dict[str, Path], held: Path, tmp_path: Path) -> None:
    images, subjects = worlds.people(160, 2, 2)
    subjects[:2] = "1-0"
    audit = worlds.write_role(tmp_path / "audit", images, subjects)
    synthetic = worlds.write_role(tmp_path / "synthetic", *worlds.people(30, 1, 9))
    attack(roles | {"audit": audit}, synthetic, tmp_path)
    found = verdict(tmp_path, held)
    assert found["verdict"] == "INVALID"
    assert "two roles" in found["because"]


def test_c7_a_brightened_audit_role_is_found_by_the_blind_classifier(roles: dict[str, Path], tmp_path: Path) -> None:
    images, subjects = worlds.people(160, 2, 2)
    brighter = worlds.write_role(
        tmp_path / "audit", np.clip(images.astype(int) + 25, 0, 255).astype(np.uint8), subjects
    )
    out = tmp_path / "controls.json"
    given = {"attacks": ATTACKS, "copies": worlds.COPIES, "config": CONFIG, "runtime": worlds.RUNTIME, "seed": 7}
    figures = auditing.controls(**(roles | {"audit": brighter}), **given, out=out)
    assert figures["control_blind_ok"] is False
    assert figures["control_blind_p"] <= 0.01


def test_the_blind_classifier_is_uniform_on_sound_data_and_sees_spread_as_well_as_shift() -> None:
    random = np.random.default_rng(0)
    settings = {"folds": 5, "permutations": 99, "ridge": 20.0, "projections": 64}
    p = [
        _blind.blind_test(random.normal(size=(60, 8)), random.normal(size=(60, 8)), **settings, seed=s).p
        for s in range(60)
    ]
    assert 0.35 < np.mean(p) < 0.65
    assert sum(value <= 0.05 for value in p) <= 8
    wide = _blind.blind_test(1.6 * random.normal(size=(300, 8)), random.normal(size=(300, 8)), **settings, seed=1)
    assert wide.p <= 0.01


def test_too_few_subjects_leave_controls_idle_and_the_verdict_undecided(roles: dict[str, Path], tmp_path: Path) -> None:
    images, subjects = worlds.people(10, 2, 2)
    thin = roles | {"audit": worlds.write_role(tmp_path / "audit", images, subjects)}
    given = {"attacks": ATTACKS, "copies": worlds.COPIES, "config": CONFIG, "runtime": worlds.RUNTIME, "seed": 7}
    figures = auditing.controls(**thin, **given, out=tmp_path / "controls.json")
    assert figures["control_blind_ok"] is None
    attack(thin, worlds.write_role(tmp_path / "synthetic", *worlds.people(30, 1, 9)), tmp_path)
    assert verdict(tmp_path, tmp_path / "controls.json")["verdict"] == "UNDECIDED"


def test_too_few_permutations_to_flag_a_control_are_refused(roles: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CallError, match="500 permutations or more"):
        attack(roles, roles["train"], tmp_path, config=CONFIG.model_copy(update={"blind_permutations": 199}))


def test_an_unknown_attack_setting_is_an_error_that_names_it(roles: dict[str, Path], tmp_path: Path) -> None:
    wrong = {"nearest_neighbour": {**worlds.NEAREST, "spases": []}}
    with pytest.raises(CallError, match=r"attacks\.nearest_neighbour\.spases"):
        attack(roles, roles["train"], tmp_path, attacks=wrong)
    with pytest.raises(CallError, match="threat"):
        attack(roles, roles["train"], tmp_path, threat="generator")
