"""How each stage presents itself in Dagster: a sentence, its kinds, its pool, its group."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """The face of one stage's assets."""

    says: str
    kinds: frozenset[str]
    group: str | None = None  # None: the family's own group
    pool: str | None = None


NOUNS: dict[str, Noun] = {
    "ingest": Noun("Original bytes in 256 shards; what could not be read is in quarantine with a reason.", frozenset({"parquet", "dvc"}), "data"),
    "prepare": Noun("Decoded images of one role; nobody is in two roles.", frozenset({"numpy", "dvc"}), "data"),
    "baseline": Noun("What real data reach: the feature net, real-to-real distances, train-real-test-real.", frozenset({"pytorch", "dvc"}), "evidence"),
    "controls": Noun("Every attack on releases whose answer is known.", frozenset({"python", "dvc"}), "evidence"),
    "train": Noun("The family's generator, fitted on the train role.", frozenset({"pytorch", "mlflow", "dvc"}), pool="gpu"),
    "sample": Noun("A labelled draw; each image is traceable to its seed.", frozenset({"pytorch", "dvc"})),
    "filter": Noun("The draw within the SSIM band that fresh real images reach.", frozenset({"pytorch", "dvc"})),
    "validate": Noun("Train on synthetic, test on real; fidelity; pictures.", frozenset({"pytorch", "mlflow", "dvc"})),
    "attack-images": Noun("What an adversary learns who holds the released images only.", frozenset({"python", "mlflow", "dvc"})),
    "judge": Noun("PASS, FAIL, UNDECIDED or INVALID, by the policy.", frozenset({"python", "mlflow", "dvc"})),
    "report": Noun("One page that reads in a minute.", frozenset({"html", "mlflow", "dvc"})),
    "compare": Noun("Active families side by side.", frozenset({"html", "dvc"}), "evidence"),
}  # fmt: skip
OWNERS = ["team:understudy"]
UNKNOWN = Noun("A stage of dvc.yaml.", frozenset({"dvc"}), "evidence")
