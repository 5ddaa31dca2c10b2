"""The state of one adversarial training run and its moves: a step, a tick of the log, a grid, a settled generator.

Written for speed at small sizes: bfloat16 where the hardware has it, channels-last memory, one discriminator call on
real and fake together, no discriminator gradients in the generator's step, one power iteration of the spectral norm a
discriminator step, and no figure fetched from the device between two ticks of the log.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ops import adversarial_loss, adversarial_state
from ops.adversarial_augment import augment
from ops.adversarial_config import Config, learning_rate
from ops.adversarial_data import Order, Pool, stream, to_pm1, to_u8
from ops.adversarial_ranks import join
from ops.core import pictures, runtime
from ops.core.errors import CallError, UnderstudyError, explain

SOURCES = tuple(sorted(Path(__file__).parent.glob("adversarial*.py")))
GRID_ROWS = 12  # classes shown in a grid


@dataclass(frozen=True)
class Players:
    """Two nets and what they want.

    generator: (z float [n, latent], codes int64 [n]) → images float [n, c, h, w] in [−1, 1].
    discriminator: (images, codes) → logits float [n].
    joint: one discriminator call on real and fake together; False where its batch norm must see them apart.
    """

    generator: nn.Module
    discriminator: nn.Module
    latent: int
    loss_d: Callable[[Tensor, Tensor], Tensor]
    loss_g: Callable[[Tensor], Tensor]
    joint: bool


@dataclass(frozen=True)
class Task:
    """What is trained on, and how it is announced: ``done``/``total`` steps where one fit holds several games."""

    name: str
    images_u8: np.ndarray  # uint8 [n, h, w, c]
    codes: np.ndarray  # int64 [n] in [0, classes)
    classes: int
    seed: int
    checkpoints: Path
    sources: tuple[Path, ...]  # the family's own code files
    done: int = 0
    total: int | None = None


class Diverged(UnderstudyError):
    """A loss or a weight is no longer a finite number. The last good checkpoint is kept; nothing was published."""


class Game:
    """The state of one training run and its moves; :func:`train` decides when they are made."""

    def __init__(self, players: Players, task: Task, config: Config, settings: runtime.Config) -> None:
        self.ranks, self.where = join(runtime.settle(settings))
        self.players, self.config, self.settings, self.task = players, config, settings, task
        if config.batch % (self.ranks.world * config.accumulate):
            expected = f"a batch that divides by {self.ranks.world} ranks × {config.accumulate} micro-batches"
            raise CallError(explain(expected=expected, found=str(config.batch), todo=f"change {task.name}.batch"))
        self.generator = players.generator.to(self.where).to(memory_format=torch.channels_last).train()
        self.discriminator = players.discriminator.to(self.where).to(memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.play_g, self.play_d = self._compiled(self.generator), self._compiled(self.discriminator)
        self.optimiser_g = self._adam(self.generator, config.lr_generator)
        self.optimiser_d = self._adam(self.discriminator, config.lr_discriminator)
        self.norms = [
            part for part in self.discriminator.modules() if isinstance(part, parametrize.ParametrizationList)
        ]
        self.weights_d = [weight for weight in self.discriminator.parameters() if weight.requires_grad]
        self.pairs: tuple[list[Tensor], list[Tensor]] = ([*self.average.parameters()], [*self.generator.parameters()])
        self.pool = Pool(task.images_u8, task.codes, self.where)
        self.order = Order(task.seed, len(self.pool))
        self.window = torch.zeros(3, dtype=torch.float64, device=self._window_device())
        self.curve: list[list[float]] = []

    def _window_device(self) -> torch.device:
        return torch.device("cpu") if self.where.type == "mps" else self.where  # MPS has no float64

    def _compiled(self, net: nn.Module) -> Callable[..., Tensor]:
        if not self.config.compile:
            return net
        return torch.compile(net, mode="reduce-overhead" if self.where.type == "cuda" else "default")

    def _adam(self, net: nn.Module, lr: float) -> torch.optim.Adam:
        betas = (float(self.config.beta1), float(self.config.beta2))
        return torch.optim.Adam(net.parameters(), lr=lr, betas=betas, fused=self.where.type in ("cpu", "cuda") or None)

    # One step --------------------------------------------------------------------------------------------------------

    def advance(self, step: int) -> None:
        """``n_dis`` discriminator steps, one generator step, the average. Fetches nothing from the device."""
        if self.config.compile and self.where.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        for group in self.optimiser_d.param_groups:
            group["lr"] = learning_rate(self.config.lr_discriminator, step, self.config)
        for group in self.optimiser_g.param_groups:
            group["lr"] = learning_rate(self.config.lr_generator, step, self.config)
        for turn in range(self.config.n_dis):
            self.discriminator_step(step, turn)
        self.generator_step(step)
        self.follow(step)

    def discriminator_step(self, step: int, turn: int) -> None:
        """Real against fake; the spectral norm's power iteration runs in the first micro-batch only."""
        count = self.config.batch
        rows = self.order.rows((step * self.config.n_dis + turn) * count, count)
        latents, codes = self.draw("discriminator", step, turn)
        for part, cut in enumerate(self._parts()):
            self._iterate_norms(part == 0)
            images_u8, real_codes = self.pool.take(rows[cut])
            noise = stream(self.task.seed, self.where, "noise", step, turn, cut.start)
            real = to_pm1(images_u8, noise if self.config.dequantize else None)
            with runtime.autocast(self.settings, self.where):
                with torch.no_grad():
                    fake = self.play_g(latents[cut], codes[cut])
                real_logits, fake_logits = self._judge(real, real_codes, fake.float(), codes[cut], noise)
                loss = self.players.loss_d(real_logits, fake_logits)
            (loss / self.config.accumulate).backward()
            figures = torch.stack([loss.detach(), adversarial_loss.accuracy(real_logits, fake_logits)])
            self.window[::2] += figures.to(self.window) / (self.config.n_dis * self.config.accumulate)
        self.ranks.average_gradients(self.weights_d)
        self.optimiser_d.step()
        self.optimiser_d.zero_grad(set_to_none=True)

    def generator_step(self, step: int) -> None:
        """Fool the discriminator, whose weights take no gradient and whose spectral norm stands still."""
        latents, codes = self.draw("generator", step, 0)
        for weight in self.weights_d:
            weight.requires_grad_(False)
        self._iterate_norms(False)
        for cut in self._parts():
            noise = stream(self.task.seed, self.where, "noise", step, "generator", cut.start)
            with runtime.autocast(self.settings, self.where):
                fake = augment(self.play_g(latents[cut], codes[cut]).float(), self.config.diffaugment, noise)
                loss = self.players.loss_g(self.play_d(fake, codes[cut]).float())
            (loss / self.config.accumulate).backward()
            self.window[1] += loss.detach().to(self.window) / self.config.accumulate
        for weight in self.weights_d:
            weight.requires_grad_(True)
        self.ranks.average_gradients(self.generator.parameters())
        self.optimiser_g.step()
        self.optimiser_g.zero_grad(set_to_none=True)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the averaged generator: decay min(ema, (1 + t) / (10 + t)), so that short runs forget their start."""
        decay = min(self.config.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.pairs[0], self.pairs[1], 1 - decay)

    @torch.no_grad()
    def gather(self, step: int) -> None:
        """Make the state one that may be kept: finite, and with the same batch norm statistics on every rank."""
        if not (bool(torch.isfinite(self.window).all()) and self.healthy()):
            raise Diverged(self._epitaph(step, *self.window[:2].tolist()))
        for net in (self.generator, self.discriminator):
            self.ranks.average(buffer for buffer in net.buffers() if buffer.is_floating_point())

    def draw(self, player: str, step: int, turn: int) -> tuple[Tensor, Tensor]:
        """Latents float [batch, latent] ~ N(0, I) and codes int64 [batch], uniform: those of all ranks."""
        source = stream(self.task.seed, self.where, "latent", player, step, turn)
        latents = torch.randn(self.config.batch, self.players.latent, device=self.where, generator=source)
        codes = torch.randint(self.task.classes, (self.config.batch,), device=self.where, generator=source)
        return latents, codes

    def _parts(self) -> list[slice]:
        """This rank's micro-batches as slices of the whole batch."""
        size = self.config.batch // (self.ranks.world * self.config.accumulate)
        first = self.ranks.rank * self.config.accumulate
        return [slice(part * size, (part + 1) * size) for part in range(first, first + self.config.accumulate)]

    def _judge(
        self, real: Tensor, real_codes: Tensor, fake: Tensor, codes: Tensor, noise: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        both = augment(torch.cat([real, fake]), self.config.diffaugment, noise)
        if self.players.joint:
            real_logits, fake_logits = self.play_d(both, torch.cat([real_codes, codes])).float().chunk(2)
            return real_logits, fake_logits
        real, fake = both.chunk(2)
        return self.play_d(real, real_codes).float(), self.play_d(fake, codes).float()

    def _iterate_norms(self, on: bool) -> None:
        for norm in self.norms:
            norm.train(on)

    # What is seen and kept -------------------------------------------------------------------------------------------

    def tick(self, step: int) -> dict[str, float]:
        """Close the window of the log after ``step`` steps. Raises Diverged for a loss or weight that is not finite."""
        self.ranks.average([self.window])
        since = step - (int(self.curve[-1][0]) if self.curve else 0)
        loss_d, loss_g, accuracy = (self.window / since).tolist()
        self.window.zero_()
        if not (np.isfinite([loss_d, loss_g]).all() and self.healthy()):
            raise Diverged(self._epitaph(step, loss_d, loss_g))
        self.curve.append([float(step), loss_d, loss_g, accuracy])
        return {"loss_d": loss_d, "loss_g": loss_g, "accuracy_d": accuracy}

    def healthy(self) -> bool:
        """Whether every weight of both players and of the average is finite."""
        weights = [*self.generator.parameters(), *self.discriminator.parameters(), *self.average.parameters()]
        return bool(torch.isfinite(torch.stack([*torch._foreach_norm([w.detach() for w in weights])])).all())

    def _epitaph(self, step: int, loss_d: float, loss_g: float) -> str:
        return "DIVERGED: " + explain(
            expected=f"finite losses and weights in {self.task.name} up to step {step}",
            found=f"loss_d {loss_d:g}, loss_g {loss_g:g}, weights {'finite' if self.healthy() else 'not finite'}",
            todo=f"lower {self.task.name}.lr_generator and lr_discriminator; the last good checkpoint is kept",
        )

    def tensors(self) -> dict[str, Tensor]:
        """The whole state, flat."""
        return {
            **adversarial_state.module_tensors("generator", self.generator),
            **adversarial_state.module_tensors("discriminator", self.discriminator),
            **adversarial_state.module_tensors("average", self.average),
            **adversarial_state.optimiser_tensors("optimiser_g", self.optimiser_g),
            **adversarial_state.optimiser_tensors("optimiser_d", self.optimiser_d),
            "window": self.window,
            "curve": torch.tensor(self.curve, dtype=torch.float64).reshape(-1, 4),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up the state that :meth:`tensors` gave."""
        adversarial_state.restore_module("generator", self.generator, tensors)
        adversarial_state.restore_module("discriminator", self.discriminator, tensors)
        adversarial_state.restore_module("average", self.average, tensors)
        adversarial_state.restore_optimiser("optimiser_g", self.optimiser_g, tensors)
        adversarial_state.restore_optimiser("optimiser_d", self.optimiser_d, tensors)
        self.window.copy_(tensors["window"])
        self.curve = tensors["curve"].tolist()

    def identity(self) -> dict[str, str]:
        """What a checkpoint must agree with."""
        machine = f"{self.settings.digest()} {self.where.type} {self.ranks.world}"
        code = adversarial_state.code_digest([*SOURCES, *self.task.sources])
        seed = str(self.task.seed)
        return {
            "settings": self.config.digest(),
            "machine": machine,
            "data": self.pool.digest(),
            "code": code,
            "seed": seed,
        }

    @torch.no_grad()
    def settled(self) -> nn.Module:
        """A copy of the averaged generator in eval mode, its batch norm set by ``standing_batches`` of its own samples.

        The running statistics of the generator in play belong to other weights; those of the averaged one are taken
        afresh ("standing statistics", Brock et al. 2019, app. D).
        """
        net = copy.deepcopy(self.average).train()
        norms = [part for part in net.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # plain mean over the batches
        for number in range(self.config.standing_batches if norms else 0):
            latents, codes = self.draw("standing", 0, number)
            with runtime.autocast(self.settings, self.where):
                net(latents, codes)
        return net.eval()

    @torch.no_grad()
    def grid(self, net: nn.Module) -> np.ndarray:
        """Samples from fixed latents, a class a row: uint8 [H, W, 3]."""
        columns, rows = self.config.grid_columns, min(self.task.classes, GRID_ROWS)
        source = stream(self.task.seed, self.where, "grid")
        latents = torch.randn(rows * columns, self.players.latent, device=self.where, generator=source)
        codes = torch.arange(rows, device=self.where).repeat_interleave(columns)
        with runtime.autocast(self.settings, self.where):
            return pictures.grid(to_u8(net(latents, codes)), columns)
