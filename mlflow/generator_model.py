"""A released-from-training generator as MLflow loads and serves it: labels and seeds in, images out. Private zone only.

Self-contained on purpose: the file travels with the model and imports torch, numpy, safetensors and mlflow, nothing of
Understudy, so that a model logged today can be loaded after the code has moved on. It holds no weights and unpickles
nothing: the nets are rebuilt from the names and shapes in ``generator.safetensors``. The same weights, label, seed,
batch size and precision give the same bytes as stage ``sample`` gave (tests/pipelines/test_tracking.py).

Input: a table with ``label`` (str) and, optionally, ``seed`` (int64, as in a synthetic set's manifest: reproduces that
image). Without it, row i is drawn from params ``seed`` and i. Output: uint8 [n, h, w, c].
"""

import contextlib
import hashlib
import json
import re
from pathlib import Path

import mlflow
import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

EPSILON = 1e-5  # torch's batch norm


def derive(seed, *purpose):
    """A 63-bit seed for one purpose (BLAKE2b over its parts)."""
    text = "\x1f".join([str(int(seed)), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class Net:
    """One generator, rebuilt from its weights: float [n, latent], codes int64 [n] → float [n, c, h, w] in [−1, 1]."""

    def __init__(self, tensors, about):
        self.about = about
        self.tensors = {
            name: tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
            for name, tensor in tensors.items()
        }
        kinds = {"layers": self.stack, "blocks": self.residual, "ups": self.plain}
        present = [kind for kind in kinds if self.count(kind)]
        if len(present) != 1:
            raise ValueError(
                f"expected weights of one of {sorted(kinds)}, found {sorted({n.split('.')[0] for n in tensors})}"
            )
        self.forward = kinds[present[0]]

    def count(self, kind):
        """How many parts are numbered under ``kind``: the highest number and one."""
        numbers = [int(found[1]) for name in self.tensors if (found := re.match(rf"{kind}\.(\d+)\.", name))]
        return max(numbers) + 1 if numbers else 0

    def get(self, name):
        return self.tensors.get(name)

    def norm(self, images, name):
        mean, spread = self.tensors[f"{name}.running_mean"], self.tensors[f"{name}.running_var"]
        return F.batch_norm(images, mean, spread, self.get(f"{name}.weight"), self.get(f"{name}.bias"), eps=EPSILON)

    def class_norm(self, images, codes, name):
        plain = self.norm(images, f"{name}.norm")
        gamma = self.tensors[f"{name}.gamma"][codes].to(plain.dtype)[:, :, None, None]
        beta = self.tensors[f"{name}.beta"][codes].to(plain.dtype)[:, :, None, None]
        return torch.addcmul(beta, plain, gamma)

    def conv(self, images, name, padding=1):
        return F.conv2d(images, self.tensors[f"{name}.weight"], self.get(f"{name}.bias"), padding=padding)

    def grow(self, images, name, stride=2, padding=1):
        weight, bias = self.tensors[f"{name}.weight"], self.get(f"{name}.bias")
        return F.conv_transpose2d(images, weight, bias, stride=stride, padding=padding)

    def bottom(self, latents, channels):
        """Linear to the smallest map: float [n, latent] → float [n, channels, b, b]."""
        flat = F.linear(latents, self.tensors["linear.weight"], self.tensors["linear.bias"])
        side = round((flat.shape[1] // channels) ** 0.5)
        return flat.view(-1, channels, side, side).contiguous(memory_format=torch.channels_last)

    def stack(self, latents, codes):
        """DCGAN: transposed convolutions with batch norm and leaky ReLU between (the class has a net of its own)."""
        images = latents[:, :, None, None]
        for number in range(self.count("layers")):
            name = f"layers.{number}"
            if f"{name}.running_mean" in self.tensors:
                images = F.leaky_relu(self.norm(images, name), self.about["slope_generator"])
            elif f"{name}.weight" in self.tensors:
                images = self.grow(images, name) if number else self.grow(images, name, stride=1, padding=0)
        return torch.tanh(images)

    def residual(self, latents, codes):
        """SN-GAN, residual: each block doubles the side."""
        images = self.bottom(latents, self.tensors["blocks.0.shortcut.weight"].shape[1])
        for number in range(self.count("blocks")):
            name = f"blocks.{number}"
            through = F.interpolate(F.relu(self.class_norm(images, codes, f"{name}.norm1")), scale_factor=2)
            through = self.conv(through, f"{name}.conv1")
            through = self.conv(F.relu(self.class_norm(through, codes, f"{name}.norm2")), f"{name}.conv2")
            shortcut = self.conv(images, f"{name}.shortcut", padding=0)
            images = through + F.interpolate(shortcut, scale_factor=2)
        return torch.tanh(self.conv(F.relu(self.norm(images, "norm")), "conv"))

    def plain(self, latents, codes):
        """SN-GAN, standard CNN: transposed convolutions with class-conditional batch norm."""
        images = self.bottom(latents, self.tensors["ups.0.weight"].shape[0])
        images = F.relu(self.class_norm(images, codes, "norms.0"))
        for number in range(self.count("ups")):
            images = F.relu(self.class_norm(self.grow(images, f"ups.{number}"), codes, f"norms.{number + 1}"))
        return torch.tanh(self.conv(images, "conv"))


def read_nets(weights, about):
    """The nets of ``generator.safetensors``: one for all classes, or one for each."""
    tensors = load_file(weights)
    numbers = sorted({int(name.split(".", 1)[0]) for name in tensors})
    return [
        Net({name.split(".", 1)[1]: tensor for name, tensor in tensors.items() if name.startswith(f"{number}.")}, about)
        for number in numbers
    ]


class Generator(mlflow.pyfunc.PythonModel):
    """Draws images; see the top of this file."""

    def load_context(self, context):
        self.about = json.loads(Path(context.artifacts["about"]).read_text())
        self.nets = read_nets(context.artifacts["weights"], self.about)
        self.batch = int(context.model_config["batch"])
        self.bf16 = bool(context.model_config["bf16"])

    def predict(self, context, model_input, params=None):
        labels = [str(label) for label in model_input["label"]]
        unknown = sorted(set(labels) - set(self.about["classes"]))
        if unknown:
            raise ValueError(f"expected labels among {self.about['classes']}, found {unknown}")
        codes = np.array([self.about["classes"].index(label) for label in labels], dtype=np.int64)
        return self.draw(codes, self.seeds(model_input, int((params or {}).get("seed", 0))))

    @staticmethod
    def seeds(table, base):
        given = table["seed"] if "seed" in table else [None] * len(table)
        missing = [value is None or value != value for value in given]  # NaN is not itself
        return [derive(base, "serve", row) if missing[row] else int(value) for row, value in enumerate(given)]

    @torch.no_grad()
    def draw(self, codes, seeds):
        """int64 [n] and n seeds → uint8 [n, h, w, c], in batches of exactly ``batch``, as stage ``sample`` draws."""
        side, colours = int(self.about["size_px"]), int(self.about["channels"])
        images_u8 = np.zeros((len(codes), side, side, colours), np.uint8)
        of_net = codes if len(self.nets) > 1 else np.zeros_like(codes)
        for number, net in enumerate(self.nets):
            rows = np.flatnonzero(of_net == number)
            for start in range(0, len(rows), self.batch):
                part = rows[start : start + self.batch]
                filled = np.concatenate([part, np.repeat(part[:1], self.batch - len(part))])
                images_u8[part] = self.forward(net, codes[filled], [seeds[row] for row in filled])[: len(part)]
        return images_u8

    def forward(self, net, codes, seeds):
        size = int(self.about["latent"])
        latents = torch.stack([torch.randn(size, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        with torch.autocast("cpu", dtype=torch.bfloat16) if self.bf16 else contextlib.nullcontext():
            images_pm1 = net.forward(latents, torch.from_numpy(codes))
        levels = images_pm1.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        return levels.permute(0, 2, 3, 1).contiguous().numpy()


mlflow.models.set_model(Generator())
