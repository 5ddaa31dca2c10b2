"""How useful is a synthetic set, and how close to the real one? Stages ``baseline`` and ``validate``.

Utility. A classifier is trained on synthetic images and tested on real ones that nobody saw (TSTR, Esteban et al.
2017). Beside it stand the same classifier trained on real images (TRTR), on both, on the set before the filter, and
what guessing would reach. All arms share net, steps, seeds and test images; the checkpoint of each is chosen on a
held-out share of *its own* training images, so the test images choose nothing.

Fidelity. KID, FID and the neighbour figures in the space of a net that saw neither training nor test images.

Keys: ``accuracy_tstr``, ``…_low95``, ``…_high95`` (over trainings), ``…_subjects_low95`` (over test subjects),
``…_class_<class>``; ``_unfiltered`` marks the set before the filter. ``ops/metrics/fidelity.py`` names the distances.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from ops.classifiers import features as feature_nets
from ops.classifiers import training, trials
from ops.core import files, seeds
from ops.core import runtime as machine
from ops.core.config import StrictModel
from ops.core.errors import UnderstudyError, explain
from ops.core.imageset import ImageSet, codes
from ops.core.pictures import write_png
from ops.core.progress import Reporter, SilentReporter
from ops.metrics import fidelity, pictures, tables
from ops.metrics.fidelity import Cloud

Figures = dict[str, Any]
FROM_REAL = ("accuracy_chance", "accuracy_majority", "accuracy_trtr")  # repeated beside a family's own figures


class Config(StrictModel):
    """The block ``validate``."""

    seeds: int = Field(..., ge=2, description="trainings of each arm; 3 or more for a figure that is quoted")
    confidence: float = Field(..., gt=0.5, lt=1, description="coverage of every two-sided interval, e.g. 0.95")
    min_images: int = Field(..., ge=2, description="a set smaller than this trains no classifier: a result, no error")
    max_images: int = Field(..., ge=100, description="images of one set that enter the fidelity figures, at most")
    neighbours_k: int = Field(..., ge=1, description="k of precision, recall, density and coverage")
    kid_subsets: int = Field(..., ge=2, description="random subsets of KID")
    kid_subset_size: int = Field(..., ge=2, description="images in one subset of KID")
    samples_per_class: int = Field(..., ge=1, description="images of one class in a sample picture, at most")
    picture_max_bytes: int = Field(..., ge=10_000, description="size of one sample picture, at most")


def baseline(
    train: Path,
    reference: Path,
    test: Path,
    config: Config,
    classifier: training.Config,
    features: feature_nets.Config,
    runtime: machine.Config,
    seed: int,
    out_features: Path,
    out_real: Path,
    reporter: Reporter | None = None,
) -> Figures:
    """Everything that does not depend on a family.

    Writes ``models/features/`` (the net; features of train and test, once for all families; the TRTR confusion matrix;
    private, like all of ``models/``) and ``reports/real.json``, whose figures it returns.
    """
    reporter = reporter or SilentReporter()
    members, unseen = ImageSet(train), ImageSet(test)
    bench = _bench(members, unseen, config, classifier, runtime, seed, reporter)
    net = _feature_net(ImageSet(reference), bench.classes, features, runtime, seed, reporter)
    arm = trials.run(bench, "trtr", members.images, members.labels)
    clouds = {}
    with files.atomic_folder(out_features) as folder:
        feature_nets.save(net, folder)
        for role, images in (("train", members), ("test", unseen)):
            rows = _rows(len(images), config, seed)
            clouds[role] = Cloud(feature_nets.embed(net, images.images[rows], runtime), images.labels[rows])
            np.save(folder / f"real-{role}.npy", clouds[role].features)
            files.write_text(folder / f"real-{role}.sha256", _digest(images, rows) + "\n")
        if arm is not None:
            tables.write_confusion(folder / "confusion_trtr.csv", arm.confusion, bench.classes)
    figures: Figures = {"classes": len(bench.classes), "images_train": len(members), "images_test": len(unseen)}
    figures |= trials.guessing(bench, members.labels) | trials.figures(bench, arm, "trtr")
    protocol = _protocol(config, runtime, matched=len(clouds["test"]))
    figures |= fidelity.against_train(clouds["test"], clouds["train"], protocol, seed)
    figures |= _consistency(net, clouds["test"], bench.classes)
    files.write_json(out_real, figures)
    return figures


def validate(
    family: str,
    synthetic: Path,
    filtered: Path,
    train: Path,
    reference: Path,
    test: Path,
    features: Path,
    real: Path,
    config: Config,
    classifier: training.Config,
    runtime: machine.Config,
    seed: int,
    out_utility: Path,
    out_pictures: Path,
    reporter: Reporter | None = None,
) -> Figures:
    """Utility and fidelity of one family's set, before and after the filter.

    ``reference`` is not read: what it calibrates lies in ``features``. Writes ``reports/F/utility.json``, whose figures
    it returns, and ``reports/F/pictures/``: synthetic images, matrices and tables only. A filtered set too small to
    train on is a result: its keys are absent and ``accuracy_tstr_reason`` says why.
    """
    reporter = reporter or SilentReporter()
    drawn, kept, members, unseen = ImageSet(synthetic), ImageSet(filtered), ImageSet(train), ImageSet(test)
    bench = _bench(members, unseen, config, classifier, runtime, seed, reporter)
    real_figures = files.read_json(real)
    arms: dict[str, trials.Arm | None] = {}
    for suffix, source in (("", kept), ("_unfiltered", drawn)):
        arms[f"tstr{suffix}"] = trials.run(bench, f"tstr{suffix}", source.images, source.labels)
        arms[f"both{suffix}"] = trials.run(bench, f"both{suffix}", *_with_members(source, members, config))
    missing = sorted(set(bench.classes) - set(kept.classes))
    if missing:
        reporter.note(f"{family}: no image of {', '.join(missing)} in the filtered set")
    figures: Figures = {"images_synthetic": len(drawn), "images_filtered": len(kept)}
    figures["classes_missing_filtered"] = len(missing)
    figures |= {name: real_figures[name] for name in FROM_REAL if name in real_figures}
    for name, arm in arms.items():
        figures |= trials.figures(bench, arm, name) | _beside_real(arm, name, real_figures)
    reporter.progress("fidelity", 0, 1)
    figures |= _fidelity(bench, config, drawn, kept, members, unseen, features)
    reporter.progress("fidelity", 1, 1)
    with files.atomic_folder(out_pictures) as folder:
        _draw_samples(folder, config, bench, drawn, kept)
        _draw_matrices(folder, bench.classes, arms, features)
        _tabulate_classes(folder, bench.classes, drawn, kept, {**real_figures, **figures})
    files.write_json(out_utility, figures)
    return figures


def _bench(
    members: ImageSet,
    unseen: ImageSet,
    config: Config,
    classifier: training.Config,
    runtime: machine.Config,
    seed: int,
    reporter: Reporter,
) -> trials.Bench:
    return trials.Bench(
        members.classes, np.asarray(unseen.images), unseen.labels, unseen.subjects, config.seeds, config.confidence,
        config.min_images, classifier, runtime, seed, reporter,
    )  # fmt: skip


def _feature_net(
    reference: ImageSet,
    classes: list[str],
    config: feature_nets.Config,
    runtime: machine.Config,
    seed: int,
    reporter: Reporter,
) -> feature_nets.FeatureNet:
    """Trained on the half of the reference role that may calibrate; the control half calibrates nothing."""
    if "half" not in reference.manifest:
        todo = "run the stage prepare again"
        raise UnderstudyError(explain(expected="a column 'half' in the reference role", found="none", todo=todo))
    rows = np.flatnonzero(reference.manifest["half"].to_numpy(dtype=str) == "calibrate")
    labels = codes(reference.labels[rows], classes)
    return feature_nets.fit(reference.images[rows], labels, classes, config, runtime, seed, reporter)


def _with_members(source: ImageSet, members: ImageSet, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Synthetic and real training images together; a synthetic set too small to count stays alone."""
    if len(source) < config.min_images:
        return source.images, source.labels
    return np.concatenate([source.images, members.images]), np.concatenate([source.labels, members.labels])


def _beside_real(arm: trials.Arm | None, name: str, real: Figures) -> Figures:
    """``<name>_over_trtr`` and ``gap_<name>`` (TRTR minus this arm)."""
    if arm is None or not real.get("accuracy_trtr"):
        return {}
    accuracy, trtr = float(arm.accuracies.mean()), float(real["accuracy_trtr"])
    return {f"{name}_over_trtr": accuracy / trtr, f"gap_{name}": trtr - accuracy}


def _rows(n: int, config: Config, seed: int) -> np.ndarray:
    """Rows of a set that enter the fidelity figures, ascending: int64 [min(n, max_images)]."""
    return np.sort(seeds.permutation(seed, n, "fidelity")[: config.max_images])


def _digest(images: ImageSet, rows: np.ndarray) -> str:
    """What a stored cloud belongs to: the images that entered it, in order."""
    return hashlib.sha256("\n".join(images.manifest["sha256"].to_numpy(dtype=str)[rows]).encode()).hexdigest()


def _stored(folder: Path, role: str, images: ImageSet, config: Config, seed: int) -> Cloud:
    """The features that ``baseline`` computed. Raises UnderstudyError where they belong to other images."""
    rows = _rows(len(images), config, seed)
    if (folder / f"real-{role}.sha256").read_text().strip() != _digest(images, rows):
        found, todo = f"features of other images in {folder}", "run the stage baseline"
        raise UnderstudyError(explain(expected=f"features of {images.folder}", found=found, todo=todo))
    return Cloud(np.load(folder / f"real-{role}.npy"), images.labels[rows])


def _protocol(config: Config, runtime: machine.Config, matched: int) -> fidelity.Protocol:
    """Distances run where float64 exists: CUDA, else the processor."""
    device = machine.settle(runtime)
    where = device if device.type == "cuda" else torch.device("cpu")
    return fidelity.Protocol(config.neighbours_k, config.kid_subsets, config.kid_subset_size, matched, where)


def _consistency(net: feature_nets.FeatureNet, cloud: Cloud, classes: list[str]) -> Figures:
    """``label_consistency``: share of images in which the feature net reads the label they carry."""
    found = feature_nets.read_labels(net, cloud.features)
    if found is None or len(cloud) == 0 or len(classes) < 2:
        return {}
    return {"label_consistency": float((found == codes(cloud.labels, classes)).mean())}


def _fidelity(
    bench: trials.Bench,
    config: Config,
    drawn: ImageSet,
    kept: ImageSet,
    members: ImageSet,
    unseen: ImageSet,
    features: Path,
) -> Figures:
    """Every distance of the filtered set and, marked ``_unfiltered``, of the whole draw; each image embedded once."""
    net, seed = feature_nets.load(features), bench.seed
    train = _stored(features, "train", members, config, seed)
    test = _stored(features, "test", unseen, config, seed)
    protocol = _protocol(config, bench.runtime, matched=len(test))
    figures: Figures = {}
    for suffix, cloud in _synthetic_clouds(net, bench, config, drawn, kept).items():
        found = fidelity.against_train(cloud, train, protocol, seed)
        if len(cloud) >= 2:
            found |= fidelity.distances(cloud, test, "test", protocol, seed)
        found |= _consistency(net, cloud, bench.classes)
        figures |= {f"{name}{suffix}": value for name, value in found.items()}
    return figures


def _synthetic_clouds(
    net: feature_nets.FeatureNet, bench: trials.Bench, config: Config, drawn: ImageSet, kept: ImageSet
) -> dict[str, Cloud]:
    """Features of the filtered set and of the draw it was filtered from; embedded once, since one holds the other."""
    places = pd.Index(drawn.manifest["image_id"]).get_indexer(pd.Index(kept.manifest["image_id"]))
    if (places < 0).any():
        found = f"{int((places < 0).sum())} that are not in {drawn.folder}"
        todo = "run the stage filter again"
        raise UnderstudyError(explain(expected="filtered images that were drawn", found=found, todo=todo))
    chosen = {"": places[_rows(len(kept), config, bench.seed)], "_unfiltered": _rows(len(drawn), config, bench.seed)}
    union = np.unique(np.concatenate(list(chosen.values())))
    values = feature_nets.embed(net, drawn.images[union], bench.runtime)
    return {name: Cloud(values[np.searchsorted(union, rows)], drawn.labels[rows]) for name, rows in chosen.items()}


def _draw_samples(folder: Path, config: Config, bench: trials.Bench, drawn: ImageSet, kept: ImageSet) -> None:
    """``samples.png`` of the filtered set, ``unfiltered.png`` of the draw. Synthetic images only."""
    limits = (config.samples_per_class, config.picture_max_bytes, bench.seed)
    shape = drawn.images.shape[1:]
    for name, images in (("samples", kept), ("unfiltered", drawn)):
        pixels = images.images if len(images) else np.zeros((0, *shape), np.uint8)
        write_png(folder / f"{name}.png", pictures.sample_grid(pixels, images.labels, bench.classes, *limits))


def _draw_matrices(folder: Path, classes: list[str], arms: dict[str, trials.Arm | None], features: Path) -> None:
    """Confusion matrices as picture and table: filtered, unfiltered, and the real one that baseline left."""
    titles = {"tstr": "Trained on synthetic, tested on real", "tstr_unfiltered": "The same, before the filter"}
    counts = {name: arms[name].confusion for name in titles if arms[name] is not None}  # type: ignore[union-attr]
    if (features / "confusion_trtr.csv").is_file():
        titles["trtr"] = "Trained on real, tested on real"
        counts["trtr"] = tables.read_confusion(features / "confusion_trtr.csv")
    for name, matrix in counts.items():
        write_png(folder / f"confusion_{name}.png", pictures.confusion_picture(matrix, classes, titles[name]))
        tables.write_confusion(folder / f"confusion_{name}.csv", matrix, classes)
        tables.write_pairs(folder / f"predictions_{name}.csv", matrix, classes)


def _tabulate_classes(folder: Path, classes: list[str], drawn: ImageSet, kept: ImageSet, figures: Figures) -> None:
    """``per_class.csv``: one row a class with its accuracies and distances, empty where there is none."""
    arms = ("accuracy_trtr", "accuracy_tstr", "accuracy_tstr_unfiltered", "accuracy_both")
    head = ["class", "images_synthetic", "images_filtered", *arms, "fid_intra", "fid_intra_unfiltered"]
    rows = []
    for name in classes:
        numbers = [int((images.labels == name).sum()) for images in (drawn, kept)]
        keys = [*(f"{arm}_class_{name}" for arm in arms), f"fid_intra_{name}", f"fid_intra_{name}_unfiltered"]
        rows.append([name, *numbers, *(figures.get(key, float("nan")) for key in keys)])
    tables.write_csv(folder / "per_class.csv", head, rows)
