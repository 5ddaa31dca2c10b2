"""Where and how numbers are computed: device, threads, precision. Chosen from settings and what the hardware is able
to do, never from a timing, so that the same settings on the same kind of machine give the same bytes."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch
from pydantic import Field

from ops.core.config import StrictModel
from ops.core.errors import CallError, explain


class Config(StrictModel):
    """The block ``runtime``."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: cuda, then mps, then cpu")
    threads: int = Field(2, ge=1, description="CPU threads; part of the result's identity")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 autocast where hardware has it")


def device(config: Config) -> torch.device:
    """The device to use. Raises CallError where the one asked for is absent."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if config.device == "auto":
        return torch.device(next(name for name, present in have.items() if present))
    if not have[config.device]:
        found = ", ".join(name for name, present in have.items() if present)
        raise CallError(explain(expected=f"a {config.device} device", found=found, todo="set runtime.device: auto"))
    return torch.device(config.device)


def has_bf16(where: torch.device) -> bool:
    """Whether bfloat16 arithmetic is native there (CPU: AVX512_BF16 or AMX; CUDA: compute capability 8.0 or later)."""
    if where.type == "cuda":
        return torch.cuda.get_device_capability(where) >= (8, 0)
    if where.type == "cpu":
        capabilities = torch.backends.cpu.get_cpu_capability()
        return capabilities.startswith("AVX512") and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False


def autocast(config: Config, where: torch.device) -> contextlib.AbstractContextManager[object]:
    """A context in which convolutions and products run in bfloat16 where settings and hardware say so."""
    wanted = config.precision == "bf16" or (config.precision == "auto" and has_bf16(where))
    return torch.autocast(where.type, dtype=torch.bfloat16) if wanted else contextlib.nullcontext()


def settle(config: Config) -> torch.device:
    """Apply the settings to this process (threads, fixed matrix precision) and return the device."""
    torch.set_num_threads(config.threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    return device(config)
