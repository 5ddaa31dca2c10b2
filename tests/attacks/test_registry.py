"""Every attack in the folder keeps the contract; a new file is tested without a new test."""

from __future__ import annotations

import numpy as np
import pytest

from ops import attacks
from ops.core.config import StrictModel
from ops.core.errors import CallError
from tests.attacks import worlds

SETTINGS = {"nearest_neighbour": worlds.NEAREST, "copy_census": worlds.CENSUS}


def test_names_are_the_files_without_underscore() -> None:
    assert {"copy_census", "nearest_neighbour"} <= set(attacks.names())
    assert not any(name.startswith("_") for name in attacks.names())


def test_an_unknown_attack_lists_what_exists() -> None:
    with pytest.raises(CallError, match="nearest_neighbour"):
        attacks.load("lira")


@pytest.mark.parametrize("name", attacks.names())
def test_each_attack_says_who_attacks_what_and_how_it_is_set(name: str) -> None:
    module = attacks.load(name)
    assert module.KIND in ("membership", "census")
    assert module.THREAT in ("images", "generator", "downstream")
    assert issubclass(module.Config, StrictModel)
    assert all(field.description for field in module.Config.model_fields.values())
    assert len(module.__doc__ or "") > 200


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_each_attack_gives_one_finite_number_a_record_and_repeats_it(name: str) -> None:
    module = attacks.load(name)
    view = small_view()
    config = module.Config.model_validate(SETTINGS[name])
    scores = module.score(view, config)
    assert scores.shape == (len(view.members) + len(view.nonmembers),)
    assert np.isfinite(scores).all()
    assert np.array_equal(scores, module.score(view, config))


def small_view() -> worlds.View:
    parts = [worlds.records(*worlds.people(12, 2, seed), prefix=f"{seed}-") for seed in range(4)]
    return worlds.View(*parts, parts[3], worlds.COPIES, worlds.RUNTIME, worlds.torch.device("cpu"), seed=0)
