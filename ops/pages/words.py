"""What the figures mean, in words that a privacy officer can sign: each sentence says what was done, never more."""

from __future__ import annotations

MEANING = {
    "PASS": (
        "For every attack that was run, the upper bound of the leak lies below the limit of the policy, and every "
        "control behaved. As far as privacy is concerned the images may be released. A release also needs enough "
        "usefulness; it is decided, and recorded, by the release stage."
    ),
    "FAIL": (
        "The images must not be released. Taking out the images that were found does not help: the generator that "
        "made them is the source of the leak, and its other images carry it too."
    ),
    "UNDECIDED": (
        "Neither a leak nor its absence could be shown, so the images are not released. This is a statement about "
        "the amount of evidence, not about the generator."
    ),
    "INVALID": (
        "A condition on which the audit rests did not hold, so its figures prove nothing in either direction. The "
        "images are not released until the cause is mended and the audit is run again."
    ),
}

THREATS = {
    "images": "someone who holds the released images, and nothing else of the model",
    "generator": "someone who holds the generator and can draw from it or look inside",
    "downstream": "someone who holds a model that was trained on the released images",
}

UNTESTED_THREATS = {
    "generator": (
        "An attacker who holds the generator itself, or can ask it for unlimited images. Nothing on this page "
        "speaks for giving away the model."
    ),
    "downstream": "An attacker who studies a model that somebody trained on these images.",
}

ALWAYS_UNTESTED = (
    "Attacks that are not in the tables above. Attacks improve; this page is evidence about the ones that were run.",
    (
        "What the set reveals about the group as a whole. The images are meant to show what the classes look like; a "
        "trait that most of the private images share will be visible in them."
    ),
    "The risk of one particular subject. Rates are averages over subjects; an unusual one can be at more risk.",
    "A mathematical bound. This is no statement of differential privacy: it is measured, with the intervals shown.",
)

FIDELITY = (
    ("kid", "KID", "distance of two sets; 0 is best"),
    ("fid", "FID", "distance of two sets; 0 is best"),
    ("precision", "precision", "share of synthetic images that look real; 1 is best"),
    ("recall", "recall", "share of real images that synthetic ones cover; 1 is best"),
    ("density", "density", "how densely real images surround synthetic ones; about 1 is best"),
    ("coverage", "coverage", "share of real neighbourhoods that hold a synthetic image; 1 is best"),
)

NO_SUBJECTS = (
    "People or other units behind the images. Here every image counts as its own subject, as it does for images that "
    "come without a subject column. Where several images show one person, that person is at more risk than the "
    "figures say."
)

CONTROLS = {
    "blind": "A classifier that never sees the synthetic images",
    "fresh": "Unused real images, released as if synthetic",
    "members": "Members against other members",
    "copier": "A planted generator that copies",
    "audit": "Real images that nobody trained on, as if synthetic",
}

SYNTHETIC_ONLY = "Every picture on this page was drawn by the generator; none was taken from the private images."
COPIES_SHOWN = (
    "Every picture on this page was drawn by the generator, but copies of private images were found in its draw. "
    "A picture shown here may be one of them: keep this page where the private images are kept."
)

RATES_NOTE = (
    "In brackets: 95 % intervals. Guessing finds as many members as it raises false alarms. p: how often chance alone "
    "would rank members so far up or down."
)
ENDS_NOTE = (
    "Too many members at the top: the images resemble their subjects. Too few there, or too many at the bottom: "
    "something, such as a filter, keeps the images away from them, which gives them away as well."
)
COPIES_NOTE = (
    "Each synthetic image was held against each real one: plain, mirrored, cropped and brightened. Nobody trained on "
    "the audit images, so a find there would void the search."
)

DECISIONS = {"PASS": "yes", "FAIL": "no", "UNDECIDED": "maybe"}
