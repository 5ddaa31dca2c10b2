"""Trains a tiny family and kills itself where it is told to; run as a process of its own by test_adversarial.py.

``python -m tests.adversarial_victim FOLDER FAMILY``: trains once, then forks a child for every point of death. Each
child trains in a folder of its own and dies by SIGKILL; a second child starts again there and finishes. Prints nothing
but errors.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ops import adversarial_game, adversarial_state, generators
from tests.generators import tiny

STEPS = 6
SETTINGS = {"steps": STEPS, "checkpoint_every": 2, "log_every": 3, "n_dis": 2, "diffaugment": ["translation", "colour"]}


def train(folder: Path, family: str, **changes: Any) -> None:
    """One whole run, or what is left of it: ``folder/model`` and ``folder/checkpoints``."""
    module = generators.load(family)
    config = module.Config.model_validate({**tiny.SETTINGS[family], **SETTINGS, **changes})
    images_u8, labels = tiny.images()
    (folder / "model").mkdir(parents=True, exist_ok=True)
    module.fit(
        images_u8, labels, tiny.CLASSES, config=config, runtime=tiny.RUNTIME, seed=3, out=folder / "model",
        checkpoints=folder / "checkpoints", reporter=tiny.Listener(),
    )  # fmt: skip


def die(owner: Any, name: str, when: Callable[..., bool]) -> None:
    """Make ``owner.name`` fatal in this process for the arguments that ``when`` accepts."""
    alive = getattr(owner, name)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if when(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)
        return alive(*args, **kwargs)

    setattr(owner, name, deadly)


def nth(number: int) -> Callable[..., bool]:
    """A condition that the call with this number (from 0) fulfils."""
    calls = iter(range(10_000))
    return lambda *_: next(calls) == number


def points(family: str) -> dict[str, Callable[[], None]]:
    """Places to die: before a step, between its two players, and inside the writes of a checkpoint.

    Every step for the family with one game; for the one with a game a class some steps of both games, and between them.
    """
    game, state = adversarial_game.Game, adversarial_state
    moves = range(STEPS) if family == "sngan" else (STEPS, STEPS + 3)
    deaths: dict[str, Callable[[], None]] = {}
    for move in moves:
        deaths[f"before-{move}"] = partial(die, game, "advance", nth(move))
        if move % 2 or family != "sngan":
            deaths[f"within-{move}"] = partial(die, game, "generator_step", nth(move))
    for number in (0, 1):
        deaths[f"saving-{number}"] = partial(die, state, "save_file", nth(number))
        # A checkpoint publishes two JSON files inside its folder and then the folder: the third is the one that counts.
        deaths[f"publishing-{number}"] = partial(die, state.files, "_publish", nth(3 * number + 2))
    return deaths


def child(work: Callable[[], None]) -> int:
    """Run ``work`` in a fork; its exit status (negative: killed by that signal)."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work()
            status = 0
        finally:  # an error shows on stderr, and the fork ends here, whatever happened
            if status:
                traceback.print_exc()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(folder: Path, family: str) -> None:
    train(folder / "whole", family)  # here, so that the forks inherit what torch imports on its first step
    for name, kill in points(family).items():
        place = folder / f"killed-{name}"

        def doomed(place: Path = place, kill: Callable[[], None] = kill) -> None:
            kill()
            train(place, family)

        assert child(doomed) == -signal.SIGKILL, name
        assert not (place / "model/generator.safetensors").exists(), name
        assert child(partial(train, place, family)) == 0, name


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
