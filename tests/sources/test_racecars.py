"""The embedded race cars: reproducible, balanced, learnable, and no near-duplicates between subjects."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from skimage.metrics import structural_similarity

from ops.core.errors import CallError
from ops.core.progress import SilentReporter
from ops.sources import racecars
from ops.sources._item import Item
from ops.sources.racecars import LABELS, MASK_CLASSES, Config, attributes, draw, entry, items

BODY, WINDOWS, WHEELS, NUMBER = (MASK_CLASSES.index(name) for name in ("body", "windows", "wheels", "number"))
DEMO_SUBJECTS = 8400


def settings(**changes: object) -> Config:
    values: dict[str, object] = {
        "kind": "racecars", "preset": "demo", "subjects": DEMO_SUBJECTS, "size_px": 32, "seed": 7,
        "lookalike_fraction": 0.02, "drivers": 240, "supersample": 3,
    }  # fmt: skip
    return Config.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def entries() -> list:
    config = settings()
    return [entry(config, index) for index in range(config.subjects)]


def offered(config: Config, count: int | None = None) -> list[Item]:
    found = list(islice(items(config, Path("nowhere"), SilentReporter()), count))
    assert all(isinstance(item, Item) for item in found)
    return [item for item in found if isinstance(item, Item)]


def test_the_same_settings_give_the_same_bytes() -> None:
    config = settings(subjects=6)
    assert offered(config) == offered(config)


def test_several_processes_draw_the_same_bytes_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(subjects=6)
    alone = offered(config)
    monkeypatch.setattr(racecars, "PARALLEL_FROM", 1)
    monkeypatch.setattr(racecars, "CHUNK", 2)
    assert offered(config) == alone


def test_an_image_does_not_depend_on_what_was_drawn_before_it() -> None:
    config = settings(subjects=12)
    forward = {(s, 0): draw(config, s, 0)[0] for s in range(12)}
    for subject in (7, 3, 11, 0):
        assert np.array_equal(draw(config, subject, 0)[0], forward[subject, 0])


def test_a_subject_stays_the_same_when_the_set_grows() -> None:
    assert np.array_equal(draw(settings(subjects=5), 4, 1)[0], draw(settings(subjects=5000), 4, 1)[0])


def test_another_seed_gives_another_set() -> None:
    assert not np.array_equal(draw(settings(seed=1), 0, 0)[0], draw(settings(seed=2), 0, 0)[0])


def test_items_are_pngs_of_what_draw_returns() -> None:
    config = settings(subjects=4)
    found = offered(config)
    first = found[0]
    image_u8, mask_u8, facts = draw(config, 0, 0)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(first.data))), image_u8)
    assert first.mask is not None
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(first.mask))), mask_u8)
    assert first.attributes == facts
    assert set(facts) >= {"weather", "camera", "race", "driver"}
    assert len({item.name for item in found}) == len(found) == len({item.data for item in found})


def test_a_subject_has_two_to_four_images_of_one_car_in_one_race(entries: list) -> None:
    counts = Counter(met.images for met in entries)
    assert set(counts) == {2, 3, 4}
    assert min(counts.values()) > 0.3 * DEMO_SUBJECTS
    assert len({met.name for met in entries}) == DEMO_SUBJECTS
    by_subject = defaultdict(list)
    for item in offered(settings(subjects=8)):
        by_subject[item.subject].append(item)
    for group in by_subject.values():
        assert 2 <= len(group) <= 4
        assert len({(item.label, *sorted(item.attributes.items())) for item in group}) == 1


def test_the_classes_are_balanced(entries: list) -> None:
    counts = Counter(f"car-{met.number}" for met in entries)
    images = Counter({label: sum(m.images for m in entries if f"car-{m.number}" == label) for label in LABELS})
    assert set(counts) == set(LABELS)
    assert len(set(counts.values())) == 1
    assert max(images.values()) < 1.05 * min(images.values())


def test_two_hundred_drivers_each_drive_several_races(entries: list) -> None:
    races = defaultdict(set)
    for met in entries:
        races[attributes(met)["driver"]].add(met.race.name)
    assert len(races) >= 200
    assert min(map(len, races.values())) >= 3


def test_nobody_drives_two_cars_in_one_race(entries: list) -> None:
    seats = Counter((met.race.name, met.driver) for met in entries)
    assert max(seats.values()) == 1


def test_the_race_fixes_weather_and_camera_and_both_vary(entries: list) -> None:
    seen = defaultdict(set)
    for met in entries:
        seen[met.race.name].add((met.race.weather, met.race.left))
    assert all(len(facts) == 1 for facts in seen.values())
    assert {facts for race in seen.values() for facts in race} == {
        (weather, left) for weather in ("sun", "overcast", "rain", "dusk") for left in (True, False)
    }


def test_the_look_alike_share_is_kept_in_every_class(entries: list) -> None:
    fakes = Counter(met.number for met in entries if met.livery != met.number)
    # 2 % of 8 400 is 168; five binomial standard deviations are 64
    assert abs(sum(fakes.values()) - 168) < 64
    assert len(fakes) == len(LABELS)
    honest = settings(lookalike_fraction=0.0)
    assert all(f"car-{entry(honest, k).livery}" == LABELS[k % 4] for k in range(40))


def test_nothing_tells_a_subject_by_its_place_in_the_set(entries: list) -> None:
    """Roles must be exchangeable: what is drawn does not drift with the subject's number."""
    place = np.arange(DEMO_SUBJECTS)
    drawn = {
        "yaw": [met.yaw_deg for met in entries], "wear": [met.race.wear for met in entries],
        "exposure": [met.race.exposure for met in entries], "images": [met.images for met in entries],
        "driver": [met.driver for met in entries], "noise": [met.race.noise_levels for met in entries],
    }  # fmt: skip
    for name, values in drawn.items():
        # four cars share a race: 2 100 independent draws, standard error 0.022, five of them
        assert abs(np.corrcoef(place, values)[0, 1]) < 0.11, name


@pytest.mark.parametrize("preset", ["demo", "hard"])
@pytest.mark.parametrize("size_px", [32, 33, 64, 128])
def test_every_size_is_drawn_with_a_whole_mask(size_px: int, preset: str) -> None:
    image_u8, mask_u8, _ = draw(settings(size_px=size_px, preset=preset), 5, 0)
    assert image_u8.shape == (size_px, size_px, 3)
    assert image_u8.dtype == np.uint8
    assert mask_u8.shape == (size_px, size_px)
    assert mask_u8.dtype == np.uint8
    assert image_u8.std() > 20


@pytest.mark.parametrize("size_px", [31, 129])
def test_other_sizes_are_refused(size_px: int) -> None:
    with pytest.raises(ValidationError):
        settings(size_px=size_px)


def test_unknown_subjects_and_images_are_refused() -> None:
    config = settings(subjects=3)
    with pytest.raises(CallError, match="subject"):
        draw(config, 3, 0)
    with pytest.raises(CallError, match="image"):
        draw(config, 0, 4)


def test_masks_hold_every_class_where_the_car_is() -> None:
    config = settings(size_px=64)
    whole = 0
    for subject in range(40):
        image_u8, mask_u8, _ = draw(config, subject, 0)
        whole += set(np.unique(mask_u8)) == set(range(len(MASK_CLASSES)))
        rows, columns = np.nonzero(mask_u8)
        assert 0.12 < len(rows) / mask_u8.size < 0.5
        assert abs(columns.mean() / 64 - 0.5) < 0.12
        assert 0.4 < rows.mean() / 64 < 0.75
        assert np.nonzero(mask_u8 == WHEELS)[0].mean() > np.nonzero(mask_u8 == BODY)[0].mean()
        assert np.nonzero(mask_u8 == WINDOWS)[0].mean() < np.nonzero(mask_u8 == BODY)[0].mean()
        assert (mask_u8 == NUMBER).sum() > 15
    assert whole == 40


def test_the_mask_lies_on_the_body_it_names() -> None:
    """Red cars are red inside the body's mask and nowhere as red just outside; a mask a few pixels off would fail."""
    config, inside, outside = settings(size_px=64, lookalike_fraction=0.0), [], []
    for race in range(25):
        image_u8, mask_u8, _ = draw(config, 4 * race, 0)
        redness = image_u8[..., 0].astype(float) - image_u8[..., 1:].mean(axis=2)
        car = mask_u8 > 0
        ring = np.zeros_like(car)
        for shift in (-3, 3):
            ring |= np.roll(car, shift, axis=0) & ~car
        inside.append(np.median(redness[mask_u8 == BODY]))
        outside.append(np.median(redness[ring]))
    assert min(inside) > 30
    assert np.median(outside) < 15


def test_a_look_alike_wears_the_other_cars_colours_and_its_own_number() -> None:
    true, fake = settings(size_px=64, lookalike_fraction=0.0), settings(size_px=64, lookalike_fraction=1.0)
    worn = {n: _body_colour(true, k) for k, n in enumerate(LABELS)}
    for index in range(4):
        met = entry(fake, index)
        assert f"car-{met.livery}" != LABELS[index] == f"car-{met.number}"
        colour = _body_colour(fake, index)
        nearest = min(worn, key=lambda label: float(np.linalg.norm(worn[label] - colour)))
        assert nearest == f"car-{met.livery}"


def _body_colour(config: Config, subject: int) -> np.ndarray:
    image_u8, mask_u8, _ = draw(config, subject, 0)
    return np.median(image_u8[mask_u8 == BODY], axis=0)


def test_no_near_duplicates_between_subjects() -> None:
    """Under 0.5 % of 25 000 images may have a near-duplicate (SSIM >= 0.95) in another role.

    A demo image meets about 4 000 images of its class in other roles, so a pair may pass with probability 1e-6 at most,
    which no sample shows directly. Fisher's z of the sampled SSIM is close to normal with a lighter upper tail (54 000
    pairs gave a maximum of 0.74): 0.95 must then lie beyond 6.5 standard deviations of z (4e-11), mirrored and cropped
    pairs included, and the largest of the sample far below it.
    """
    config = settings()
    images = [draw(config, 4 * race, 0)[0] for race in range(44)]
    plain = _similarities(images, images)
    mirrored = _similarities(images, [np.ascontiguousarray(image[:, ::-1]) for image in images])
    cropped = _similarities(images, [_cropped(image) for image in images])
    for values in (plain, mirrored, cropped):
        z = np.arctanh(values)
        assert values.max() < 0.85
        assert (np.arctanh(0.95) - z.mean()) / z.std() > 6.5


def test_a_look_alike_is_no_near_duplicate_of_the_car_it_resembles_in_the_same_race() -> None:
    genuine, fake = settings(), settings(lookalike_fraction=1.0)
    found = []
    for index in range(120):
        other = LABELS.index(f"car-{entry(fake, index).livery}")
        found.append(_ssim(draw(fake, index, 0)[0], draw(genuine, index - index % 4 + other, 0)[0]))
    assert max(found) < 0.9


def _ssim(first: np.ndarray, second: np.ndarray) -> float:
    return float(structural_similarity(first, second, channel_axis=-1, data_range=255))


def _similarities(first: list[np.ndarray], second: list[np.ndarray]) -> np.ndarray:
    return np.array([_ssim(a, b) for k, a in enumerate(first) for b in second[k + 1 :]])


def _cropped(image_u8: np.ndarray) -> np.ndarray:
    inner = Image.fromarray(image_u8[1:-1, 1:-1])
    return np.asarray(inner.resize(image_u8.shape[1::-1], Image.Resampling.BICUBIC))


def test_a_simple_classifier_tells_the_demo_cars_apart() -> None:
    """Colour histograms and ridge regression: what a small CNN does far better (0.97) must already reach 0.9."""
    config, count, fitted = settings(), 800, 550
    features = np.stack([_hues(draw(config, k, 0)[0]) for k in range(count)])
    targets = np.eye(4)[np.arange(count) % 4]
    known = features[:fitted]
    weights = np.linalg.solve(known.T @ known + 0.05 * np.eye(features.shape[1]), known.T @ targets[:fitted])
    right = (features[fitted:] @ weights).argmax(axis=1) == targets[fitted:].argmax(axis=1)
    assert right.mean() > 0.9


def _hues(image_u8: np.ndarray) -> np.ndarray:
    """Histogram of colours in the picture's middle rows, relative to its mean brightness."""
    middle = image_u8[12:27].reshape(-1, 3).astype(float)
    scaled = np.clip(middle / middle.mean() * 2.0, 0, 4.99).astype(int)
    cells = scaled[:, 0] * 25 + scaled[:, 1] * 5 + scaled[:, 2]
    return np.sqrt(np.bincount(cells, minlength=125) / len(cells))


def test_the_fingerprint_follows_the_settings() -> None:
    here = Path("nowhere")
    assert racecars.fingerprint(settings(), here) == racecars.fingerprint(settings(), here)
    assert racecars.fingerprint(settings(), here) != racecars.fingerprint(settings(seed=8), here)
