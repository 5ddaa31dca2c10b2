"""The census: one copy among many is found before and after the filter, on the right side, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ops.attacks import copy_census
from ops.attacks._trial import census_figures
from ops.attacks._view import View
from tests.attacks import worlds

CONFIG = copy_census.Config.model_validate(worlds.CENSUS)


def view(extra: np.ndarray | None = None) -> View:
    parts = [worlds.records(*worlds.people(40, 2, seed), prefix=f"{seed}-") for seed in range(4)]
    if extra is not None:
        images = parts[3].images_u8.copy()
        images[: len(extra)] = extra
        parts[3] = parts[3].with_images(images)
    return View(*parts, parts[3], worlds.COPIES, worlds.RUNTIME, torch.device("cpu"), seed=0)


def test_fresh_images_are_no_copies() -> None:
    assert len(copy_census.find(view(), CONFIG)) == 0
    assert not copy_census.score(view(), CONFIG).any()


def test_c6_one_record_in_one_output_image_is_found_plain_and_mirrored() -> None:
    original = view().members.images_u8[17]
    for copy in (original, original[:, ::-1]):
        planted = view(copy[None])
        hits = copy_census.find(planted, CONFIG)
        assert hits[["side", "row", "image_id"]].values.tolist() == [["members", 17, "3-0"]]
        assert np.flatnonzero(copy_census.score(planted, CONFIG)).tolist() == [17]


def test_a_copy_that_the_filter_dropped_still_counts_and_one_that_was_added_too() -> None:
    planted = view(view().members.images_u8[[5]])
    kept = planted.drawn.take(np.arange(1, 80))
    dropped = census_figures(copy_census.find(replace(planted, released=kept), CONFIG))
    assert (dropped["copies_drawn_of_train"], dropped["copies_released_of_train"]) == (1, 0)
    smuggled = replace(planted, drawn=kept, released=planted.drawn)
    assert census_figures(copy_census.find(smuggled, CONFIG))["copies_released_of_train"] == 1


def test_a_copy_of_an_audit_image_is_told_from_one_of_a_training_image() -> None:
    figures = census_figures(copy_census.find(view(view().nonmembers.images_u8[[8]]), CONFIG))
    assert figures["copies_drawn_of_audit"] == 1
    assert figures["copies_drawn_of_train"] == 0
    assert figures["ssim_best_copy_of_train"] is None


def test_nothing_drawn_finds_nothing() -> None:
    nothing = view().drawn.take(np.arange(0))
    assert len(copy_census.find(replace(view(), drawn=nothing, released=nothing), CONFIG)) == 0


def test_a_hit_on_an_audit_image_is_explained_by_a_better_one_on_a_training_image_and_by_nothing_else() -> None:
    def near(image: np.ndarray, levels: int) -> np.ndarray:
        noise = np.random.default_rng(levels).integers(-levels, levels + 1, image.shape)
        return np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)

    for member_levels, twin_levels, audit_copies in ((1, 4, 0), (4, 1, 1)):
        world = view()
        original = world.members.images_u8[7]
        twins = world.nonmembers.images_u8.copy()
        twins[3] = near(original, twin_levels)  # prepare would have removed it; here it stands just inside
        members = world.members.images_u8.copy()
        members[7] = near(original, member_levels)
        planted = replace(
            view(original[None]),
            members=world.members.with_images(members),
            nonmembers=world.nonmembers.with_images(twins),
        )
        figures = census_figures(copy_census.find(planted, CONFIG))
        assert figures["copies_drawn_of_train"] == 1
        assert figures["copies_drawn_of_audit"] == audit_copies
