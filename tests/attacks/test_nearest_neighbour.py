"""The nearest-neighbour attack: right distances, and planted leaks it must see and must not see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from ops.attacks import nearest_neighbour as attack
from ops.core.errors import CallError
from ops.core.progress import SilentReporter
from ops.statistics.decision import Attack, decide
from ops.statistics.membership import measure
from tests.attacks.worlds import NEAREST, Mixture
from tests.test_judgement import FPRS, policy

CONFIG = attack.Config.model_validate(NEAREST)
N, RELEASED = 1000, 3000


def decision(world: Mixture, members: np.ndarray, nonmembers: np.ndarray, released: np.ndarray) -> Attack:
    view = world.view(members, nonmembers, released)
    scores = attack.score(view, CONFIG)
    evidence = measure(
        scores[: len(members)], scores[len(members) :], fprs=FPRS, confidence=0.95, points=20, permutations=499, seed=1
    )
    figures = {"kind": "membership", "evaluated": True} | evidence.figures
    return decide([Attack("nn", figures)], policy())[0]


def world(seed: int) -> tuple[Mixture, np.ndarray, np.ndarray]:
    mixture = Mixture(seed)
    return mixture, mixture.draw(N), mixture.draw(N)


@pytest.mark.parametrize("block_rows", [7, 1000])
def test_distances_equal_the_reference_whatever_the_block(block_rows: int) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(5, 1, (50, 12)).astype(np.float32), random.normal(5, 1, (40, 12)).astype(np.float32)
    y[3] = x[7]
    found = attack.nearest_distance(x, y, block_rows, torch.device("cpu"), SilentReporter())
    assert found == pytest.approx(cdist(x, y).min(axis=1), abs=1e-6)
    assert found[7] == 0.0


def test_pixels_lie_between_minus_and_plus_one_and_shrink_by_area() -> None:
    images = np.zeros((1, 4, 4, 1), np.uint8)
    images[0, :2, :2] = 255
    assert attack.pixel_vectors(images, 2).tolist() == [[1.0, -1.0, -1.0, -1.0]]
    assert attack.pixel_vectors(images, None).shape == (1, 16)
    assert attack.pixel_vectors(images, 64).shape == (1, 16)


def test_c1_a_fresh_generator_is_not_failed() -> None:
    decisions = []
    for seed in range(20):
        mixture, members, nonmembers = world(seed)
        decisions.append(decision(mixture, members, nonmembers, mixture.draw(RELEASED)).decision)
    assert "FAIL" not in decisions


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.9], ids=["C2 copies", "C3 noisy copies", "C4 kernel estimate"])
def test_a_copier_is_failed(noise: float) -> None:
    for seed in range(3):
        mixture, members, nonmembers = world(seed)
        released = members[mixture.random.integers(N, size=RELEASED)] + noise * mixture.random.normal(
            size=(RELEASED, 32)
        )
        assert decision(mixture, members, nonmembers, released).decision == "FAIL", seed


@pytest.mark.parametrize("share", [0.02, 0.05])
def test_c5_a_leak_of_few_people_in_half_a_percent_of_the_release_is_failed(share: float) -> None:
    for seed in range(10):
        mixture, members, nonmembers = world(seed)
        released = mixture.draw(RELEASED)
        leaked = int(share * N)
        released[:leaked] = members[:leaked]
        found = decision(mixture, members, nonmembers, released)
        assert found.decision == "FAIL", (seed, found.because)


@pytest.mark.parametrize(("rejected", "failed"), [(0.05, 0), (0.25, 3)])
def test_c9_a_filter_against_the_training_set_leaks_and_never_passes(rejected: float, failed: int) -> None:
    """What a one-sided test calls safe: the generator never saw the data, the filter did."""
    decisions = []
    for seed in range(5):
        mixture, members, nonmembers = world(seed)
        candidates = mixture.draw(int(RELEASED / (1 - rejected)))
        distance = attack.nearest_distance(
            candidates.astype(np.float32), members.astype(np.float32), 2048, torch.device("cpu"), SilentReporter()
        )
        found = decision(mixture, members, nonmembers, candidates[distance >= np.quantile(distance, rejected)])
        assert found.bounds["auc"] < 0.5
        assert found.bounds["p_permutation"] <= 0.05
        decisions.append(found.decision)
    assert "PASS" not in decisions
    assert decisions.count("FAIL") >= failed


def test_c12_members_against_members_show_nothing() -> None:
    p = []
    for seed in range(20):
        mixture, members, _ = world(seed)
        released = mixture.draw(RELEASED)
        p.append(decision(mixture, members[: N // 2], members[N // 2 :], released).bounds["p_permutation"])
    assert sum(value <= 0.05 for value in p) <= 4
    assert max(p) > 0.5


def test_the_score_does_not_know_the_sides() -> None:
    """Exchanging the sides exchanges the scores and changes none: what makes permutation exact."""
    mixture, members, nonmembers = world(0)
    view = mixture.view(members[:50], nonmembers[:60], mixture.draw(100))
    swapped = replace(view, members=view.nonmembers, nonmembers=view.members)
    scores, turned = attack.score(view, CONFIG), attack.score(swapped, CONFIG)
    assert np.array_equal(np.r_[scores[50:], scores[:50]], turned)


def test_nothing_released_is_an_error_and_so_is_calibration_without_reference() -> None:
    mixture, members, nonmembers = world(0)
    view = mixture.view(members[:5], nonmembers[:5], mixture.draw(10))
    nobody = view.members.take(np.arange(0))
    with pytest.raises(CallError, match="released"):
        attack.score(replace(view, released=nobody), CONFIG)
    with pytest.raises(CallError, match="calibrate"):
        attack.score(replace(view, reference=nobody), CONFIG)
    plain = CONFIG.model_copy(update={"calibrate": False})
    assert np.isfinite(attack.score(replace(view, reference=nobody), plain)).all()
