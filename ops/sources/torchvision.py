"""Any classification or segmentation dataset of torchvision, by its class name: ``dataset: CIFAR10``.

The library's own loading code runs; each sample becomes a PNG (lossless), because datasets hand out pixels and not the
bytes they came from. Splits are merged, unless ``test_split`` reserves one for role test.
"""

from __future__ import annotations

import difflib
import inspect
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torchvision.datasets
from PIL import Image
from pydantic import Field

from ops.core.config import StrictModel
from ops.core.errors import CallError, explain
from ops.core.progress import Reporter, SilentReporter
from ops.sources._item import Item, Refusal

SILENT = SilentReporter()


class Config(StrictModel):
    """The block ``source`` with ``kind: torchvision``."""

    kind: Literal["torchvision"]
    dataset: str = Field(..., description="class name in torchvision.datasets, e.g. CIFAR10")
    root: str = Field(..., description="folder that holds (or receives) the dataset; relative to the workspace")
    download: bool = Field(..., description="fetch it where it is absent; false touches no network")
    arguments: dict[str, Any] = Field({}, description="further arguments of the dataset's class")
    splits: dict[str, dict[str, Any]] = Field(
        {}, description="split name to its arguments, e.g. train: {train: true}; absent: from the class's own signature"
    )
    test_split: str | None = Field(None, description="the split whose images become role test; absent: all merged")
    classes: list[str] | None = Field(None, min_length=1, description="take these labels only; all where absent")


def items(config: Config, base: Path, reporter: Reporter = SILENT) -> Iterator[Item | Refusal]:
    """Samples of every split in the dataset's order, named ``split/0000123``.

    Raises CallError for an unknown dataset, split or class, for wrong arguments, and where the data are absent.
    """
    factory = dataset_class(config.dataset)
    splits = config.splits or own_splits(factory)
    if config.test_split is not None and config.test_split not in splits:
        raise CallError(
            explain(
                expected=f"a split among {', '.join(splits)}", found=config.test_split, todo="set source.test_split"
            )
        )
    datasets = {name: build(factory, arguments, config, base) for name, arguments in splits.items()}
    unknown = sorted(
        set(config.classes or [])
        - {label for data in datasets.values() for label in class_names(data) or config.classes or []}
    )
    if unknown:
        raise CallError(
            explain(expected=f"classes of {config.dataset}", found=", ".join(unknown), todo="set source.classes")
        )
    return samples(datasets, config, reporter)


def samples(datasets: Mapping[str, Any], config: Config, reporter: Reporter) -> Iterator[Item | Refusal]:
    """Every sample of every split, as an item or a refusal."""
    for split, data in datasets.items():
        names = class_names(data)
        attributes = {"split": "test"} if split == config.test_split else {}
        for index in range(len(data)):
            found = sample(data, index, f"{split}/{index:07d}", names, attributes)
            if isinstance(found, Refusal) or config.classes is None or found.label in config.classes:
                yield found
            reporter.progress(f"{config.dataset} {split}", index + 1, len(data))


def dataset_class(name: str) -> Callable[..., Any]:
    """The class of that name. Raises CallError with the nearest names."""
    known = [known for known in torchvision.datasets.__all__ if inspect.isclass(getattr(torchvision.datasets, known))]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.4) or known[:4]
        raise CallError(
            explain(
                expected=f"a dataset of torchvision such as {', '.join(near)}",
                found=repr(name),
                todo="set source.dataset",
            )
        )
    return getattr(torchvision.datasets, name)  # type: ignore[no-any-return]


def own_splits(factory: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """Split names and arguments from the class's signature: ``train=`` or ``split=``, else one split."""
    parameters = inspect.signature(factory).parameters
    if "train" in parameters:
        return {"train": {"train": True}, "test": {"train": False}}
    if "split" in parameters:
        return {"train": {"split": "train"}, "test": {"split": "test"}}
    return {"all": {}}


def build(factory: Callable[..., Any], arguments: Mapping[str, Any], config: Config, base: Path) -> Any:
    """The dataset of one split. Raises CallError where its data are absent or the arguments do not fit."""
    parameters = inspect.signature(factory).parameters
    given: dict[str, Any] = {**config.arguments, **arguments}
    given |= {"root": str((base / config.root).resolve())} if "root" in parameters else {}
    given |= {"download": config.download} if "download" in parameters else {}
    try:
        return factory(**given)
    except (RuntimeError, FileNotFoundError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CallError(
            explain(
                expected=f"{config.dataset} in {config.root}",
                found=reason,
                todo="set source.download or source.arguments",
            )
        ) from error


def class_names(data: Any) -> list[str] | None:
    """Names of the dataset's classes, where it has any."""
    names = getattr(data, "classes", None)
    return [str(name) for name in names] if isinstance(names, list | tuple) else None


def sample(data: Any, index: int, name: str, names: list[str] | None, attributes: dict[str, str]) -> Item | Refusal:
    """One sample: image with a class, or image with a mask. A sample whose file cannot be read is refused."""
    try:
        image, target = data[index]
    except (OSError, SyntaxError, ValueError) as error:
        return Refusal(name, "unreadable", type(error).__name__)
    if isinstance(target, Image.Image):
        return Item(name, "image", "", dict(attributes), png(image), png(target))
    if not isinstance(target, int | np.integer | torch.Tensor) or (
        isinstance(target, torch.Tensor) and target.numel() != 1
    ):
        found = f"a target of type {type(target).__name__}"
        raise CallError(explain(expected="a class or a mask for each image", found=found, todo="set source.arguments"))
    code = int(target)
    return Item(name, names[code] if names else str(code), "", dict(attributes), png(image), None)


def png(image: Any) -> bytes:
    """PNG of a Pillow image, of a uint8 tensor [c, h, w], or of an array."""
    if isinstance(image, torch.Tensor):
        assert image.dtype == torch.uint8, image.dtype
        image = image.permute(1, 2, 0).squeeze(-1).numpy()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
