"""Everything a training run is made of, kept so that a killed one goes on as if nothing had happened.

State of the game: both players (with the spectral norm's u and v and batch norm's buffers), the averaged generator,
both optimisers, the curve so far and the figures of the window in progress. Learning rates are a function of the step,
and every random number is a function of (seed, step), so neither schedulers nor generators of random numbers hold
state. A checkpoint belongs to one identity (settings, machine settings, data, code, seed) and lies in that identity's
folder; the checkpoints of others are neither used nor touched.

A checkpoint is a folder ``<identity>/step-00000500/`` with ``state.safetensors``, ``state.json`` and ``sums.json``
(SHA-256 of the other two), written whole or not at all. It holds the discriminator and must never leave the private
side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ops.core import files
from ops.core.progress import Reporter


def code_digest(sources: Sequence[Path]) -> str:
    """Hex SHA-256 over the source files that decide what a step computes, and torch's version."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(sources, key=lambda source: source.name):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a module under ``prefix.``."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def optimiser_tensors(prefix: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state, flat: ``prefix.<number of the parameter>.<name>``."""
    state = optimiser.state_dict()["state"]
    return {f"{prefix}.{number}.{name}": value for number, values in state.items() for name, value in values.items()}


def restore_module(prefix: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors under ``prefix.`` into the module. Raises RuntimeError for a missing or an unknown one."""
    module.load_state_dict(_under(prefix, tensors), strict=True)


def restore_optimiser(prefix: str, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the flat state back, each moment in its parameter's memory layout (fused kernels walk both side by side)."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _under(prefix, tensors).items():
        number, name = key.split(".", 1)
        parameter = parameters[int(number)]
        if value.shape == parameter.shape and name != "step":
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key[len(prefix) + 1 :]: value for key, value in tensors.items() if key.startswith(prefix + ".")}


class Shelf:
    """The checkpoints of one run: the newest ``keep`` (two or more), of one identity, verified before use."""

    def __init__(self, folder: Path, identity: Mapping[str, str], keep: int, reporter: Reporter) -> None:
        digest = hashlib.sha256(files.canonical_json(dict(identity)).encode()).hexdigest()[:16]
        self.folder, self.identity, self.keep, self.reporter = folder / digest, dict(identity), keep, reporter

    def steps(self) -> list[int]:
        """Steps of the checkpoints that lie here, oldest first."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*"))

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the checkpoint of ``step`` whole, then drop all but the newest ``keep``."""
        plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        with files.atomic_folder(self._path(step)) as partial:
            save_file(plain, partial / "state.safetensors")
            files.write_json(partial / "state.json", {"identity": self.identity, "step": step})
            sums = {name: files.sha256_file(partial / name) for name in ("state.json", "state.safetensors")}
            files.write_json(partial / "sums.json", sums)
        for old in self.steps()[: -self.keep]:
            files.remove(self._path(old))

    def load(self) -> tuple[int, dict[str, Tensor]] | None:
        """The newest whole checkpoint of this identity, or None. Says what it passes over and why."""
        for step in reversed(self.steps()):
            fault = self._fault(self._path(step))
            if fault is None:
                try:
                    return step, load_file(self._path(step) / "state.safetensors")
                except SafetensorError as error:
                    fault = str(error)
            self.reporter.note(f"checkpoint of step {step} passed over: {fault}")
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _fault(self, path: Path) -> str | None:
        try:
            sums = files.read_json(path / "sums.json")
            for name in ("state.json", "state.safetensors"):
                if files.sha256_file(path / name) != sums[name]:
                    return f"{name} is damaged"
            found = files.read_json(path / "state.json")["identity"]
        except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            return f"it is damaged ({type(error).__name__})"
        differing = sorted(key for key in {*self.identity, *found} if self.identity.get(key) != found.get(key))
        return f"it belongs to another {' and '.join(differing)}" if differing else None
