"""The source ``folder``, and the decoding that all sources share."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from ops.core.config import block
from ops.core.errors import CallError
from ops.core.progress import SilentReporter
from ops.sources import folder, load, names
from ops.sources._decode import Unusable, decode_image, decode_mask, examine, mask_png
from ops.sources._item import Item, Refusal

SETTINGS: dict[str, Any] = {
    "size_px": 32,
    "channels": 3,
    "centre_crop": False,
    "background_grey": 255,
    "max_pixels": 10_000_000,
}


class Notes(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def encoded(array: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def picture(seed: int, height: int = 24, width: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A photograph-like picture: waves at several scales, and an edge."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [128 + 50 * np.sin(9 * x + 3 * k) + 40 * np.cos(23 * y * (k + 1) + 5 * x) for k in range(3)]
    image = np.stack(waves, axis=-1)
    image[height // 3 : height // 2, width // 4 : width // 2] += 30
    return np.clip(image, 0, 255).astype(np.uint8)


def plant(root: Path, *files: str, start: int = 0) -> None:
    for seed, name in enumerate(files, start=start):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(seed)))


def offered(root: Path, **settings: object) -> dict[str, Item | Refusal]:
    config = block({"source": {"kind": "folder", "path": str(root), **settings}}, "source", folder.Config)
    found = list(folder.items(config, root))
    assert len({item.name for item in found}) == len(found)
    return {item.name: item for item in found}


def labels(found: dict[str, Item | Refusal]) -> dict[str, str]:
    return {name: item.label for name, item in found.items() if isinstance(item, Item)}


# ------------------------------------------------------------------------------------------------------- registry


def test_registry_lists_modules_of_the_folder_and_names_them_when_asked_for_another() -> None:
    assert {"archive", "folder", "torchvision"} <= set(names())
    assert load("folder") is folder
    with pytest.raises(CallError, match="archive, folder"):
        load("floder")
    with pytest.raises(CallError):
        load("_decode")


# ------------------------------------------------------------------------------------------------------ what names mean


def test_each_sub_folder_is_a_class(tmp_path: Path) -> None:
    plant(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png")
    found = offered(tmp_path)
    assert labels(found) == {"cat/1.png": "cat", "cat/2.png": "cat", "dog/1.png": "dog"}
    assert all(item.subject == "" for item in found.values() if isinstance(item, Item))


def test_split_folders_are_merged_and_a_test_folder_marks_its_images(tmp_path: Path) -> None:
    plant(tmp_path, "train/cat/1.png", "test/cat/1.png", "test/dog/2.png")
    merged = offered(tmp_path)
    assert set(labels(merged).values()) == {"cat", "dog"}
    assert all(item.attributes == {} for item in merged.values() if isinstance(item, Item))
    marked = offered(tmp_path, test_folder="test")
    split = {name: item.attributes.get("split") for name, item in marked.items() if isinstance(item, Item)}
    assert split == {"train/cat/1.png": None, "test/cat/1.png": "test", "test/dog/2.png": "test"}
    with pytest.raises(CallError, match="holdout"):
        offered(tmp_path, test_folder="holdout")


def test_a_class_called_test_beside_others_is_a_class(tmp_path: Path) -> None:
    plant(tmp_path, "test/1.png", "blank/1.png")
    assert set(labels(offered(tmp_path)).values()) == {"test", "blank"}


def test_folders_can_be_subjects_with_one_constant_class(tmp_path: Path) -> None:
    plant(tmp_path, "faces/s1/1.pgm", "faces/s1/2.pgm", "faces/s2/1.pgm")
    (tmp_path / "README").write_text("about")
    found = offered(tmp_path, subjects="folder", constant_label="face")
    people = {name: item.subject for name, item in found.items() if isinstance(item, Item) and "pgm" in name}
    assert people == {"faces/s1/1.pgm": "s1", "faces/s1/2.pgm": "s1", "faces/s2/1.pgm": "s2"}
    assert set(labels(found).values()) == {"face"}


def test_class_folder_then_subject_folder(tmp_path: Path) -> None:
    plant(tmp_path, "ill/p1/a.png", "ill/p2/a.png", "well/p1/b.png", "well/stray.png")
    found = offered(tmp_path, subjects="folder")
    assert [(item.label, item.subject) for item in found.values() if isinstance(item, Item)] == [
        ("ill", "p1"),
        ("ill", "p2"),
        ("well", "p1"),
    ]
    stray = found["well/stray.png"]
    assert isinstance(stray, Refusal)
    assert stray.reason == "no_subject"


def test_pattern_gives_label_subject_and_attributes(tmp_path: Path) -> None:
    plant(tmp_path, "p07_left_ill.png", "p08_right_well.png", "odd.png")
    pattern = r"(?P<subject>p\d+)_(?P<eye>left|right)_(?P<label>\w+)\.png"
    found = offered(tmp_path, name_pattern=pattern, subjects="pattern")
    left = found["p07_left_ill.png"]
    assert isinstance(left, Item)
    assert (left.label, left.subject, left.attributes) == ("ill", "p07", {"eye": "left"})
    odd = found["odd.png"]
    assert isinstance(odd, Refusal)
    assert odd.reason == "no_pattern_match"
    with pytest.raises(CallError, match="subject"):
        offered(tmp_path, name_pattern=r"(?P<label>\w+)", subjects="pattern")


def test_flat_folder_is_one_class(tmp_path: Path) -> None:
    plant(tmp_path, "1.png", "2.png")
    assert set(labels(offered(tmp_path)).values()) == {"image"}


def test_classes_restrict_and_an_absent_one_is_named(tmp_path: Path) -> None:
    plant(tmp_path, "cat/1.png", "dog/1.png", "eel/1.png")
    assert set(labels(offered(tmp_path, classes=["cat", "eel"])).values()) == {"cat", "eel"}
    with pytest.raises(CallError, match="yak"):
        offered(tmp_path, classes=["cat", "yak"])


def test_masks_pair_by_name_and_become_class_indices(tmp_path: Path) -> None:
    plant(tmp_path, "photos/001.jpg", "photos/002.jpg", "masks/001.png", "masks/009.png")
    drawn = np.zeros((24, 24, 3), np.uint8)
    drawn[4:9], drawn[9] = 255, 76  # an anti-aliased grey drawing saved as RGB
    (tmp_path / "masks/001.png").write_bytes(encoded(drawn))
    found = offered(tmp_path, mask_folder="masks", mask_threshold=128)
    assert {n: i.reason for n, i in found.items() if isinstance(i, Refusal)} == {
        "photos/002.jpg": "mask_missing",
        "masks/009.png": "mask_without_image",
    }
    item = found["photos/001.jpg"]
    assert isinstance(item, Item)
    assert item.mask is not None
    assert item.label == "image"
    values = np.asarray(Image.open(io.BytesIO(item.mask)))
    assert values.dtype == np.uint8
    assert np.array_equal(values, (drawn[..., 0] >= 128).astype(np.uint8))


def test_table_names_files_labels_subjects_masks_and_attributes(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.png", "c.png", "unlisted.png")
    (tmp_path / "m.png").write_bytes(encoded(np.ones((24, 24), np.uint8)))
    (tmp_path / "labels.csv").write_text(
        "file,label,subject,mask,attributes,site\n"
        'a.png,ill,p1,m.png,"{""age"": 50}",north\n'
        "b.png,,p2,,,\n"
        "gone.png,ill,p3,,,\n"
        "../b.png,ill,p3,,,\n"
        "a.png,well,p1,,,\n"
        "c.png,well,p2,,not json,\n"
    )
    config = block(
        {"source": {"kind": "folder", "path": ".", "table": "labels.csv", "subjects": "table"}}, "source", folder.Config
    )
    notes = Notes()
    found = list(folder.items(config, tmp_path, notes))
    (item,) = [one for one in found if isinstance(one, Item)]
    assert (item.label, item.subject, item.attributes) == ("ill", "p1", {"age": "50", "site": "north"})
    assert item.mask is not None
    assert [one.reason for one in found if isinstance(one, Refusal)] == [
        "no_label",
        "missing",
        "outside_root",
        "listed_twice",
        "bad_attributes",
    ]
    assert any("left out" in text for text in notes.said)
    with pytest.raises(CallError, match=r"other\.csv"):
        offered(tmp_path, table="other.csv")


# ---------------------------------------------------------------------------------------------------- what is refused


def test_links_and_special_files_are_refused_and_never_read(tmp_path: Path) -> None:
    root, outside = tmp_path / "set", tmp_path / "outside"
    plant(root, "cat/1.png", "dog/1.png")
    plant(outside, "secret.png")
    (root / "cat/link.png").symlink_to(outside / "secret.png")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "cat/pipe.png")
    reasons = {name: item.reason for name, item in offered(root).items() if isinstance(item, Refusal)}
    assert reasons == {"cat/link.png": "symlink", "loop": "symlink", "cat/pipe.png": "special_file"}


def test_a_file_that_becomes_a_link_after_it_was_listed_is_not_followed(tmp_path: Path) -> None:
    plant(tmp_path, "cat/1.png", "dog/1.png")
    item = offered(tmp_path)["cat/1.png"]
    assert isinstance(item, Item)
    (tmp_path / "cat/1.png").unlink()
    (tmp_path / "cat/1.png").symlink_to(tmp_path / "dog/1.png")
    with pytest.raises(Unusable):
        _ = item.data


def test_system_files_and_too_deep_ones_are_told_apart(tmp_path: Path) -> None:
    plant(tmp_path, "cat/1.png", "dog/1.png", "cat/.DS_Store", "cat/a/b/c/d/1.png")
    reasons = {n: i.reason for n, i in offered(tmp_path, max_depth=3).items() if isinstance(i, Refusal)}
    assert reasons == {"cat/.DS_Store": "system_file", "cat/a/b/c/d": "too_deep"}


def test_missing_folder_and_unknown_key_are_errors_that_name_them(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="nowhere"):
        offered(tmp_path / "nowhere")
    with pytest.raises(CallError, match="clases"):
        offered(tmp_path, clases=["cat"])


# ------------------------------------------------------------------------------------------------------------ decoding


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM"])
def test_every_format_decodes_and_half_of_it_does_not(kind: str) -> None:
    data = encoded(smooth(60, 80), kind)
    assert examine(data, 10_000, 8) == (80, 60)
    assert decode_image(data, **SETTINGS).shape == (32, 32, 3)
    with pytest.raises(Unusable) as caught:
        examine(data[: len(data) // 2], 10_000, 8)
    assert caught.value.reason in {"truncated", "corrupt"}
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am text\n", "wrong_type"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "wrong_type"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "corrupt"),
        (encoded(picture(1, 200, 200)), "too_many_pixels"),
        (encoded(picture(1, 4, 60)), "too_small"),
    ],
)
def test_what_is_no_usable_image_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        examine(data, 30_000, 8)
    assert caught.value.reason == reason


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I"])
def test_every_mode_becomes_the_same_picture(mode: str) -> None:
    grey = smooth(64, 64)[..., 0]
    if mode.startswith("I"):
        image = Image.fromarray(grey.astype(np.uint16) * 257)
        image = image.convert("I") if mode == "I" else image
    else:
        image = Image.fromarray(grey).convert("RGB").convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    expected = decode_image(encoded(grey), **{**SETTINGS, "channels": 1})
    found = decode_image(buffer.getvalue(), **{**SETTINGS, "channels": 1})
    tolerance = {"1": 160, "P": 30, "PA": 30, "CMYK": 3}.get(mode, 1)  # dithering and palettes lose, the rest does not
    assert np.abs(found.astype(int) - expected).max() <= tolerance
    assert decode_image(buffer.getvalue(), **SETTINGS).shape == (32, 32, 3)


def test_float_pixels_are_refused_rather_than_guessed_at() -> None:
    with pytest.raises(Unusable, match="unsupported_mode"):
        examine(encoded(np.zeros((20, 20), np.float32), "TIFF"), 10_000, 8)


def test_transparent_pixels_show_the_background_and_not_what_hides_below() -> None:
    image = np.zeros((32, 32, 4), np.uint8)
    image[..., 0] = 200  # red, wholly transparent
    assert (decode_image(encoded(image), **{**SETTINGS, "background_grey": 90}) == 90).all()


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_is_applied(turn: int) -> None:
    upright = smooth(40, 64)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(np.ascontiguousarray(stored), "PNG", exif=exif.tobytes())
    assert examine(data, 10_000, 8) == (64, 40)
    assert np.abs(decode_image(data, **SETTINGS).astype(int) - decode_image(encoded(upright), **SETTINGS)).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(375, 500), (750, 1000), (130, 170)])
@pytest.mark.parametrize("size_px", [32, 128])
def test_reduced_scale_decode_is_as_good_as_full_size_lanczos(height: int, width: int, size_px: int) -> None:
    draw = np.random.default_rng(3)
    image = np.clip(smooth(height, width) + draw.normal(0, 12, (height, width, 1)), 0, 255).astype(np.uint8)
    data = encoded(image, "JPEG", quality=90)
    full = Image.open(io.BytesIO(data)).convert("RGB").resize((size_px, size_px), Image.Resampling.LANCZOS)
    found = decode_image(data, **{**SETTINGS, "size_px": size_px})
    assert structural_similarity(found, np.asarray(full), channel_axis=2) >= 0.97


def test_fine_stripes_become_grey_and_not_moire() -> None:
    stripes = np.zeros((600, 600, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(decode_image(encoded(stripes), **SETTINGS)) <= 12


def test_centre_crop_keeps_the_middle_square() -> None:
    image = np.zeros((30, 90, 3), np.uint8)
    image[:, 30:60] = 255
    settings = {**SETTINGS, "size_px": 16}
    assert (decode_image(encoded(image), **{**settings, "centre_crop": True}) == 255).all()
    assert (decode_image(encoded(image), **settings)[:, 0] == 0).all()


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    image = picture(5, 32, 32)
    assert np.array_equal(decode_image(encoded(image), **SETTINGS), image)


def test_masks_are_resized_without_inventing_classes() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[20:80, 20:80], mask[40:60, 40:60] = 2, 7
    found = decode_mask(encoded(mask), size_px=33, centre_crop=False, max_pixels=20_000)
    assert set(np.unique(found)) == {0, 2, 7}
    with pytest.raises(Unusable, match="mask_unreadable"):
        mask_png(encoded(picture(0)), threshold=None, max_pixels=20_000)
