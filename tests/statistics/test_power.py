"""Power: the reference table of audit.md §3.3, simulation, and monotonicity."""

from __future__ import annotations

import numpy as np
import pytest

from ops.statistics import limits, power

FPRS = (0.001, 0.0025, 0.005, 0.01)


def rule(attempts: int = 1, alpha: float = 0.005) -> power.Rule:
    return power.Rule(0.01, FPRS, 3.0, 0.55, 1 - 0.05 / attempts, alpha)


@pytest.mark.parametrize(("n", "attempts", "chance"), [(3000, 1, 0.973), (3000, 4, 0.91), (500, 1, 0.0)])
def test_chance_to_pass_of_a_clean_generator_is_the_tables(n: int, attempts: int, chance: float) -> None:
    assert power.pass_probability(n, rule(attempts)) == pytest.approx(chance, abs=0.004)


def test_at_the_demos_size_a_clean_generator_passes_more_often_than_97_in_100() -> None:
    assert min(power.pass_probability(n, rule()) for n in range(3150, 3400)) > 0.97


def test_pass_probability_equals_simulation() -> None:
    random, n, leaked = np.random.default_rng(0), 1500, 5
    k = limits.top_size(n, 0.01)
    least, most = limits.passing_counts(k, 3.0, 0.95)
    x = leaked + random.hypergeometric(n - leaked, n, k - leaked, 20_000)
    simulated = ((x >= least) & (x <= most)).mean()
    assert power.pass_probability(n, rule(), leaked) == pytest.approx(simulated, abs=0.015)


@pytest.mark.parametrize(("n", "leaked"), [(1000, 20), (1000, 50), (2000, 20), (3000, 60)])
def test_two_in_a_hundred_at_a_thousand_and_one_at_two_thousand_are_proven(n: int, leaked: int) -> None:
    assert power.fail_probability(n, rule(), leaked) > 0.99


def test_a_larger_leak_is_never_harder_to_see() -> None:
    passes = [power.pass_probability(3276, rule(), leaked) for leaked in range(0, 60, 4)]
    proofs = [power.fail_probability(3276, rule(), leaked) for leaked in range(0, 60, 4)]
    assert passes == sorted(passes, reverse=True)
    assert proofs == sorted(proofs)


def test_the_missable_leak_is_the_last_that_would_still_pass() -> None:
    n = 3276
    share = power.largest_missable_leak(n, rule(), 0.05)
    assert share is not None
    leaked = round(share * n)
    assert power.pass_probability(n, rule(), leaked) >= 0.05 > power.pass_probability(n, rule(), leaked + 1)
    assert share < 0.01


def test_where_pass_is_out_of_reach_no_missable_leak_is_claimed() -> None:
    assert power.largest_missable_leak(400, rule(), 0.05) is None
    assert power.largest_unproven_leak(400, rule(), 0.05) == 1.0


def test_subjects_needed_pass_when_they_are_there_and_grow_with_what_was_seen() -> None:
    clean = power.subjects_needed(rule(), 0.9)
    seen = power.subjects_needed(rule(), 0.9, share=0.65)
    assert clean is not None
    assert seen is not None
    assert power.pass_probability(clean, rule()) >= 0.9
    assert clean < seen
    assert power.subjects_needed(rule(), 0.9, share=0.25) == power.subjects_needed(rule(), 0.9, share=0.75)


def test_no_number_of_subjects_helps_at_or_above_a_limit() -> None:
    assert power.subjects_needed(rule(), 0.9, share=0.8) is None
    assert power.subjects_needed(rule(), 0.9, auc=0.44) is None
