"""The settings that every adversarial family's block holds."""

from __future__ import annotations

from pydantic import Field, model_validator

from ops.adversarial_augment import Augmentation
from ops.core.config import StrictModel


class Config(StrictModel):
    """What every adversarial family's block holds; families add what is theirs."""

    steps: int = Field(..., ge=1, description="generator steps")
    batch: int = Field(..., ge=2, description="images a step, over all ranks and micro-batches")
    latent: int = Field(..., ge=1, description="numbers in a latent, drawn from N(0, I)")
    accumulate: int = Field(..., ge=1, description="micro-batches a step; lowers memory, not the batch")
    n_dis: int = Field(..., ge=1, description="discriminator steps a generator step")
    lr_generator: float = Field(..., gt=0, description="Adam step size of the generator")
    lr_discriminator: float = Field(..., gt=0, description="Adam step size of the discriminator")
    beta1: float = Field(..., ge=0, lt=1, description="Adam, first moment")
    beta2: float = Field(..., ge=0, lt=1, description="Adam, second moment")
    decay_from: float = Field(..., ge=0, le=1, description="share of the steps after which both lr fall linearly to 0")
    ema: float = Field(..., ge=0, lt=1, description="decay of the averaged generator, the one that is kept")
    standing_batches: int = Field(..., ge=1, description="batches that set the averaged generator's batch norm")
    dequantize: bool = Field(..., description="spread each grey level over its width (uniform noise)")
    diffaugment: tuple[Augmentation, ...] = Field(..., description="of colour, translation, cutout; [] is off")
    compile: bool = Field(..., description="torch.compile (with CUDA graphs on CUDA); pays on GPUs, not on CPUs")
    log_every: int = Field(..., ge=1, le=200, description="steps between ticks of curve and watchdogs")
    grid_every: int = Field(..., ge=1, description="steps between sample grids")
    grid_columns: int = Field(..., ge=1, le=32, description="samples of a class in a grid")
    checkpoint_every: int = Field(..., ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(..., ge=2, description="checkpoints kept")
    collapse_samples: int = Field(..., ge=16, description="samples, and real images, that collapse is measured on")
    duplicate_ratio: float = Field(..., gt=0, lt=1, description="closer than this × real neighbours is a duplicate")
    max_duplicate_rate: float = Field(..., ge=0, le=1, description="more duplicates than this is called a collapse")
    min_coverage: float = Field(..., ge=0, le=1, description="less coverage of a class than this is called a collapse")
    pinned_ticks: int = Field(..., ge=1, description="ticks of a pinned discriminator before it is called so")

    @model_validator(mode="after")
    def _divides(self) -> Config:
        if self.batch % self.accumulate:
            raise ValueError(f"batch ({self.batch}) must be a multiple of accumulate ({self.accumulate})")
        return self


def learning_rate(base: float, step: int, config: Config) -> float:
    """``base`` until ``decay_from`` × steps, then linearly towards 0, which the step after the last one would reach."""
    start = config.decay_from * config.steps
    return base if step < start else base * (config.steps - step) / max(config.steps - start, 1)
