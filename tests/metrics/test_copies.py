"""The near-duplicate detector: planted twins are found, strangers are not; nothing that SSIM calls a copy is missed."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from ops.core import runtime
from ops.metrics import copies, copies_screen, ssim

RUNTIME = runtime.Config(device="cpu", threads=1, precision="fp32")
MNIST = Path(__file__).parents[2] / "../shared/data/mnist.zip"
#: The very settings that the project ships, so that what is claimed here holds for them.
SETTINGS: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())["copies"]
CONFIG = copies.Config(**SETTINGS)
PLAIN = CONFIG.model_copy(update={"mirrored": False, "crop_fractions": []})


def scenes(count: int, side_px: int = 32, seed: int = 0) -> np.ndarray:
    """Coloured discs and a slope of light: content with edges, none like another."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side_px, :side_px] / side_px
    images = np.empty((count, side_px, side_px, 3))
    for image in images:
        slope = random.uniform(-60, 60, 2)
        image[:] = random.uniform(40, 215, 3) + (slope[0] * x + slope[1] * y)[..., None]
        for _ in range(6):
            centre, radius = random.uniform(0, 1, 2), random.uniform(0.08, 0.3)
            inside = np.clip((radius - np.hypot(x - centre[0], y - centre[1])) * side_px + 0.5, 0, 1)[..., None]
            image[:] = image * (1 - inside) + random.uniform(0, 255, 3) * inside
    return np.clip(images, 0, 255).astype(np.uint8)


def twin(image_u8: np.ndarray, kind: str, random: np.random.Generator) -> np.ndarray:
    side_px = len(image_u8)
    if kind == "mirrored":
        return image_u8[:, ::-1]
    if kind == "crop":
        cut = round(random.uniform(0.03, 0.10) * side_px)
        top, left = random.integers(0, cut + 1, 2)
        box = (left, top, left + side_px - cut, top + side_px - cut)
        return np.asarray(Image.fromarray(image_u8).crop(box).resize((side_px, side_px), Image.Resampling.BILINEAR))
    if kind == "brightness":
        return np.clip(image_u8 * random.uniform(0.9, 1.1), 0, 255).astype(np.uint8)
    larger = round(side_px * random.uniform(1.2, 2.0))
    grown = Image.fromarray(image_u8).resize((larger, larger), Image.Resampling.BICUBIC)
    return np.asarray(grown.resize((side_px, side_px), Image.Resampling.LANCZOS))


def find(queries: np.ndarray, pool: np.ndarray, config: copies.Config = CONFIG, same: bool = False) -> copies.Pairs:
    return copies.find_copies(queries, pool, config, same=same, runtime=RUNTIME)


def keys(pairs: copies.Pairs) -> set[tuple[int, int]]:
    return set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))


@pytest.mark.parametrize("same", [False, True])
def test_planted_twins_are_found_and_strangers_are_not(same: bool) -> None:
    random = np.random.default_rng(7)
    originals = scenes(600)
    kinds = ["mirrored", "crop", "brightness", "rescale"] * 50
    twins = np.stack([twin(originals[row], kind, random) for row, kind in enumerate(kinds)])
    if same:
        both = np.concatenate([originals, twins])
        found = {(left, right - 600) for left, right in keys(find(both, both, same=True))}
    else:
        found = {(right, left) for left, right in keys(find(twins, originals))}
    planted = {(row, row) for row in range(200)}
    missed = [kinds[row] for row, _ in planted - found]
    assert len(missed) <= 10, f"missed {missed}"
    assert len(found - planted) <= 2, f"{len(found - planted)} false merges"


def test_the_screen_misses_no_pair_that_brute_force_finds() -> None:
    """Grades of noise put pairs on both sides of the threshold."""
    random = np.random.default_rng(3)
    originals = scenes(60, 24)
    noisy = [np.clip(originals + random.normal(0, sigma, originals.shape), 0, 255) for sigma in (2, 4, 6, 9)]
    images = np.concatenate([originals, *noisy]).astype(np.uint8)
    left, right, _ = ssim.pairs_above(images, images, 0.95)
    truth = {(x, y) for x, y in zip(left.tolist(), right.tolist(), strict=True) if x < y}
    assert len(truth) > 50
    assert truth <= keys(find(images, images, PLAIN, same=True))


@pytest.mark.data
@pytest.mark.skipif(not MNIST.exists(), reason="no shared/data/mnist.zip")
def test_the_screen_misses_no_pair_of_handwritten_digits() -> None:
    with zipfile.ZipFile(MNIST) as archive:
        names = [name for name in archive.namelist() if "/1/" in name and name.endswith(".png")][::24]
        images = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names])[..., None]
    left, right, _ = ssim.pairs_above(images, images, 0.95)
    truth = {(x, y) for x, y in zip(left.tolist(), right.tolist(), strict=True) if x < y}
    assert len(truth) > 1
    assert truth <= keys(find(images, images, PLAIN, same=True))


def test_a_pair_is_found_from_either_side() -> None:
    random = np.random.default_rng(11)
    originals = scenes(80)
    kinds = ["mirrored", "crop"] * 40
    others = np.stack([twin(image, kind, random) for image, kind in zip(originals, kinds, strict=True)])
    forth, back = keys(find(originals, others)), {(y, x) for x, y in keys(find(others, originals))}
    assert len(forth) >= 70
    assert forth == back


def test_every_hit_reaches_the_threshold_and_the_same_call_gives_the_same_pairs() -> None:
    images = np.concatenate([scenes(60), scenes(60)[:, :, ::-1]])
    first, second = find(images, images, same=True), find(images, images, same=True)
    assert (first.ssim >= CONFIG.ssim_min).all()
    assert keys(first) == {(row, row + 60) for row in range(60)} == keys(second)
    assert set(first.variant) == {"mirrored"}
    assert np.array_equal(first.ssim, second.ssim)


def test_identical_images_make_a_star_not_a_square() -> None:
    images = np.concatenate([np.repeat(scenes(1), 300, 0), scenes(5, seed=4)])
    pairs = find(images, images, same=True)
    assert keys(pairs) == {(0, row) for row in range(1, 300)}
    assert set(pairs.variant) == {"identical"}
    across = find(images[:3], images)
    assert set(across.left.tolist()) == {0, 1, 2}
    assert set(across.right.tolist()) == set(range(300))


def test_blank_images_are_copies_only_where_identical() -> None:
    blank = np.stack([np.full((16, 16, 1), level, np.uint8) for level in (0, 1, 2, 128, 128, 255)])
    assert keys(find(blank, blank, same=True)) == {(3, 4)}
    assert keys(find(blank[:2], blank[2:])) == set()


def test_an_image_with_several_crops_in_the_set_is_paired_with_each_of_them() -> None:
    """The nearest crop must not hide the others: they may lie in other roles, where the census would find them."""
    images, random = scenes(40), np.random.default_rng(8)
    crops = np.stack([twin(images[0], "crop", random) for _ in range(6)])
    found = keys(find(np.concatenate([images, crops]), np.concatenate([images, crops]), same=True))
    assert {(0, 40 + number) for number in range(6)} <= found


def test_what_two_parts_of_a_set_share_the_whole_set_has_shown() -> None:
    images, random = scenes(60), np.random.default_rng(9)
    near = [twin(images[row % 6], kind, random) for row in range(36) for kind in ("crop", "brightness")]
    everything = np.unique(np.concatenate([images, np.stack(near)]), axis=0)  # identical ones are told as stars
    order = random.permutation(len(everything))
    known = keys(find(everything, everything, same=True))
    left, right = np.sort(order[:60]), np.sort(order[60:])
    for x, y in keys(find(everything[left], everything[right])):
        assert tuple(sorted((int(left[x]), int(right[y])))) in known


def test_grey_images_in_three_channels_give_the_pairs_of_one_channel() -> None:
    grey = scenes(60)[..., :1]
    grey[50:] = grey[:10, :, ::-1]
    assert keys(find(np.repeat(grey, 3, -1), np.repeat(grey, 3, -1), same=True)) == keys(find(grey, grey, same=True))


def test_batches_keep_every_pair_in_its_order() -> None:
    blocks = [(np.arange(first, last), -np.arange(first, last)) for first, last in ((0, 5), (5, 5), (5, 30), (30, 31))]
    joined = list(copies_screen.batched(iter(blocks), 8))
    assert [len(left) for left, _ in joined] == [8, 8, 8, 7]
    assert np.array_equal(np.concatenate([left for left, _ in joined]), np.arange(31))
    assert np.array_equal(np.concatenate([right for _, right in joined]), -np.arange(31))


def test_the_size_of_a_block_changes_no_partner(monkeypatch: pytest.MonkeyPatch) -> None:
    images = scenes(90)
    images[45:] = images[:45, :, ::-1]
    whole = find(images, images, same=True)
    monkeypatch.setitem(copies_screen.BLOCK, "cpu", (16, 48))
    assert keys(find(images, images, same=True)) == keys(whole)
    assert len(keys(whole)) >= 45


def test_small_and_large_images_work() -> None:
    for side_px in (8, 64):
        images = scenes(12, side_px)
        assert keys(find(images[:, :, ::-1], images)) == {(row, row) for row in range(12)}


def test_settings_name_what_is_missing() -> None:
    from ops.core.config import block
    from ops.core.errors import CallError

    with pytest.raises(CallError, match=r"copies\.ssim_min"):
        block({"copies": {key: value for key, value in SETTINGS.items() if key != "ssim_min"}}, "copies", copies.Config)
