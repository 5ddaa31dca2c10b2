"""The one training loop and every net of the folder: learns, repeats itself, and lets test images choose nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ops import classifiers
from ops.classifiers import training
from ops.core import runtime as machine
from ops.core.errors import CallError, UnderstudyError

RUNTIME = machine.Config(device="cpu", threads=1, precision="fp32")
CONFIG = training.Config(
    net="small_cnn", width=4, steps=40, batch=32, learning_rate=0.01, weight_decay=0.01, warmup=0.2,
    label_smoothing=0.0, shift_px=1, flip=False, holdout=0.1, evaluations=2,
)  # fmt: skip


def bright_or_dark(n: int, seed: int = 0, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Noise in which the upper or the lower half is brighter; the class says which."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    images = rng.integers(0, 120, (n, 16, 16, channels))
    images[labels == 0, :8] += 80
    images[labels == 1, 8:] += 80
    return images.astype(np.uint8), labels


@pytest.mark.parametrize("name", classifiers.names())
@pytest.mark.parametrize("channels", [1, 3])
def test_every_net_of_the_folder_keeps_the_contract(name: str, channels: int) -> None:
    net = training.build(name, classes=5, channels=channels, width=2, seed=0).eval()
    for size_px in (16, 33):
        inputs = torch.zeros(3, channels, size_px, size_px)
        assert net(inputs).shape == (3, 5)
        features = net.get_submodule("trunk")(inputs)
        assert features.ndim == 2
        assert torch.equal(net.get_submodule("head")(features), net(inputs))


def test_an_unknown_net_lists_those_that_exist() -> None:
    with pytest.raises(CallError, match=r"resnet18, small_cnn.*'training'"):
        classifiers.load("training")


def test_it_learns_and_its_probabilities_add_up() -> None:
    images, labels = bright_or_dark(200)
    net = training.fit(images, labels, 2, CONFIG, RUNTIME, seed=1)
    fresh, truth = bright_or_dark(100, seed=1)
    found = training.predict_proba(net, fresh, RUNTIME)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found.argmax(axis=1) == truth).mean() > 0.9


def test_labels_that_mean_nothing_teach_nothing() -> None:
    images, _ = bright_or_dark(200)
    labels = np.random.default_rng(7).integers(0, 2, 200)
    net = training.fit(images, labels, 2, CONFIG, RUNTIME, seed=1)
    fresh, _ = bright_or_dark(200, seed=1)
    truth = np.random.default_rng(8).integers(0, 2, 200)
    assert (training.predict_proba(net, fresh, RUNTIME).argmax(axis=1) == truth).mean() < 0.65


def test_the_seed_alone_decides_the_weights() -> None:
    images, labels = bright_or_dark(60)
    short = CONFIG.model_copy(update={"steps": 4, "flip": True})
    torch.manual_seed(0)
    one = training.fit(images, labels, 2, short, RUNTIME, seed=1).state_dict()
    torch.manual_seed(99)
    two = training.fit(images, labels, 2, short, RUNTIME, seed=1).state_dict()
    other = training.fit(images, labels, 2, short, RUNTIME, seed=2).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_batch_of_a_prediction_does_not_decide_it() -> None:
    images, labels = bright_or_dark(50)
    net = training.fit(images, labels, 2, CONFIG.model_copy(update={"steps": 3}), RUNTIME, seed=1)
    one, many = training.predict_proba(net, images, RUNTIME, 7), training.predict_proba(net, images, RUNTIME, 50)
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_each_epoch_shows_every_image_once_whatever_the_batch() -> None:
    rows = np.concatenate([training.batch_rows(10, 4, step, seed=3) for step in range(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()
    assert len(set(training.batch_rows(3, 8, 0, seed=3))) == 3  # a batch larger than the set goes round


def test_augmentation_off_gives_the_picture_itself() -> None:
    images, _ = bright_or_dark(8)
    plain = CONFIG.model_copy(update={"shift_px": 0})
    found = training._augmented(training._padded(images, 0), torch.arange(8), plain, 0, 0)
    assert torch.equal(found, training.to_input(torch.from_numpy(images)))


def test_shifts_stay_within_the_rim_and_mirrors_are_mirrors() -> None:
    image = np.arange(36, dtype=np.uint8).reshape(1, 6, 6, 1)
    many, rows = training._padded(image, 1), torch.zeros(64, dtype=torch.int64)
    both = CONFIG.model_copy(update={"flip": True})
    found = training._augmented(many, rows, both, 0, 0)
    windows = [many[0, up : up + 6, left : left + 6] for up in range(3) for left in range(3)]
    allowed = [training.to_input(w[None])[0] for w in windows]
    allowed += [w.flip(2) for w in allowed]
    seen = {index for picture in found for index, w in enumerate(allowed) if torch.equal(picture, w)}
    assert all(any(torch.equal(picture, w) for w in allowed) for picture in found)
    assert len(seen) > 9


def test_a_handful_of_images_of_one_class_still_trains() -> None:
    images, _ = bright_or_dark(3)
    net = training.fit(images, np.array([1, 1, 1]), 4, CONFIG.model_copy(update={"steps": 5}), RUNTIME, seed=0)
    assert training.predict_proba(net, images, RUNTIME).shape == (3, 4)


def test_nothing_to_learn_from_and_divergence_are_said_aloud() -> None:
    images, labels = bright_or_dark(40)
    with pytest.raises(UnderstudyError, match="found none"):
        training.fit(images[:0], labels[:0], 2, CONFIG, RUNTIME, seed=0)
    wild = CONFIG.model_copy(update={"learning_rate": 1e30, "warmup": 0.0})
    with pytest.raises(UnderstudyError, match="finite loss"):
        training.fit(images, labels, 2, wild, RUNTIME, seed=0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_it_learns_on_cuda() -> None:
    images, labels = bright_or_dark(200)
    cuda = machine.Config(device="cuda", threads=1, precision="auto")
    net = training.fit(images, labels, 2, CONFIG, cuda, seed=1)
    assert (training.predict_proba(net, images, cuda).argmax(axis=1) == labels).mean() > 0.9
