"""The one adversarial training loop: a generator and a discriminator, any loss, exact resume.

A family brings its two players and says what they want (:class:`Players`); this module plays
(``adversarial_game`` holds the moves, ``adversarial_state`` what is kept, ``adversarial_config`` the settings).
Killed at any step and started again, a run on CPU ends with the same bytes as one left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ops import adversarial_collapse, adversarial_state
from ops.adversarial_config import Config
from ops.adversarial_game import Diverged, Game, Players, Task
from ops.core import runtime
from ops.core.errors import UnderstudyError, explain
from ops.core.progress import Reporter

__all__ = ["Config", "Diverged", "Game", "Outcome", "Players", "Task", "seeded", "train"]

SPOKEN_EVERY = 10  # steps between two calls of reporter.progress


@dataclass(frozen=True)
class Outcome:
    """The averaged generator, ready to draw (eval mode), and the curve float64 [k, 4]: step, losses, accuracy."""

    generator: nn.Module
    curve: np.ndarray
    first: bool  # whether this process is the one that writes


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Build nets under a seed of their own and leave the global generator of random numbers as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train(players: Players, task: Task, config: Config, settings: runtime.Config, reporter: Reporter) -> Outcome:
    """Play ``config.steps`` steps from the newest checkpoint that fits, or from the start.

    Raises Diverged where a loss or weight stops being finite, CallError where the batch does not divide.
    """
    game = Game(players, task, config, settings)
    shelf = adversarial_state.Shelf(task.checkpoints, game.identity(), config.keep_checkpoints, reporter)
    step = _resume(game, shelf, reporter)
    speaks, total = game.ranks.first, task.total or config.steps
    figures: dict[str, float] = {}
    while step < config.steps:
        game.advance(step)
        step += 1
        last = step == config.steps
        if last or step % config.log_every == 0:
            figures = game.tick(step)
            if speaks:
                reporter.metrics(figures, task.done + step)
        if speaks and (last or step % SPOKEN_EVERY == 0):
            reporter.progress(f"train {task.name}", task.done + step, total, **figures)
        if speaks and not last and step % config.grid_every == 0:
            reporter.image("samples", game.grid(game.settled()), task.done + step)
        if last or step % config.checkpoint_every == 0:
            game.gather(step)
            if speaks:
                shelf.save(step, game.tensors())
            game.ranks.wait()
    return _outcome(game, step, reporter)


def _resume(game: Game, shelf: adversarial_state.Shelf, reporter: Reporter) -> int:
    """Take up the newest checkpoint that fits; the step it was taken at, 0 where there is none."""
    game.ranks.wait()
    found = shelf.load()
    step = game.ranks.agree(found[0] if found else 0, game.where)
    if (found[0] if found else 0) != step:
        todo = "give all ranks the same state folder"
        raise UnderstudyError(
            explain(expected=f"the checkpoint of step {step} on every rank", found="another", todo=todo)
        )
    if found:
        game.restore(found[1])
        if game.ranks.first:
            reporter.note(f"{game.task.name} goes on from step {step}")
    return step


def _outcome(game: Game, step: int, reporter: Reporter) -> Outcome:
    net, curve = game.settled(), np.array(game.curve, dtype=np.float64).reshape(-1, 4)
    pinned = adversarial_collapse.pinned_ticks(curve)
    if game.ranks.first:
        reporter.image("samples", game.grid(net), game.task.done + step)
        if pinned >= game.config.pinned_ticks:
            reporter.note(f"the discriminator of {game.task.name} was pinned for {pinned} ticks of the log")
    return Outcome(net, curve, game.ranks.first)
