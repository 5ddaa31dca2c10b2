"""Stage ``release``: the gate. It always succeeds and always says why; only what has earned it becomes a bundle.

A release needs a PASS and enough use (``policy.min_tstr_over_trtr``, judged by ``judge``). ``decision.json`` says which
of them failed. The bundle is rebuilt from arrays by an allow-list: pixels, labels, names of synthetic images, figures
about the whole set. What it holds of the private side is one keyed digest, which only this workspace can resolve.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ops.bundles import cards, croissant, seal, shards
from ops.core import files
from ops.core.config import StrictModel
from ops.core.errors import UnderstudyError, explain
from ops.core.imageset import ImageSet
from ops.core.progress import Reporter, SilentReporter

SILENT = SilentReporter()
FIDELITY = ("kid_train", "fid_train", "precision_k5", "recall_k5", "density_k5", "coverage_k5")
UNKNOWN = "unknown"


class Config(StrictModel):
    """The block ``release``."""

    kind: Literal["images", "generator"] = Field(
        ..., description="a generator is never granted before its attacks exist"
    )
    shard_images: int = Field(..., ge=1, description="images in one Parquet file")
    version: str = Field(..., pattern=r"^\d+\.\d+\.\d+$", description="version of the dataset, as its card names it")


def refusals(verdict: Mapping[str, Any], images: int, config: Config, planted: bool = False) -> list[str]:
    """Why there is no release; empty where it is granted."""
    found = []
    if planted:
        found.append("this family is planted to test the audit and hands out real images")
    if verdict["verdict"] != "PASS":
        found.append(f"the privacy verdict is {verdict['verdict']}: {verdict['because']}")
    if config.kind != "images":
        found.append("a generator is to be released and the attacks on a released generator have not been run")
    if not verdict["release_utility_ok"]:
        least = verdict["min_tstr_over_trtr"]
        found.append(f"a classifier trained on it reaches less than {least:.0%} of one trained on real images")
    if not images:
        found.append("the filter kept no image")
    return found


def release(
    family: str,
    filtered: Path,
    verdict: Path,
    utility: Path,
    report: Path,
    config: Config,
    *,
    planted: bool = False,
    secret: str,
    keys: Path,
    about: Mapping[str, str],
    out: Path,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Write ``decision.json`` and, where granted, ``bundle/``.

    Args:
        filtered: ``data/filtered/F``; the only images that are read.
        planted: the family hands out real images to test the audit: refused whatever its verdict.
        secret: keys the digest of the data version (``prepare.split_key``).
        keys: folder of the signing key, made on first use.
        about: ``created`` (ISO time), ``code`` (git) and ``run`` (tracker), for the attestation.

    Returns the decision as flat figures. Raises UnderstudyError where an input is missing.
    """
    ruling, figures, kept = _read(verdict), _read(utility), ImageSet(filtered)
    reasons = refusals(ruling, len(kept), config, planted)
    decision = {
        "family": family,
        "kind": config.kind,
        "granted": not reasons,
        "because": "; ".join(reasons) or str(ruling["because"]),
        "verdict": ruling["verdict"],
        "tstr_over_trtr": ruling["tstr_over_trtr"],
        "images": 0 if reasons else len(kept),
        "source_digest": source_digest(filtered, secret),
    }
    with files.atomic_folder(out) as folder:
        files.write_json(folder / "decision.json", decision)
        if not reasons:
            bundle = folder / "bundle"
            bundle.mkdir()
            _fill(bundle, family, kept, ruling, figures, report, config, decision, keys, about)
    reporter.note(f"{family}: released" if not reasons else f"{family}: not released, {decision['because']}")
    return decision


def source_digest(filtered: Path, secret: str) -> str:
    """BLAKE2b of the filtered manifest (it names seeds and model), keyed: meaningless without the workspace's key."""
    manifest = (filtered / "manifest.parquet").read_bytes()
    key = hashlib.blake2b(b"understudy release", key=secret.encode()[:64]).digest()
    return hashlib.blake2b(manifest, key=key, digest_size=16).hexdigest()


def _fill(
    bundle: Path, family: str, kept: ImageSet, ruling: Mapping[str, Any], figures: Mapping[str, Any], report: Path,
    config: Config, decision: Mapping[str, Any], keys: Path, about: Mapping[str, str],
) -> None:  # fmt: skip
    """Payload first, then what describes it, then the seal."""
    signer = seal.signer(keys)
    written = shards.write(kept, bundle, config.shard_images)
    (bundle / "report.html").write_text(report.read_text())
    files.write_json(bundle / "verdict.json", dict(ruling))
    described = [(name, files.sha256_file(bundle / name)) for name in written]
    created = str(about.get("created", UNKNOWN))
    description = f"{len(kept)} labelled synthetic images drawn by a generator of the family {family}."
    rai = {
        "dataCollection": "Drawn by a generative model fitted to a private image set; no real image is included.",
        "dataLimitations": str(ruling["wording"]),
        "dataUseCases": "Training and testing of image classifiers of the classes named by the labels.",
        "personalSensitiveInformation": "None is intended; the verdict says what was tested.",
    }
    files.write_json(
        bundle / "croissant.json",
        croissant.describe(f"understudy-{family}", description, config.version, created[:10], described, rai),
    )
    cards.write(bundle, _context(family, kept, ruling, figures, decision, about, seal.fingerprint(signer.public_key)))
    seal.close(bundle, {"decision": dict(decision), "provenance": dict(about)}, signer)


def _context(
    family: str, kept: ImageSet, ruling: Mapping[str, Any], figures: Mapping[str, Any], decision: Mapping[str, Any],
    about: Mapping[str, str], fingerprint: str,
) -> dict[str, Any]:  # fmt: skip
    """What the cards say."""
    height, width, channels = kept.images.shape[1:]
    tstr, ratio = figures["accuracy_tstr"], ruling["tstr_over_trtr"]
    return {
        "family": family, "verdict": ruling["verdict"], "because": ruling["because"], "wording": ruling["wording"],
        "images": len(kept), "drawn": drawn(kept.folder), "height": height, "width": width, "channels": channels,
        "counts": dict(sorted(Counter(kept.labels.tolist()).items())),
        "tstr": f"{tstr:.1%}", "trtr": f"{tstr / ratio:.1%}" if ratio else UNKNOWN,
        "subjects": ruling["n_subjects_per_side"], "source_digest": decision["source_digest"],
        "fingerprint": fingerprint, "created": about.get("created", UNKNOWN), "code": about.get("code", ""),
        "fidelity": {name: f"{figures[name]:.4g}" for name in FIDELITY if isinstance(figures.get(name), int | float)},
    }  # fmt: skip


def drawn(filtered: Path) -> int:
    """How many images the filter was given."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(filtered / "scores.parquet").num_rows)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        found = "no such file"
        raise UnderstudyError(
            explain(expected=f"{path.name} in {path.parent}", found=found, todo="run the stage that writes it")
        )
    return dict(files.read_json(path))
