"""Stages ``attack-images`` and ``controls``: every attack against a release, and against ones whose answer is known.

The list of attacks, their settings, the detector's and the feature net's bytes are hashed before the first score is
read, and the controls carry the same hash: an attack that was tuned after a look at its scores, or that no control has
covered, is found out by the judge.

What is written is for the private side: counts, bounds and thinned curves, no per-record score, no private identifier.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ops import attacks as registry
from ops.attacks import _controls, _plants
from ops.attacks._trial import Bench, Config, census_figures, membership, why_not
from ops.attacks._view import Embedder, View, read
from ops.core import files, runtime, seeds
from ops.core.config import block
from ops.core.errors import CallError, explain
from ops.core.imageset import ImageSet
from ops.core.progress import Reporter, SilentReporter
from ops.metrics import copies

SILENT = SilentReporter()


def attack(
    threat: str, family: str, synthetic: Path, filtered: Path, train: Path, audit: Path, reference: Path,
    features: Path, attacks: Mapping[str, Any], copies: copies.Config, config: Config, runtime: runtime.Config,
    seed: int, *, out: Path, reporter: Reporter = SILENT,
) -> dict[str, Any]:  # fmt: skip
    """Run every attack of one threat model and write ``out``: ``<attack>.json``, ``<attack>_roc.csv`` and
    ``summary.json``. Returns the summary with each attack's figures under ``<attack>_…``.

    Raises CallError for an unknown attack or setting, or where no attack of that threat is set.
    """
    bench = _bench(threat, attacks, features, copies, config, seed, reporter)
    view = _view(train, audit, reference, features, copies, runtime, bench)
    drawn, released = (read(folder, view.members.embedder) for folder in (synthetic, filtered))
    view = replace(view, drawn=drawn, released=released)
    summary: dict[str, Any] = {
        "threat": threat,
        "family": family,
        "attacks": ",".join(bench.modules),
        "frozen_sha256": bench.frozen,
    }
    summary |= _sizes(view) | _roles(train, audit, reference)
    figures: dict[str, dict[str, Any]] = {}
    with files.atomic_folder(out) as folder:
        for name in bench.modules:
            reporter.note(f"{family}: attack {name}")
            figures[name] = _run(name, view, bench, folder)
            files.write_json(folder / f"{name}.json", figures[name])
        files.write_json(folder / "summary.json", summary)
    return summary | {f"{name}_{key}": value for name, found in figures.items() for key, value in found.items()}


def controls(
    train: Path, audit: Path, reference: Path, features: Path, attacks: Mapping[str, Any], copies: copies.Config,
    config: Config, runtime: runtime.Config, seed: int, *, out: Path, reporter: Reporter = SILENT,
) -> dict[str, Any]:  # fmt: skip
    """Run every attack on releases whose answer is known, on the user's own data, and the blind classifier.

    ``control_<name>_ok`` is true, false, or null where too few subjects leave the control without power;
    ``_expected`` and ``_found`` say it in words, ``_p`` is the p-value where there is one, ``_kind`` is *plant* (must
    be caught), *null* (must not be flagged, Holm over these) or *none* (no copy may be found).
    """
    bench = _bench("images", attacks, features, copies, config, seeds.derive(seed, "controls"), reporter)
    view = _view(train, audit, reference, features, copies, runtime, bench)
    fresh = _plants.control_half(ImageSet(reference), view.reference, config.control_images, bench.seed)
    copier = _plants.copier(view.members, config.control_images, config.copier_noise_u8, bench.seed)
    figures = _controls.run(view, fresh, copier, bench)
    figures |= {"frozen_sha256": bench.frozen, "attacks": ",".join(bench.modules)}
    files.write_json(out, figures)
    return figures


def _bench(
    threat: str, attacks: Mapping[str, Any], features: Path, detector: copies.Config, config: Config, seed: int,
    reporter: Reporter,
) -> Bench:  # fmt: skip
    modules = {name: registry.load(name) for name in sorted(attacks)}
    settings = {name: block({"attacks": attacks}, f"attacks.{name}", module.Config) for name, module in modules.items()}
    chosen = {name: module for name, module in modules.items() if threat == module.THREAT}
    if not chosen:
        found = ", ".join(modules) or "none"
        raise CallError(explain(expected=f"an attack of threat '{threat}' in 'attacks'", found=found, todo="add one"))
    _check_resolution(config, len(chosen))
    frozen = {
        "attacks": {name: settings[name].model_dump(mode="json") for name in chosen},
        "audit": config.model_dump(mode="json"), "copies": detector.model_dump(mode="json"),
        "features": {path.name: files.sha256_file(path) for path in sorted(features.glob("*")) if path.is_file()},
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(frozen, sort_keys=True).encode()).hexdigest()
    return Bench(config, chosen, settings, digest, seeds.derive(seed, "audit", threat), reporter)


def _check_resolution(config: Config, attacks: int) -> None:
    """Holm over the controls must be able to reach ``alpha``: 1/(permutations + 1) times their number."""
    fewest = int(np.ceil((1 + 2 * attacks) / config.alpha))
    if min(config.permutations, config.blind_permutations) < fewest:
        found = f"permutations {config.permutations}, blind_permutations {config.blind_permutations}"
        todo = "with fewer no control could ever be flagged; raise them in 'audit'"
        raise CallError(
            explain(expected=f"{fewest} permutations or more at audit.alpha {config.alpha}", found=found, todo=todo)
        )


def _view(
    train: Path,
    audit: Path,
    reference: Path,
    features: Path,
    detector: copies.Config,
    run: runtime.Config,
    bench: Bench,
) -> View:
    """Real records of every role; nothing released yet. Of the reference role only the calibrating half is shown."""
    device = runtime.settle(run)
    embedder = _embedder(features, run, bench.config.embed_batch)
    members, nonmembers, population = (read(folder, embedder) for folder in (train, audit, reference))
    halves = ImageSet(reference).manifest["half"].to_numpy(dtype=str)
    nothing = population.take(np.arange(0))
    return View(
        members, nonmembers, population.take(np.flatnonzero(halves == "calibrate")), nothing, nothing,
        detector, run, device, bench.seed, bench.reporter,
    )  # fmt: skip


def _embedder(folder: Path, run: runtime.Config, batch: int) -> Embedder:
    """The feature net, loaded when first asked."""
    loaded: list[Any] = []

    def embed(images_u8: np.ndarray) -> np.ndarray:
        from ops.classifiers import features

        if not loaded:
            loaded.append(features.load(folder))
        return features.embed(loaded[0], images_u8, run, batch)

    return embed


def _sizes(view: View) -> dict[str, int]:
    sides = {"member": view.members, "nonmember": view.nonmembers}
    subjects = {f"n_{name}_subjects": len(np.unique(side.subjects)) for name, side in sides.items()}
    images = {f"n_{name}_images": len(side) for name, side in sides.items()}
    return subjects | images | {"n_drawn_images": len(view.drawn), "n_released_images": len(view.released)}


def _roles(train: Path, audit: Path, reference: Path) -> dict[str, int]:
    """Subjects and identical images that stand in two of the roles that must not touch: all nought, or INVALID."""
    manifests = [ImageSet(folder).manifest for folder in (train, audit, reference)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    shared = {
        name: sum(len(set(manifests[a][column]) & set(manifests[b][column])) for a, b in pairs)
        for name, column in (("subjects", "subject_id"), ("images", "sha256"))
    }
    return {f"{name}_in_two_roles": count for name, count in shared.items()}


def _run(name: str, view: View, bench: Bench, folder: Path) -> dict[str, Any]:
    if bench.modules[name].KIND == "census":
        hits = bench.modules[name].find(view, bench.settings[name])
        listed = hits[hits["side"] == "members"].head(bench.settings[name].listed_hits)
        listed[["image_id", "released", "ssim", "variant"]].round(4).to_csv(folder / f"{name}_hits.csv", index=False)
        return {"kind": "census"} | census_figures(hits)
    evidence = membership(name, view, bench)
    if evidence is None:
        return {"kind": "membership", "evaluated": False, "why": why_not(view)}
    table = pd.DataFrame(evidence.curve._asdict()).round(6)
    table.to_csv(folder / f"{name}_roc.csv", index=False)
    return {"kind": "membership", "evaluated": True} | evidence.figures
