"""What the training loop costs above the bare players, and what bfloat16 in channels-last memory saves.

``python -m benchmarks.training [--rounds 7] [--steps 8]``: the whole step of ``ops.adversarial`` (data, dequantisation,
average, curve, progress) against a bare step of the same players that does no more than two forward and backward passes
and two Adam updates on a batch that already lies there; interleaved round by round in one process, so that a busy
machine burdens both alike. The net is the demo's: pyramid of width 16 at 32 px, batch 64. Ratios go to
``benchmarks/results/training.json`` with the machine they ran on.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ops.adversarial_data import to_pm1
from ops.adversarial_game import Game, Task
from ops.core import files, runtime, seeds
from ops.core.progress import SilentReporter
from ops.generators import sngan

RESULTS = Path(__file__).parent / "results" / "training.json"
CLASSES, SIZE_PX, IMAGES = 4, 32, 2048
LOG_EVERY = 20


def config() -> sngan.Config:
    """The demo's settings."""
    return sngan.Config(
        steps=100_000, batch=64, latent=64, accumulate=1, n_dis=1, lr_generator=5e-4, lr_discriminator=5e-4, beta1=0.0,
        beta2=0.9, decay_from=1.0, ema=0.999, standing_batches=16, dequantize=True, diffaugment=(), compile=False,
        log_every=LOG_EVERY, grid_every=500, grid_columns=8, checkpoint_every=500, keep_checkpoints=2,
        collapse_samples=1024, duplicate_ratio=0.25, max_duplicate_rate=0.2, min_coverage=0.05, pinned_ticks=20,
        architecture="pyramid", width=16,
    )  # fmt: skip


def game(settings: runtime.Config) -> Game:
    """A fresh game on noise images."""
    images_u8 = seeds.generator(1, "benchmark").integers(0, 256, (IMAGES, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    labels = np.arange(IMAGES) % CLASSES
    task = Task("bench", images_u8, labels, CLASSES, 1, Path(tempfile.gettempdir()), ())
    return Game(sngan.players(config(), SIZE_PX, 3, CLASSES, 1), task, config(), settings)


class Bare:
    """The least a training step can be: the same players, losses and optimisers on a batch that lies there."""

    def __init__(self, settings: runtime.Config, channels_last: bool = True) -> None:
        self.game, self.settings = game(settings), settings
        images_u8, self.codes = self.game.pool.take(np.arange(64))
        self.real = to_pm1(images_u8)
        self.latents = torch.randn(64, 64)
        if not channels_last:
            self.real = self.real.contiguous(memory_format=torch.contiguous_format)
            for net in (self.game.generator, self.game.discriminator):
                net.to(memory_format=torch.contiguous_format)

    def step(self) -> None:
        """One discriminator and one generator update."""
        play, where = self.game, self.game.where
        play._iterate_norms(True)
        with runtime.autocast(self.settings, where):
            with torch.no_grad():
                fake = play.generator(self.latents, self.codes).float()
            logits = play.discriminator(torch.cat([self.real, fake]), torch.cat([self.codes, self.codes])).float()
            loss = play.players.loss_d(*logits.chunk(2))
        loss.backward()
        play.optimiser_d.step()
        play.optimiser_d.zero_grad(set_to_none=True)
        play._iterate_norms(False)
        for weight in play.weights_d:
            weight.requires_grad_(False)
        with runtime.autocast(self.settings, where):
            fake = play.generator(self.latents, self.codes).float()
            loss = play.players.loss_g(play.discriminator(fake, self.codes).float())
        loss.backward()
        for weight in play.weights_d:
            weight.requires_grad_(True)
        play.optimiser_g.step()
        play.optimiser_g.zero_grad(set_to_none=True)


class Full:
    """The loop's own step, with its tick of the log and its word to the reporter."""

    def __init__(self, settings: runtime.Config) -> None:
        self.game, self.done, self.reporter = game(settings), 0, SilentReporter()

    def step(self) -> None:
        """One step as ops.adversarial.train makes it."""
        self.game.advance(self.done)
        self.done += 1
        if self.done % LOG_EVERY == 0:
            self.reporter.metrics(self.game.tick(self.done), self.done)


def seconds(step: Callable[[], None], steps: int) -> float:
    """Process CPU seconds (all threads) of ``steps`` steps: what other jobs on the machine take does not count."""
    started = time.process_time()
    for _ in range(steps):
        step()
    return time.process_time() - started


def ratios(first: Callable[[], None], second: Callable[[], None], rounds: int, steps: int) -> dict[str, float]:
    """Time of ``first`` over time of ``second``, round by round, the order swapped each round."""
    seconds(first, 3), seconds(second, 3)
    found, times = [], []
    for number in range(rounds):
        pair = (first, second) if number % 2 == 0 else (second, first)
        spent = [seconds(step, steps) for step in pair]
        one, other = spent if number % 2 == 0 else spent[::-1]
        found.append(one / other)
        times.append((one, other))
    best = min(one for one, _ in times) / min(other for _, other in times)
    return {"median": statistics.median(found), "minimum": min(found), "best_of_each": best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    fast = runtime.Config(device="cpu", threads=asked.threads, precision="auto")
    slow = runtime.Config(device="cpu", threads=asked.threads, precision="fp32")
    where = runtime.settle(fast)
    overhead = ratios(Full(fast).step, Bare(fast).step, asked.rounds, asked.steps)
    saved = ratios(Bare(slow, channels_last=False).step, Bare(fast).step, asked.rounds, asked.steps)
    bare = Bare(fast)
    seconds(bare.step, 2)
    wall = time.perf_counter()
    seconds(bare.step, asked.steps)
    result = {
        "full_step_over_bare_step": overhead,
        "fp32_nchw_over_auto_channels_last": saved,
        "bare_step_wall_ms": 1000 * (time.perf_counter() - wall) / asked.steps,
        "bf16": runtime.has_bf16(where),
        "clock": "process CPU seconds",
        "rounds": asked.rounds,
        "steps_a_round": asked.steps,
        "machine": {
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": asked.threads,
            "load_average_1_min": os.getloadavg()[0],
            "torch": torch.__version__,
        },
    }
    files.write_json(RESULTS, result)
    print(files.canonical_json(result), end="")


if __name__ == "__main__":
    main()
