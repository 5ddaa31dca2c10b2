"""Rank tests: exact where there is a closed form, calibrated where there is none, honest about clusters of images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ops.statistics import permutation
from ops.statistics.membership import by_subject


def ranked(members: np.ndarray, nonmembers: np.ndarray, seed: int = 0) -> np.ndarray:
    return permutation.ranked_members(members, nonmembers, np.random.default_rng(seed))


def test_ranking_puts_the_most_suspicious_first() -> None:
    assert ranked(np.array([9.0, 1.0]), np.array([5.0, 0.0])).tolist() == [True, False, True, False]


def test_a_constant_score_is_ranked_by_lot() -> None:
    first = [ranked(np.zeros(1), np.zeros(1), seed)[0] for seed in range(400)]
    assert 150 < sum(first) < 250


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        ranked(np.array([np.nan]), np.array([1.0]))


def test_single_cut_off_equals_fishers_exact_test_and_the_reference_figure() -> None:
    p = permutation.hypergeometric_p(15, 20, 1000, 2000, "greater")
    table = [[15, 985], [5, 995]]
    assert p == pytest.approx(stats.fisher_exact(table, "greater").pvalue)
    assert permutation.hypergeometric_p(10, 10, 1000, 2000, "greater") == pytest.approx(9.5e-4, rel=0.02)


def test_mid_p_is_one_half_on_average_and_the_plain_one_above_it() -> None:
    law = stats.hypergeom(200, 100, 20)
    x = np.arange(21)
    for mid, holds in ((True, lambda mean: mean == pytest.approx(0.5)), (False, lambda mean: mean > 0.55)):
        p = [permutation.hypergeometric_p(int(i), 20, 100, 200, "greater", mid=mid) for i in x]
        assert holds(float((law.pmf(x) * p).sum()))


def test_counts_at_cut_offs_are_counts() -> None:
    flags = np.array([True, False, True, True, False])
    assert permutation.counts_at(flags, [1, 3, 5]).tolist() == [1, 2, 3]


def test_calibrated_test_is_uniform_enough_under_no_leak() -> None:
    """Smallest p over cut-offs, both ends and AUC: flagged at 5 % no more often than 5 %, nor much less."""
    random = np.random.default_rng(1)
    p = [
        permutation.rank_test(random.permutation(np.repeat([True, False], 100)), [2, 5, 10], 199, random).p
        for _ in range(600)
    ]
    assert 14 <= sum(value <= 0.05 for value in p) <= 46  # 30 expected
    assert stats.kstest(p, "uniform", alternative="greater").statistic < 0.06  # never more often small than promised


def test_calibrated_test_sees_a_leak_of_few_in_the_whole_and_of_all() -> None:
    random = np.random.default_rng(2)
    members, nonmembers = random.normal(size=1000), random.normal(size=1000)
    few = members.copy()
    few[:10] += 20
    assert permutation.rank_test(ranked(few, nonmembers), [2, 5, 10, 20], 2000, random).p <= 0.01
    shifted = permutation.rank_test(ranked(members + 0.3, nonmembers), [2, 5, 10, 20], 2000, random)
    assert shifted.p <= 0.01
    assert shifted.component == "auc"


def test_the_test_is_two_sided() -> None:
    random = np.random.default_rng(3)
    members, nonmembers = random.normal(size=500), random.normal(size=500)
    assert permutation.rank_test(ranked(members - 0.5, nonmembers), [5, 10], 999, random).p <= 0.01


def test_permutations_are_taken_in_one_stream_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = np.random.default_rng(4).permutation(np.repeat([True, False], 40))
    found = []
    for cells in (80, 2**20):
        monkeypatch.setattr(permutation, "CELLS", cells)
        found.append(permutation.rank_test(flags, [4, 8], 300, np.random.default_rng(5)))
    assert found[0] == found[1]


def test_images_of_one_person_counted_as_independent_flag_clean_generators_and_people_do_not() -> None:
    """C10: five images a person, intraclass correlation 0.5, no leak; top 1 % at a nominal 5 %."""
    random = np.random.default_rng(6)
    people, images = 200, 5
    names = np.repeat([f"s{i}" for i in range(people)], images)
    flagged = {"images": 0, "people": 0}
    for _ in range(300):
        sides = [np.repeat(random.normal(size=people), images) + random.normal(size=people * images) for _ in range(2)]
        subjects = [by_subject(side, names, "mean")[1] for side in sides]
        for unit, (a, b) in {"images": sides, "people": subjects}.items():
            k, flags = len(a) // 10, ranked(a, b)
            x = int(permutation.counts_at(flags, [k])[0])
            flagged[unit] += permutation.hypergeometric_p(x, k, len(a), 2 * len(a)) <= 0.05
    assert flagged["people"] <= 25  # 15 expected at most
    assert flagged["images"] >= 30
    assert flagged["images"] > 2 * flagged["people"]
