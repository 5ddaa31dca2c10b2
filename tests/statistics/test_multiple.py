"""Holm's correction, by hand and by its promise."""

from __future__ import annotations

import numpy as np
import pytest

from ops.statistics.multiple import holm


def test_holm_equals_the_example_worked_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_one_test_is_not_corrected_and_none_is_none() -> None:
    assert holm({"only": 0.012}) == {"only": 0.012}
    assert holm({}) == {}


def test_under_sixteen_true_nulls_holm_rejects_any_at_most_as_often_as_promised() -> None:
    p = np.random.default_rng(0).uniform(size=(2000, 16))
    corrected = sum(min(holm(dict(enumerate_names(row))).values()) <= 0.01 for row in p)
    uncorrected = (p.min(axis=1) <= 0.01).sum()
    assert corrected <= 34  # 1 % of 2000, and 99.9 % of chance
    assert uncorrected > 200  # sixteen uncorrected ones void 15 % of clean runs


def enumerate_names(row: np.ndarray) -> list[tuple[str, float]]:
    return [(f"{number:02d}", float(value)) for number, value in enumerate(row)]
