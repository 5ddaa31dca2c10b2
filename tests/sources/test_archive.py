"""The source ``archive``: the same as a folder, and nothing that an archive can hide."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from ops.core.config import block
from ops.core.errors import CallError, UnderstudyError
from ops.sources import archive, folder
from ops.sources._decode import Unusable
from ops.sources._item import Item, Refusal
from tests.sources.test_folder import encoded, picture, plant

DATA = Path(__file__).parents[2] / "../shared/data"


def listed(path: Path, **settings: object) -> list[Item | Refusal]:
    config = block({"source": {"kind": "archive", "path": path.name, **settings}}, "source", archive.Config)
    return list(archive.items(config, path.parent))


def reasons(found: list[Item | Refusal]) -> dict[str, str]:
    return {item.name: item.reason for item in found if isinstance(item, Refusal)}


def pack(root: Path, target: Path) -> Path:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.comment = b"d7d05618061fe37d830fb0419063d113c575ccbc"
            for path in files:
                packed.write(path, path.relative_to(root))
    else:
        with tarfile.open(target, "w:gz" if target.suffix == ".gz" else "w") as packed_tar:
            for path in files:
                packed_tar.add(path, f"./{path.relative_to(root)}")
    return target


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz"])
def test_an_archive_and_its_folder_offer_the_same(tmp_path: Path, name: str) -> None:
    root = tmp_path / "set"
    plant(root, "top/train/cat/1.png", "top/train/dog/1.png", "top/test/cat/9.png")
    (root / "top/README.md").write_text("about")
    packed = listed(pack(root, tmp_path / name), test_folder="test")
    block_of = {"source": {"kind": "folder", "path": str(root), "test_folder": "test"}}
    config = block(block_of, "source", folder.Config)
    for ours, theirs in zip(sorted(packed, key=lambda one: one.name), folder.items(config, tmp_path), strict=True):
        assert type(ours) is type(theirs)
        for key in ("name", "label", "subject", "attributes", "data", "mask", "reason"):
            assert getattr(ours, key, None) == getattr(theirs, key, None), (ours, theirs)
    assert {item.label for item in packed if isinstance(item, Item)} == {"cat", "dog"}


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz"])
def test_masks_and_tables_work_inside_an_archive(tmp_path: Path, name: str) -> None:
    root = tmp_path / "set"
    plant(root, "photos/1.png", "masks/1.png")
    (root / "masks/1.png").write_bytes(encoded(picture(0)[..., 0]))
    (item,) = listed(pack(root, tmp_path / name), mask_folder="masks")
    assert isinstance(item, Item)
    assert item.mask is not None
    (root / "labels.csv").write_text("file,label\nphotos/1.png,ill\n")
    (item,) = listed(pack(root, tmp_path / name), table="labels.csv")
    assert isinstance(item, Item)
    assert item.label == "ill"


def write_zip(path: Path, members: dict[str, bytes], links: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        for name in links:
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            packed.writestr(info, "/etc/passwd")
    return path


def test_a_zip_cannot_point_outside_hide_links_or_collide(tmp_path: Path) -> None:
    image = encoded(picture(0))
    outside = ["../up.png", "/etc/x.png", "a/../../b.png", "C:/w.png", "cat\\..\\..\\x.png"]
    members = dict.fromkeys(["cat/1.png", "dog/1.png", "cat/Same.png", "cat/same.png", *outside], image)
    found = listed(write_zip(tmp_path / "set.zip", members, links=("cat/link.png",)))
    assert [item.name for item in found if isinstance(item, Item)] == ["cat/1.png", "dog/1.png"]
    told = reasons(found)
    assert told.pop("cat/link.png") == "symlink"
    assert told.pop("cat/Same.png") == told.pop("cat/same.png") == "name_collision"
    assert len(told) == 5
    assert set(told.values()) == {"outside_root"}


def test_a_nul_in_a_zip_name_is_seen(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"cat/1.png": b"x", "cat/aXpng.txt": b"x"})
    path.write_bytes(path.read_bytes().replace(b"cat/aXpng.txt", b"cat/a\x00png.txt"))
    found = reasons(listed(path))
    assert list(found.values()) == ["unsafe_name"]


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"cat/1.png": encoded(picture(0)), "cat/bomb.png": b"\x00" * 10_000_000})
    assert reasons(listed(path)) == {"cat/bomb.png": "compression_ratio"}
    with pytest.raises(UnderstudyError, match="max_total_bytes"):
        listed(path, max_ratio=1e6, max_total_bytes=1_000_000)
    with pytest.raises(UnderstudyError, match="max_files"):
        listed(path, max_files=1)
    bomb = tmp_path / "bomb.tar.gz"
    with tarfile.open(bomb, "w:gz") as packed:
        info = tarfile.TarInfo("cat/bomb.png")
        info.size = 3_000_000
        packed.addfile(info, io.BytesIO(b"\x00" * info.size))
    with pytest.raises(UnderstudyError, match="max_total_bytes"):
        listed(bomb, max_total_bytes=1_000_000)


def test_a_tar_cannot_hide_links_devices_or_absolute_names(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    image = encoded(picture(0))
    with tarfile.open(path, "w") as packed:
        for name in ("cat/1.png", "dog/1.png", "../up.png", "/abs.png"):
            info = tarfile.TarInfo(name)
            info.size = len(image)
            packed.addfile(info, io.BytesIO(image))
        for name, kind in (("s.png", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE), ("d.png", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "cat/1.png"
            packed.addfile(info)
    found = listed(path)
    assert [item.name for item in found if isinstance(item, Item)] == ["cat/1.png", "dog/1.png"]
    assert reasons(found) == {
        "../up.png": "outside_root",
        "/abs.png": "outside_root",
        "s.png": "symlink",
        "h.png": "symlink",
        "d.png": "special_file",
    }


def test_a_damaged_member_is_refused_and_a_damaged_archive_stops(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"cat/1.png": encoded(picture(0)), "cat/2.png": encoded(picture(1))})
    data = bytearray(path.read_bytes())
    data[400] ^= 0xFF
    path.write_bytes(bytes(data))
    broken = [item for item in listed(path) if isinstance(item, Item)]
    with pytest.raises(Unusable, match="corrupt_member"):
        [item.data for item in broken]
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(CallError, match="zip, tar"):
        listed(tmp_path / "text.zip")
    with pytest.raises(CallError, match="no such file"):
        listed(tmp_path / "absent.zip")
    root = tmp_path / "set"
    plant(root, "cat/1.png", "cat/2.png")
    cut = pack(root, tmp_path / "cut.tar.gz")
    cut.write_bytes(cut.read_bytes()[:-400])
    with pytest.raises(UnderstudyError):
        listed(cut)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "settings", "images", "classes", "subjects"),
    [
        ("cifar10.zip", {"classes": ["airplane", "ship"], "test_folder": "test"}, 12_000, 2, 1),
        ("orl_faces.zip", {"subjects": "folder"}, 400, 1, 40),
        ("retina_pairs.zip", {"mask_folder": "masks", "mask_threshold": 128}, 91, 1, 1),
    ],
)
def test_real_archives_are_understood(
    name: str, settings: dict[str, object], images: int, classes: int, subjects: int
) -> None:
    if not (DATA / name).is_file():
        pytest.skip(f"{name} is not in ../shared/data")
    found = [item for item in listed((DATA / name).resolve(), **settings) if isinstance(item, Item)]
    assert len(found) == images
    assert len({item.label for item in found}) == classes
    assert len({item.subject for item in found}) == subjects
    assert found[0].data
