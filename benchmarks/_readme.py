"""Put the measured ratios of benchmarks/results/ into the README, between its two markers. Run by ``make bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
BEGIN, END = "<!-- benchmarks: written by make bench -->", "<!-- end of benchmarks -->"
ROWS: list[tuple[str, str, str, str, str]] = [
    ("all-pairs SSIM, eager, 32 px", "a scikit-image loop", "ssim", "eager_32px_ratio", "20"),
    ("… 64 px", "", "ssim", "eager_64px_ratio", "8"),
    ("… 128 px", "", "ssim", "eager_128px_ratio", "6"),
    ("all-pairs SSIM, compiled, 32 px", "a scikit-image loop", "ssim", "compiled_32px_ratio", "80"),
    ("… 64 px", "", "ssim", "compiled_64px_ratio", "35"),
    ("… 128 px", "", "ssim", "compiled_128px_ratio", "30"),
    ("compiled, uniform window, 32 px", "pytorch-msssim (Gaussian)", "ssim", "compiled_over_msssim_32px_ratio", "25"),
    ("compiled, Gaussian window, 32 px", "the same", "ssim", "compiled_gaussian_over_msssim_32px_ratio", "25"),
    ("decode and resize, 500×375", "Pillow + skimage resize", "ingest", "decode_500x375_ratio", "8"),
    ("decode and resize, 2000×1500", "Pillow + skimage resize", "ingest", "decode_2000x1500_ratio", "50"),
    ("trace term of FID", "scipy sqrtm", "fid", "ratio_median", "4"),
    ("training step, bf16", "fp32, channels first", "training", "fp32_nchw_over_auto_channels_last.median", "1.4"),
]  # fmt: skip


def figure(results: dict[str, Any], file: str, key: str) -> float | None:
    """One figure of one result file, or None where it was not measured."""
    value: Any = results.get(file, {})
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return float(value) if value is not None else None


def table(results: dict[str, Any]) -> str:
    """The ratios as a Markdown table, with their targets."""
    lines = ["| what | against | times faster | target |", "|---|---|---|---|"]
    for what, against, file, key, target in ROWS:
        value = figure(results, file, key)
        lines.append(f"| {what} | {against} | {'not measured' if value is None else f'{value:.1f}'} | {target} |")
    step = figure(results, "training", "full_step_over_bare_step.median")
    if step is not None:
        lines.append(
            f"| full training step, over the bare step | the same step, nothing else | {step:.2f} × its time | 1.10 |"
        )
    return "\n".join(lines)


def main() -> None:
    """Rewrite the README's block."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}")


if __name__ == "__main__":
    main()
