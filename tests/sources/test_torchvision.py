"""The source ``torchvision``: the library's own loading code, on data that need no network."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ops.core.config import block
from ops.core.errors import CallError
from ops.sources import torchvision
from ops.sources._item import Item


def listed(base: Path, **settings: object) -> list[Item]:
    values = {"kind": "torchvision", "root": "store", "download": False, **settings}
    found = list(torchvision.items(block({"source": values}, "source", torchvision.Config), base))
    assert all(isinstance(item, Item) for item in found)
    return found  # type: ignore[return-value]


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(head + array.tobytes())


def write_mnist(folder: Path) -> dict[str, np.ndarray]:
    """A tiny MNIST in its own format."""
    draw = np.random.default_rng(0)
    folder.mkdir(parents=True)
    arrays = {}
    for name, count in (("train", 6), ("t10k", 4)):
        arrays[name] = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(idx(arrays[name]))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(count, dtype=np.uint8)))
        for kind, suffix in (("images", "idx3"), ("labels", "idx1")):
            packed = folder / f"{name}-{kind}-{suffix}-ubyte.gz"
            packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    return arrays


def test_mnist_on_disk_is_read_by_the_library_and_kept_without_loss(tmp_path: Path) -> None:
    arrays = write_mnist(tmp_path / "store/MNIST/raw")
    found = listed(tmp_path, dataset="MNIST", test_split="test")
    assert len(found) == 10
    assert [item.attributes for item in found] == [{}] * 6 + [{"split": "test"}] * 4
    assert found[3].label.startswith("3")
    for item, array in zip(found, np.concatenate([arrays["train"], arrays["t10k"]]), strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(item.data))), array)
    assert len({item.name for item in found}) == 10


def test_fake_data_gives_the_same_bytes_twice_and_classes_restrict(tmp_path: Path) -> None:
    arguments = {"size": 12, "image_size": [3, 16, 16], "num_classes": 3}
    first, second = (listed(tmp_path, dataset="FakeData", arguments=arguments) for _ in range(2))
    assert first == second
    assert len(first) == 12
    only = listed(tmp_path, dataset="FakeData", arguments=arguments, classes=["1"])
    assert only == [item for item in first if item.label == "1"]


def test_folder_dataset_names_its_classes(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "store" / label).mkdir(parents=True)
        Image.new("RGB", (8, 8), "red").save(tmp_path / "store" / label / "1.png")
    assert [item.label for item in listed(tmp_path, dataset="ImageFolder")] == ["cat", "dog"]
    with pytest.raises(CallError, match="yak"):
        listed(tmp_path, dataset="ImageFolder", classes=["yak"])


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="CIFAR10"):
        listed(tmp_path, dataset="CIFAR01")
    with pytest.raises(CallError, match=r"source\.download"):
        listed(tmp_path, dataset="CIFAR10")
    with pytest.raises(CallError, match="arguments"):
        listed(tmp_path, dataset="FakeData", arguments={"colour": 1})
    with pytest.raises(CallError, match="split"):
        listed(tmp_path, dataset="FakeData", test_split="test")
