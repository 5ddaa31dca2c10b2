"""How each stage presents itself in Dagster: a sentence, its kinds, its pool, its group."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """The face of one stage's assets."""

    says: str
    kinds: tuple[str, ...]
    group: str | None = None  # None: the family's own group
    pool: str | None = None


NOUNS: dict[str, Noun] = {
    "ingest": Noun(
        "Original bytes in 256 shards; what could not be read is in quarantine with a reason.",
        ("parquet", "dvc"), "data",
    ),
    "prepare": Noun("Decoded images of one role; nobody is in two roles.", ("numpy", "dvc"), "data"),
    "baseline": Noun(
        "What real data reach: feature net, real-to-real distances, train-real-test-real.",
        ("pytorch", "dvc"), "evidence",
    ),
    "controls": Noun("Every attack on releases whose answer is known.", ("python", "dvc"), "evidence"),
    "train": Noun("The family's generator, fitted on the train role.", ("pytorch", "mlflow", "dvc"), pool="gpu"),
    "sample": Noun("A labelled draw; each image is traceable to its seed.", ("pytorch", "dvc")),
    "filter": Noun("The draw within the SSIM band that fresh real images reach.", ("pytorch", "dvc")),
    "validate": Noun("Train on synthetic, test on real; fidelity; pictures.", ("pytorch", "mlflow", "dvc")),
    "attack-images": Noun(
        "What an adversary learns who holds the released images only.", ("python", "mlflow", "dvc")
    ),
    "judge": Noun("PASS, FAIL, UNDECIDED or INVALID, by the policy.", ("python", "mlflow", "dvc")),
    "report": Noun("One page that reads in a minute.", ("html", "mlflow", "dvc")),
    "release": Noun("A signed bundle where it is earned; the decision always.", ("parquet", "dvc")),
    "compare": Noun("Active families side by side.", ("html", "dvc"), "evidence"),
}  # fmt: skip
OWNERS = ["team:understudy"]
UNKNOWN = Noun("A stage of dvc.yaml.", ("dvc",), "evidence")
