"""One way of training, tried with several seeds and tested on the same images: predictions, and the figures they give.

Every accuracy is a mean over seeds with two intervals: ``…_low95``/``…_high95`` over trainings (Student t), and
``…_subjects_low95``/``…_subjects_high95`` over test subjects (how far other test subjects could have moved it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ops.classifiers import training
from ops.core import runtime as machine
from ops.core import seeds
from ops.core.imageset import codes
from ops.core.progress import Reporter
from ops.metrics import classification


@dataclass(frozen=True)
class Bench:
    """What all ways of training share: the test images and everything but the training images.

    Attributes:
        classes: labels in the order of their codes.
        images_u8: test images, uint8 [n, h, w, c].
        labels, subjects: of the test images, str [n].
        trials: trainings of each way, one a seed.
        confidence: coverage of intervals, in (0, 1).
        min_images: fewer training images than this train nothing.
    """

    classes: list[str]
    images_u8: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray
    trials: int
    confidence: float
    min_images: int
    classifier: training.Config
    runtime: machine.Config
    seed: int
    reporter: Reporter

    @property
    def percent(self) -> str:
        """The confidence as keys carry it: ``95``, ``99``, ``975`` for 97.5 %."""
        return f"{100 * self.confidence:g}".replace(".", "")


@dataclass(frozen=True)
class Arm:
    """One way of training over all seeds: predicted code of each test image, int64 [trials, n]; its true code, [n]."""

    predicted: np.ndarray
    actual: np.ndarray
    classes: list[str]

    @property
    def accuracies(self) -> np.ndarray:
        """One a seed: float64 [trials]."""
        return (self.predicted == self.actual).mean(axis=1)

    @property
    def confusion(self) -> np.ndarray:
        """Counts summed over seeds: int64 [k, k], rows actual."""
        actual = np.tile(self.actual, len(self.predicted))
        return classification.confusion(actual, self.predicted.ravel(), len(self.classes))


def run(bench: Bench, name: str, images_u8: np.ndarray, labels: np.ndarray) -> Arm | None:
    """Train on uint8 [m, h, w, c] with labels str [m], once a seed; None where there is too little to learn from.

    The same seeds in every arm: differences between arms then owe less to luck.
    """
    if len(bench.classes) < 2 or len(images_u8) < bench.min_images:
        return None
    targets, predicted = codes(labels, bench.classes), []
    for number in range(bench.trials):
        seed, what = seeds.derive(bench.seed, "classifier", number), f"{name} {number + 1}/{bench.trials}"
        settings = (len(bench.classes), bench.classifier, bench.runtime, seed, bench.reporter, what)
        net = training.fit(np.asarray(images_u8), targets, *settings)
        predicted.append(training.predict_proba(net, bench.images_u8, bench.runtime).argmax(axis=1))
    return Arm(np.stack(predicted), codes(bench.labels, bench.classes), bench.classes)


def guessing(bench: Bench, train_labels: np.ndarray) -> dict[str, float]:
    """What needs no look at a picture: a fair guess, and always the most frequent class of the training images."""
    learned, actual = codes(train_labels, bench.classes), codes(bench.labels, bench.classes)
    majority = classification.majority_accuracy(learned, actual, len(bench.classes))
    return {"accuracy_chance": 1 / len(bench.classes), "accuracy_majority": majority}


def figures(bench: Bench, arm: Arm | None, name: str) -> dict[str, Any]:
    """``accuracy_<name>`` with both intervals and ``accuracy_<name>_class_<class>``, or the reason of their absence."""
    if arm is None:
        few = f"fewer than {bench.min_images} images to train on"
        return {f"accuracy_{name}_reason": few if len(bench.classes) > 1 else "one class only: nothing to tell apart"}
    key, percent = f"accuracy_{name}", bench.percent
    by_seed = classification.seed_interval(arm.accuracies, bench.confidence)
    correct = (arm.predicted == arm.actual).mean(axis=0)
    by_subject = classification.subject_interval(correct, bench.subjects, bench.confidence)
    found = {key: by_seed.mean, f"{key}_low{percent}": by_seed.low, f"{key}_high{percent}": by_seed.high}
    found |= {f"{key}_subjects_low{percent}": by_subject.low, f"{key}_subjects_high{percent}": by_subject.high}
    shares = classification.per_class_accuracy(arm.confusion)
    tested = {label: float(share) for label, share in zip(bench.classes, shares, strict=True) if not np.isnan(share)}
    return found | {f"{key}_class_{label}": share for label, share in tested.items()}
