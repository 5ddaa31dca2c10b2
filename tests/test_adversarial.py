"""The training loop: what it promises about resume, divergence, randomness, and who may see what."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ops import adversarial, adversarial_augment, adversarial_collapse, adversarial_data, adversarial_loss
from ops.adversarial_config import learning_rate
from ops.adversarial_game import Game
from ops.core import files, runtime
from ops.core.errors import CallError
from ops.generators import sngan
from tests.generators import tiny

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def config_of(**changes: Any) -> sngan.Config:
    return sngan.Config.model_validate({**tiny.SETTINGS["sngan"], **changes})


def task_of(folder: Path, seed: int = 3, name: str = "sngan", shade: int = 0) -> adversarial.Task:
    images_u8, labels = tiny.images()
    return adversarial.Task(name, images_u8 + np.uint8(shade), labels, 2, seed, folder, (Path(sngan.__file__),))


def play(folder: Path, listener: tiny.Listener | None = None, **changes: Any) -> adversarial.Outcome:
    config = config_of(**changes)
    pair = sngan.players(config, 8, 3, 2, 3)
    return adversarial.train(pair, task_of(folder), config, tiny.RUNTIME, listener or tiny.Listener())


def game_of(folder: Path, settings: runtime.Config = tiny.RUNTIME, **changes: Any) -> Game:
    config = config_of(**changes)
    return Game(sngan.players(config, 8, 3, 2, 3), task_of(folder), config, settings)


def weights(net: torch.nn.Module) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in net.state_dict().values())


def shelf_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/step-*"))


# Resume ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["sngan", "dcgan"])
def test_killed_anywhere_and_started_again_ends_with_the_same_bytes(family: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.adversarial_victim", str(tmp_path), family]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr
    killed = sorted(tmp_path.glob("killed-*"))
    assert len(killed) == {"sngan": 13, "dcgan": 8}[family]
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole/model").iterdir()}
    assert {"generator.safetensors", "curves.csv", "samples.png"} <= set(expected)
    for folder in killed:
        assert {path.name: path.read_bytes() for path in (folder / "model").iterdir()} == expected, folder.name


def test_checkpoints_of_different_steps_differ_so_that_equal_bytes_mean_something(tmp_path: Path) -> None:
    play(tmp_path)
    one, other = (load_file(folder / "state.safetensors") for folder in shelf_of(tmp_path))
    assert one.keys() == other.keys()
    for player in ("generator", "discriminator", "average", "optimiser_g", "optimiser_d"):
        moved = [name for name in one if name.startswith(player) and not torch.equal(one[name], other[name])]
        assert moved, player


def test_a_run_that_forgets_its_optimiser_ends_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = play(tmp_path / "whole")
    play(tmp_path / "half", checkpoint_every=2)
    files.remove(shelf_of(tmp_path / "half")[-1])
    monkeypatch.setattr("ops.adversarial_state.restore_optimiser", lambda *_: None)
    assert weights(play(tmp_path / "half", checkpoint_every=2).generator) != weights(expected.generator)


def test_a_checkpoint_holds_every_part_of_the_state(tmp_path: Path) -> None:
    game = game_of(tmp_path)
    game.advance(0)
    names = set(game.tensors())
    for net, prefix in (
        (game.generator, "generator"),
        (game.discriminator, "discriminator"),
        (game.average, "average"),
    ):
        assert {f"{prefix}.{name}" for name in net.state_dict()} <= names
    assert any(name.endswith("inner._u") for name in names)
    assert any(name.endswith("running_var") for name in names)
    for prefix, net in (("optimiser_g", game.generator), ("optimiser_d", game.discriminator)):
        for number, _ in enumerate(net.parameters()):
            assert {f"{prefix}.{number}.{part}" for part in ("step", "exp_avg", "exp_avg_sq")} <= names
    assert {"window", "curve"} <= names


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path: Path) -> None:
    expected = play(tmp_path, keep_checkpoints=3)
    newest, older = shelf_of(tmp_path)[-1], shelf_of(tmp_path)[-2]
    for name in ("state.safetensors", "state.json", "sums.json"):
        intact = (newest / name).read_bytes()
        flipped = bytearray(intact)
        flipped[len(flipped) // 2] ^= 4
        (newest / name).write_bytes(bytes(flipped))
        listener = tiny.Listener()
        assert weights(play(tmp_path, listener, keep_checkpoints=3).generator) == weights(expected.generator)
        assert "checkpoint of step 6 passed over" in listener.notes[0]
        assert f"goes on from step {int(older.name[5:])}" in listener.notes[1]


def test_a_checkpoint_of_other_settings_data_or_seed_is_not_used(tmp_path: Path) -> None:
    play(tmp_path)
    config = config_of()
    for other in (config_of(lr_generator=1e-4), config):
        for shade, seed in ((0, 3), (1, 3), (0, 4)):
            if other is config and (shade, seed) == (0, 3):
                continue
            listener = tiny.Listener()
            task = task_of(tmp_path, seed=seed, shade=shade)
            adversarial.train(sngan.players(other, 8, 3, 2, 3), task, other, tiny.RUNTIME, listener)
            assert not any("goes on" in note for note in listener.notes)


def test_a_finished_run_started_again_only_reads_its_last_checkpoint(tmp_path: Path) -> None:
    expected, listener = play(tmp_path), tiny.Listener()
    assert weights(play(tmp_path, listener).generator) == weights(expected.generator)
    assert listener.figures == []


def test_at_least_two_checkpoints_are_kept_and_no_more_than_asked(tmp_path: Path) -> None:
    play(tmp_path)
    assert [folder.name for folder in shelf_of(tmp_path)] == ["step-00000005", "step-00000006"]


# Watchdogs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["loss", "weight"])
def test_a_number_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = Game.generator_step

    def poisoned(self: Game, step: int) -> None:
        alive(self, step)
        if step == 4 and where == "loss":
            self.window[1] += float("nan")
        if step == 4 and where == "weight":
            with torch.no_grad():
                next(self.generator.parameters()).flatten()[0] = float("inf")

    monkeypatch.setattr(Game, "generator_step", poisoned)
    with pytest.raises(adversarial.Diverged, match="DIVERGED") as raised:
        play(tmp_path)
    assert "sngan.lr_generator" in str(raised.value)
    kept = shelf_of(tmp_path)
    assert kept[-1].name == "step-00000004"
    for folder in kept:
        assert all(torch.isfinite(tensor).all() for tensor in load_file(folder / "state.safetensors").values())


def test_a_diverged_training_publishes_nothing(tmp_path: Path) -> None:
    images_u8, labels = tiny.images()
    config = config_of(lr_generator=1e30, lr_discriminator=1e30, steps=10)
    with pytest.raises(adversarial.Diverged):
        sngan.fit(
            images_u8, labels, tiny.CLASSES, config=config, runtime=tiny.RUNTIME, seed=1, out=tmp_path / "out",
            checkpoints=tmp_path / "checkpoints", reporter=tiny.Listener(),
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_a_constant_and_a_one_class_generator_are_called_collapsed_and_fresh_images_are_not() -> None:
    real, labels = tiny.images(200, seed=1)
    fresh, fresh_labels = tiny.images(200, seed=2)
    healthy = adversarial_collapse.figures(fresh, fresh_labels, real, labels, 0.25)
    assert healthy["duplicate_rate"] == 0
    assert "support_birthday" not in healthy
    assert healthy["coverage_min_class"] > 0.9
    assert healthy["label_agreement_min_class"] == 1
    constant = adversarial_collapse.figures(
        np.repeat(fresh[:2], 100, axis=0), np.repeat([0, 1], 100), real, labels, 0.25
    )
    assert constant["duplicate_rate"] == 1
    assert constant["support_birthday"] == 8  # the second image of each class repeats the first: 2² + 2²
    one_class = adversarial_collapse.figures(fresh, 1 - fresh_labels, real, labels, 0.25)
    assert one_class["label_agreement_min_class"] == 0
    assert one_class["coverage_min_class"] == 0


def test_a_pinned_discriminator_is_counted_by_its_longest_run() -> None:
    curve = np.array([[step, 0.0, 0.0, accuracy] for step, accuracy in enumerate([1.0, 0.8, 0.5, 0.99, 0.55, 0.7])])
    assert adversarial_collapse.pinned_ticks(curve) == 3


# Moves ----------------------------------------------------------------------------------------------------------------


def test_the_generators_step_leaves_the_discriminator_alone(tmp_path: Path) -> None:
    game = game_of(tmp_path)
    game.discriminator_step(0, 0)
    before, mine = weights(game.discriminator), weights(game.generator)
    game.generator_step(0)
    assert weights(game.discriminator) == before
    assert weights(game.generator) != mine
    assert all(weight.grad is None and weight.requires_grad for weight in game.discriminator.parameters())


def test_one_power_iteration_a_discriminator_step_whatever_the_micro_batches(tmp_path: Path) -> None:
    whole, parts = game_of(tmp_path), game_of(tmp_path, accumulate=4)
    for game in (whole, parts):
        game.discriminator_step(0, 0)
    for (name, one), other in zip(whole.discriminator.named_buffers(), parts.discriminator.buffers(), strict=True):
        assert torch.equal(one, other), name


def test_the_spectral_norm_of_every_discriminator_layer_is_near_one(tmp_path: Path) -> None:
    game = game_of(tmp_path)
    for step in range(5):
        game.advance(step)
    layers = [part for part in game.discriminator.modules() if isinstance(part, torch.nn.Conv2d | torch.nn.Linear)]
    assert layers
    for layer in layers:
        sigma = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item()
        assert sigma == pytest.approx(1.0, abs=0.1)


def test_the_average_follows_with_its_decay(tmp_path: Path) -> None:
    game = game_of(tmp_path, ema=0.9)
    old = [weight.clone() for weight in game.average.parameters()]
    game.advance(1000)
    for before, now, target in zip(old, game.average.parameters(), game.generator.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * before + 0.1 * target.detach())


def test_drawing_a_grid_or_settling_changes_nothing_in_the_game(tmp_path: Path) -> None:
    game = game_of(tmp_path)
    game.advance(0)
    before = {name: tensor.clone() for name, tensor in game.tensors().items()}
    grid = game.grid(game.settled())
    assert grid.shape == (2 * 9 - 1, 3 * 9 - 1, 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in game.tensors().items())
    np.testing.assert_array_equal(grid, game.grid(game.settled()))


def test_building_players_leaves_the_global_generator_of_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    sngan.players(config_of(), 8, 3, 2, 3)
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of accumulate"):
        config_of(accumulate=3)


def test_learning_rates_fall_linearly_from_where_they_are_told() -> None:
    config = config_of(steps=100, decay_from=0.6)
    rates = [learning_rate(1.0, step, config) for step in (0, 59, 60, 80, 99)]
    assert rates == pytest.approx([1, 1, 1, 0.5, 1 / 40])
    assert learning_rate(1.0, 99, config_of(steps=100, decay_from=1.0)) == 1


def test_the_run_is_seen_while_it_runs(tmp_path: Path) -> None:
    listener = tiny.Listener()
    play(tmp_path, listener, steps=24, grid_every=10, log_every=6, checkpoint_every=12)
    assert [done for _, done, _, _ in listener.told] == [10, 20, 24]
    assert listener.told[-1][0] == "train sngan"
    assert {"loss_d", "loss_g", "accuracy_d"} == set(listener.told[-1][3])
    assert [step for step, _ in listener.figures] == [6, 12, 18, 24]
    assert [step for _, step, _ in listener.images] == [10, 20, 24]


# What goes in ---------------------------------------------------------------------------------------------------------


def test_every_epoch_shows_every_image_once_in_a_new_order() -> None:
    order = adversarial_data.Order(1, 10)
    first, second = order.rows(0, 10), order.rows(10, 10)
    assert sorted(first) == sorted(second) == list(range(10))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(adversarial_data.Order(1, 10).rows(7, 25)[3:13], second)


def test_grey_levels_survive_the_way_to_pm1_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    images_pm1 = adversarial_data.to_pm1(torch.from_numpy(levels).permute(0, 3, 1, 2))
    assert (images_pm1.min(), images_pm1.max()) == (-1, 1)
    np.testing.assert_array_equal(adversarial_data.to_u8(images_pm1), levels)
    spread = adversarial_data.to_pm1(torch.from_numpy(levels).permute(0, 3, 1, 2), torch.Generator().manual_seed(1))
    assert 0 < (spread - images_pm1).abs().max() <= 0.5 / 127.5 + 1e-6


def test_a_pool_knows_its_data() -> None:
    images_u8, labels = tiny.images()
    pool = adversarial_data.Pool(images_u8, labels, CPU)
    taken, codes = pool.take(np.array([3, 0]))
    np.testing.assert_array_equal(taken.permute(0, 2, 3, 1).numpy(), images_u8[[3, 0]])
    assert codes.tolist() == labels[[3, 0]].tolist()
    assert taken.is_contiguous(memory_format=torch.channels_last)
    changed = images_u8.copy()
    changed[5, 0, 0, 0] ^= 1
    assert adversarial_data.Pool(changed, labels, CPU).digest() != pool.digest()
    assert adversarial_data.Pool(images_u8, 1 - labels, CPU).digest() != pool.digest()


@pytest.mark.parametrize("kind", ["colour", "translation", "cutout"])
def test_augmentation_is_repeatable_differs_between_images_and_lets_the_gradient_through(kind: Any) -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    same = images[:1].expand(4, -1, -1, -1)
    noise = torch.Generator()
    one = adversarial_augment.augment(same, [kind], noise.manual_seed(7))
    assert torch.equal(one, adversarial_augment.augment(same, [kind], noise.manual_seed(7)))
    assert not torch.equal(one[0], one[1])
    assert one.shape == images.shape
    one.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_translation_moves_pixels_by_an_eighth_at_most_and_fills_with_zero() -> None:
    images = torch.zeros(64, 1, 16, 16)
    images[:, :, 8, 8] = 1
    moved = adversarial_augment.augment(images, ["translation"], torch.Generator().manual_seed(2))
    assert (moved.sum(dim=(1, 2, 3)) == 1).all()
    places = moved.nonzero()[:, 2:]
    assert int((places - 8).abs().max()) == 2
    assert len(torch.unique(places, dim=0)) > 15


def test_losses_agree_with_their_definitions() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.0])
    assert adversarial_loss.hinge_d(real, fake).item() == pytest.approx(0.25 + 0.5)
    assert adversarial_loss.hinge_g(fake).item() == pytest.approx(1.0)
    expected = torch.nn.functional.binary_cross_entropy_with_logits
    both = expected(real, torch.ones(2)) + expected(fake, torch.zeros(2))
    torch.testing.assert_close(adversarial_loss.nonsaturating_d(real, fake), both)
    torch.testing.assert_close(adversarial_loss.nonsaturating_g(fake), expected(fake, torch.ones(2)))
    assert adversarial_loss.accuracy(real, fake).item() == pytest.approx(0.75)


# Machines -------------------------------------------------------------------------------------------------------------


def test_two_ranks_under_torchrun_play_the_game_of_one(tmp_path: Path) -> None:
    """Without batch norm in the discriminator its gradient is the mean of the ranks' gradients, whatever the cut."""
    script = (
        "import sys; from pathlib import Path; from ops.adversarial_game import Game\n"
        "from tests.test_adversarial import game_of; from safetensors.torch import save_file\n"
        "game = game_of(Path(sys.argv[1])); game.discriminator_step(0, 0)\n"
        "tensors = {n: t.detach().contiguous() for n, t in game.discriminator.state_dict().items()}\n"
        "save_file(tensors, Path(sys.argv[1]) / f'{game.ranks.rank}.safetensors')\n"
    )
    (tmp_path / "play.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path / "play.py"), str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    alone = game_of(tmp_path)
    with torch.no_grad():  # fakes drawn apart: batch norm sees halves, as it does on the ranks
        whole = alone.play_g
        alone.play_g = lambda z, codes: torch.cat(
            [whole(*half) for half in zip(z.chunk(2), codes.chunk(2), strict=True)]
        )
    before = {name: tensor.clone() for name, tensor in alone.discriminator.state_dict().items()}
    alone.discriminator_step(0, 0)
    for name, tensor in alone.discriminator.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], tensor, atol=2e-5, rtol=1e-3)
    assert any(not torch.equal(before[name], first[name]) for name in before)


def test_a_batch_that_ranks_cannot_share_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ops.adversarial_ranks import Ranks

    monkeypatch.setattr("ops.adversarial_game.join", lambda where: (Ranks(0, 3), where))
    with pytest.raises(CallError, match="3 ranks"):
        game_of(tmp_path)


@pytest.mark.cuda
def test_training_runs_on_cuda(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    settings = runtime.Config(device="cuda", threads=1, precision="auto")
    config = config_of(steps=20, diffaugment=["colour", "translation", "cutout"])
    outcome = adversarial.train(sngan.players(config, 8, 3, 2, 3), task_of(tmp_path), config, settings, tiny.Listener())
    assert next(outcome.generator.parameters()).is_cuda
    assert np.isfinite(outcome.curve).all()
