"""How fast photographs become pixels: reduced-scale decode against a PIL decode with ``skimage.transform.resize``.

Both sides decode the same JPEG bytes in turn, image by image, in one process, so that a busy machine slows both alike;
what counts is the ratio. Fidelity is the mean SSIM of each result to PIL's full-size LANCZOS.

    python benchmarks/ingest.py            # under a minute; writes benchmarks/results/ingest.json
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from skimage.transform import resize

from ops.core import files, seeds
from ops.core.errors import UnderstudyError
from ops.ingestion import Config, ingest
from ops.sources._decode import decode_image

RESULTS = Path(__file__).parent / "results/ingest.json"
SIZE_PX = 64
TARGETS = {"500x375": 8.0, "2000x1500": 50.0}


def photograph(width: int, height: int, index: int) -> np.ndarray:
    """Something with a photograph's spectrum: noise at many scales plus hard edges; uint8 [height, width, 3]."""
    draw = seeds.generator(7, "photograph", width, index)
    scene = np.zeros((height, width, 3))
    for octave in range(7):
        rows, columns = max(height >> octave, 2), max(width >> octave, 2)
        layer = gaussian_filter(draw.standard_normal((rows, columns, 3)), (0.7, 0.7, 0))
        scaled = np.clip(layer * 25 + 128, 0, 255).astype(np.uint8)
        scene += (
            np.asarray(Image.fromarray(scaled).resize((width, height), Image.Resampling.BICUBIC), float) - 128
        ) * (0.4 * 1.45**octave)
    for _ in range(12):
        top, left = draw.integers(0, height * 3 // 4), draw.integers(0, width * 3 // 4)
        tall, wide = draw.integers(height // 12, height // 3), draw.integers(width // 12, width // 3)
        scene[top : top + tall, left : left + wide] += draw.normal(0, 45, 3)
    return np.clip(scene + 128, 0, 255).astype(np.uint8)


def jpeg(image_u8: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image_u8).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def ours(data: bytes) -> np.ndarray:
    return decode_image(
        data, size_px=SIZE_PX, channels=3, centre_crop=False, background_grey=255, max_pixels=64_000_000
    )


def theirs(data: bytes) -> np.ndarray:
    full = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return np.round(resize(full, (SIZE_PX, SIZE_PX), anti_aliasing=True) * 255).astype(np.uint8)


def lanczos(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS))


def timed(work: Callable[[bytes], np.ndarray], data: bytes) -> tuple[float, np.ndarray]:
    """CPU seconds of this process, so that neighbours on the machine count less, and the result."""
    start = time.process_time()
    result = work(data)
    return time.process_time() - start, result


def compare(width: int, height: int, images: int) -> dict[str, float]:
    """Interleaved A/B over ``images`` photographs: medians, their ratio, and SSIM of both to LANCZOS."""
    ours_s, theirs_s, ours_ssim, theirs_ssim = [], [], [], []
    for index in range(images):
        data = jpeg(photograph(width, height, index))
        reference = lanczos(data)
        ours(data)  # warm caches alike
        repeats = [timed(ours, data) for _ in range(5)]
        slow_s, slow = timed(theirs, data)
        ours_s.append(statistics.median(seconds for seconds, _ in repeats))
        theirs_s.append(slow_s)
        ours_ssim.append(structural_similarity(repeats[0][1], reference, channel_axis=2))
        theirs_ssim.append(structural_similarity(slow, reference, channel_axis=2))
    key = f"{width}x{height}"
    return {
        f"decode_{key}_ms": 1e3 * statistics.median(ours_s),
        f"decode_{key}_skimage_ms": 1e3 * statistics.median(theirs_s),
        f"decode_{key}_ratio": statistics.median(theirs_s) / statistics.median(ours_s),
        f"decode_{key}_ratio_target": TARGETS[key],
        f"ssim_to_lanczos_{key}_mean": float(np.mean(ours_ssim)),
        f"ssim_to_lanczos_{key}_min": float(np.min(ours_ssim)),
        f"ssim_to_lanczos_{key}_skimage_mean": float(np.mean(theirs_ssim)),
        f"images_{key}": images,
    }


def incremental(images: int) -> dict[str, float]:
    """A folder of photographs ingested cold, warm, and with one image added: wall seconds of the whole stage."""
    config = Config(max_quarantined_fraction=0.0, max_file_bytes=2**26, max_pixels=64_000_000, min_side_px=8)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        (base / "photos").mkdir()
        for index in range(images):
            (base / f"photos/{index:05d}.jpg").write_bytes(jpeg(photograph(500, 375, index)))
        seconds = []
        for step in ("cold", "warm", "one_more"):
            if step == "one_more":
                (base / "photos/new.jpg").write_bytes(jpeg(photograph(500, 375, images)))
            start = time.perf_counter()
            ingest({"kind": "folder", "path": "photos"}, config, base, base / "data/raw", base / "state/ingest")
            seconds.append(time.perf_counter() - start)
    cold, warm, one_more = seconds
    return {"ingest_cold_s": cold, "ingest_warm_s": warm, "ingest_one_more_s": one_more, "ingest_images": images}


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "machine_processor": names[0] if names else platform.processor(),
        "machine_cores": os.cpu_count() or 1,
        "machine_load_1min": os.getloadavg()[0],
        "machine_system": platform.system(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "pillow": importlib.metadata.version("pillow"),
        "scikit_image": importlib.metadata.version("scikit-image"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--images", type=int, default=24, help="500x375 photographs; a third as many of 2000x1500")
    chosen = parser.parse_args()
    told: dict[str, object] = dict(machine())
    told |= compare(500, 375, chosen.images) | compare(2000, 1500, max(chosen.images // 3, 1))
    told |= incremental(chosen.images * 8)
    files.write_json(chosen.out, told)
    for key, value in sorted(told.items()):
        print(f"{key:40s} {value:.4g}" if isinstance(value, float) else f"{key:40s} {value}")
    for key, target in TARGETS.items():
        ratio = told[f"decode_{key}_ratio"]
        assert isinstance(ratio, float)
        if ratio < target:
            raise UnderstudyError(f"decode of {key} is {ratio:.1f} times as fast, target {target:g}")


if __name__ == "__main__":
    main()
