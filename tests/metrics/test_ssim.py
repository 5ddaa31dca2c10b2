"""SSIM: equal to scikit-image on every pair, flat and bright ones included; symmetric; 1 for identity; tile-proof."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ops.core.progress import SilentReporter
from ops.metrics import ssim, ssim_engine, ssim_kernel, ssim_native

WINDOWS = ("uniform", "gaussian")
CIFAR = Path(__file__).parents[2] / "../shared/data/cifar10.zip"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def difficult(side_px: int, channels: int) -> np.ndarray:
    """Images on which float32 loses digits: flat, bright, nearly flat, black and white halves, noise, a ramp."""
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (14, side_px, side_px, channels)).astype(np.uint8)
    images[0], images[1], images[2], images[3] = 255, 254, 0, 128
    images[4] = 255
    images[4, :, : side_px // 2] = 0
    images[5] = images[4]
    images[5, 3, 3] ^= 255
    images[6] = 250 + random.integers(0, 3, images[6].shape)
    images[7] = images[6] + random.integers(0, 2, images[6].shape).astype(np.uint8)
    images[8] = np.linspace(0, 255, side_px).astype(np.uint8)[None, :, None]
    images[9] = images[8][:, ::-1]
    images[10] = 255 - images[11]
    return images


def judged(left: np.ndarray, right: np.ndarray, window: ssim.Window) -> np.ndarray:
    return np.array([[ssim.exact(x, y, window) for y in right] for x in left])


def table(left: np.ndarray, right: np.ndarray, **how: object) -> np.ndarray:
    x, y, values = ssim.pairs_above(left, right, -2.0, **how)  # type: ignore[arg-type]
    full = np.full((len(left), len(right)), np.nan)
    full[x, y] = values
    return full


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("side_px", "channels"), [(32, 3), (28, 1), (11, 3)])
def test_every_pair_equals_scikit_image(window: ssim.Window, side_px: int, channels: int) -> None:
    images = difficult(side_px, channels)
    truth = judged(images, images, window)
    assert np.abs(table(images, images, window=window) - truth).max() < 2e-6
    rows, columns = (index.ravel() for index in np.indices(truth.shape))
    assert np.abs(ssim.pair_scores(images[rows], images[columns], window=window) - truth.ravel()).max() < 2e-6


@pytest.mark.parametrize("native", [True, False], ids=["native", "torch"])
@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (7, 9, 3), (90, 12, 2)])
def test_aligned_pairs_equal_scikit_image(
    shape: tuple[int, int, int], native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if native and not ssim_native.available():
        pytest.skip(f"no native kernel: {ssim_native.load()}")
    if not native:
        monkeypatch.setattr(ssim_native, "load", lambda: "switched off by this test")
    images = np.resize(difficult(max(shape), shape[2]), (14, max(shape), max(shape), shape[2]))
    images = images[:, : shape[0], : shape[1]]
    rows, columns = (index.ravel() for index in np.indices((14, 14)))
    truth = np.array([ssim.exact(images[row], images[column]) for row, column in zip(rows, columns, strict=True)])
    assert np.abs(ssim.pair_scores(images[rows], images[columns]) - truth).max() < 2e-6
    assert ssim.pair_scores(images[:0], images[:0]).shape == (0,)


@pytest.mark.parametrize("side_px", [64, 128])
def test_large_images_keep_their_digits(side_px: int) -> None:
    images = difficult(side_px, 1)[:9]
    assert np.abs(table(images, images) - judged(images, images, "uniform")).max() < 2e-6


def test_sides_need_not_be_equal() -> None:
    images = difficult(24, 3)[:, :9]
    assert np.abs(table(images, images) - judged(images, images, "uniform")).max() < 2e-6


@pytest.mark.parametrize("window", WINDOWS)
def test_compiled_equals_scikit_image(window: ssim.Window) -> None:
    missing = ssim_engine.compiler_missing(torch.device("cpu"))
    if missing:
        pytest.skip(missing)
    images = difficult(24, 3)
    assert np.abs(table(images, images, window=window, compiled=True) - judged(images, images, window)).max() < 2e-6


def test_an_image_is_wholly_like_itself_and_order_does_not_matter() -> None:
    images = difficult(32, 3)
    full = table(images, images)
    assert np.abs(np.diag(full) - 1).max() < 1e-6
    assert np.abs(full - full.T).max() < 1e-6


def test_flat_images_have_the_closed_form() -> None:
    """With no variance SSIM is its luminance term: (2ab + C1) / (a² + b² + C1)."""
    x, y = np.full((1, 16, 16, 3), 200, np.uint8), np.full((1, 16, 16, 3), 50, np.uint8)
    expected = (2 * 200 * 50 + ssim_kernel.C1) / (200**2 + 50**2 + ssim_kernel.C1)
    for window in WINDOWS:
        assert table(x, y, window=window)[0, 0] == pytest.approx(expected, abs=1e-7)


def test_more_noise_means_less_likeness() -> None:
    random = np.random.default_rng(0)
    image = difficult(32, 3)[8]
    noise = random.standard_normal(image.shape)
    noisy = np.stack([np.clip(image + noise * sigma, 0, 255) for sigma in (0, 2, 8, 32, 64)]).astype(np.uint8)
    assert (np.diff(table(image[None], noisy)[0]) < 0).all()


def test_window_sums_of_products_are_exact_integers() -> None:
    """The largest products there are: float32 must hold each sum of 49 of them without loss."""
    x, y = np.random.default_rng(1).integers(250, 256, (2, 12, 12)).astype(np.int64)
    product = torch.from_numpy(x * y)[:, :, None]
    fast = ssim_kernel.window_sum(product.float(), "uniform")
    assert torch.equal(fast.long(), ssim_kernel.window_sum(product, "uniform"))


def test_reductions_agree_with_the_table_they_never_hold() -> None:
    random = np.random.default_rng(2)
    left, right = (random.integers(0, 256, (n, 16, 16, 1)).astype(np.uint8) for n in (37, 53))
    full = table(left, right)
    scores = ssim.pool_scores(left, right)
    assert np.abs(scores.mean - full.mean(1)).max() < 1e-7
    assert np.array_equal(scores.argmax, full.argmax(1))
    assert np.array_equal(scores.maximum, full.max(1).astype(np.float32))
    assert np.array_equal(ssim.pool_means(left, right), scores.mean)


def test_the_native_kernel_and_the_number_of_threads_change_no_bit_of_the_reductions() -> None:
    random = np.random.default_rng(9)
    images = random.integers(0, 256, (150, 20, 20, 3)).astype(np.uint8)
    one = ssim.pool_scores(images, images[:70], compiled=True)
    torch.set_num_threads(2)
    two = ssim.pool_scores(images, images[:70], compiled=True)
    assert np.array_equal(one.mean, two.mean)
    assert np.array_equal(one.maximum, two.maximum)
    assert np.array_equal(one.argmax, two.argmax)


def test_scores_do_not_depend_on_where_tiles_begin() -> None:
    images = difficult(32, 3)
    full = table(images, images)
    assert np.array_equal(table(images[3:8], images[5:]), full[3:8, 5:])
    assert np.array_equal(table(images, images), full)


def test_slabs_do_not_change_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    left, right = (random.integers(0, 256, (n, 8, 8, 1)).astype(np.uint8) for n in (20, 700))
    whole = ssim.pool_scores(left, right)
    monkeypatch.setattr(ssim_engine, "SLAB_BYTES", 1)
    slabs = ssim.pool_scores(left, right)
    assert np.array_equal(whole.maximum, slabs.maximum)
    assert np.array_equal(whole.argmax, slabs.argmax)
    assert np.abs(whole.mean - slabs.mean).max() < 1e-12


def test_pairs_above_lists_exactly_the_pairs_above() -> None:
    images = difficult(16, 1)
    full = table(images, images)
    x, y, values = ssim.pairs_above(images, images, 0.9)
    assert {*zip(x.tolist(), y.tolist(), strict=True)} == {tuple(pair) for pair in np.argwhere(full >= 0.9).tolist()}
    assert (values >= 0.9).all()
    assert sorted(zip(x, y, strict=True)) == list(zip(x, y, strict=True))


def test_a_score_near_a_threshold_is_settled_by_the_judge() -> None:
    scores = np.array([0.5, 0.5 + 1.5e-5, 0.5 - 1.9e-5, 0.6, 0.9])
    settled, count = ssim.settle_near(scores, [0.5, 0.9], lambda row: 0.25 + row)
    assert settled.tolist() == [0.25, 1.25, 2.25, 0.6, 4.25]
    assert count == 4
    by_row, _ = ssim.settle_near(np.array([0.1, 0.1]), np.array([[0.1], [0.2]]), lambda row: 7.0)
    assert by_row.tolist() == [7.0, 0.1]


def test_without_a_compiler_it_says_so_and_gives_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    class Listener(SilentReporter):
        said = ""

        def note(self, text: str) -> None:
            self.said = text

    images, listener = difficult(12, 1), Listener()
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(ssim_native, "load", lambda: "no C++ compiler")
    assert np.array_equal(table(images, images, compiled=True, reporter=listener), table(images, images))
    assert "no-such-compiler" in listener.said


def test_images_smaller_than_the_window_are_refused() -> None:
    small = np.zeros((1, 10, 10, 3), np.uint8)
    with pytest.raises(AssertionError, match="needs 11 px"):
        ssim.pool_scores(small, small, window="gaussian")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("compiled", [False, True])
def test_cuda_equals_scikit_image(window: ssim.Window, compiled: bool) -> None:
    images = difficult(32, 3)
    scores = table(images, images, window=window, device=torch.device("cuda"), compiled=compiled)
    assert np.abs(scores - judged(images, images, window)).max() < 1e-5


@pytest.mark.data
@pytest.mark.skipif(not CIFAR.exists(), reason="no shared/data/cifar10.zip")
@pytest.mark.parametrize("window", WINDOWS)
def test_real_images_equal_scikit_image(window: ssim.Window) -> None:
    import io
    import zipfile

    from PIL import Image

    with zipfile.ZipFile(CIFAR) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][::2000]
        images = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names])
    assert np.abs(table(images, images, window=window) - judged(images, images, window)).max() < 2e-6
