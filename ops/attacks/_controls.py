"""Controls: every attack on releases whose answer is known, and a classifier that sees no release at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ops.attacks import _blind
from ops.attacks._trial import Bench, membership
from ops.attacks._view import Records, View
from ops.core import seeds
from ops.statistics.membership import equal_sides
from ops.statistics.multiple import holm


def run(view: View, fresh: Records, copier: Records, bench: Bench) -> dict[str, Any]:
    """All controls of the view's real records, flat: ``control_<name>_ok``, ``_kind``, ``_expected``, ``_found``.

    Args:
        fresh: real images that calibrate nothing, released as if synthetic: nobody may be found through them.
        copier: noisy training images as a release: their subjects must be found.
    """
    found = {"blind": _blind_control(view, bench)}
    for name in bench.of_kind("membership"):
        bench.reporter.note(f"controls of attack {name}")
        found[f"fresh_{name}"] = _membership_control(name, _release(view, fresh), bench, "null")
        found[f"members_{name}"] = _membership_control(name, _release(_halves(view, bench.seed), fresh), bench, "null")
        found[f"copier_{name}"] = _membership_control(name, _release(view, copier), bench, "plant")
    for name in bench.of_kind("census"):
        bench.reporter.note(f"controls of attack {name}")
        found |= _census_controls(name, view, fresh, copier, bench)
    return _flat(found, bench.config.alpha)


def _release(view: View, released: Records) -> View:
    return replace(view, released=released, drawn=released)


def _halves(view: View, seed: int) -> View:
    """Members against members: half of the train role's subjects takes the non-members' place."""
    subjects = np.unique(view.members.subjects)
    order = seeds.permutation(seed, len(subjects), "members against members")
    first, second = (subjects[part] for part in np.array_split(order, 2))
    return replace(view, members=view.members.of_subjects(first), nonmembers=view.members.of_subjects(second))


def _blind_control(view: View, bench: Bench) -> dict[str, Any]:
    c = bench.config
    sides = equal_sides(view.members.subjects, view.nonmembers.subjects, c.equal_size_key)
    if len(sides[0]) < c.min_control_subjects:
        return _not_run("null", f"{len(sides[0])} subjects a side")
    records = [side.of_subjects(names) for side, names in zip((view.members, view.nonmembers), sides, strict=True)]
    classes = sorted({*records[0].labels.tolist(), *records[1].labels.tolist()})
    described = [_blind.describe_subjects(side, classes, c.blind_image_px, c.blind_features)[1] for side in records]
    bench.reporter.note("control: a classifier that never sees a release")
    result = _blind.blind_test(
        *described, folds=c.blind_folds, permutations=c.blind_permutations, ridge=c.blind_ridge,
        projections=c.blind_projections, seed=bench.seed,
    )  # fmt: skip
    return {"kind": "null", "p": result.p, "auc": result.auc, "expected": "members not told from non-members"}


def _membership_control(name: str, view: View, bench: Bench, kind: str) -> dict[str, Any]:
    sizes = [len(np.unique(side.subjects)) for side in (view.members, view.nonmembers)]
    if min(sizes) < bench.config.min_control_subjects or len(view.released) == 0:
        return _not_run(kind, f"{min(sizes)} subjects a side, {len(view.released)} images to release")
    evidence = membership(name, view, bench)
    assert evidence is not None
    keys = [key for key in evidence.figures if key.startswith("auc")] + ["n_subjects_per_side"]
    found = {"kind": kind, "p": evidence.figures["p_permutation"]} | {key: evidence.figures[key] for key in keys}
    return found | {"expected": "caught" if kind == "plant" else "not flagged"}


def _census_controls(name: str, view: View, fresh: Records, copier: Records, bench: Bench) -> dict[str, dict[str, Any]]:
    """The copier's copies are found; fresh real images and the audit role are no copies of training images."""
    nobody = view.nonmembers.take(np.arange(0))
    rows = seeds.permutation(bench.seed, len(view.nonmembers), "audit census")[: bench.config.control_images]
    plants = {
        f"copier_{name}": ("plant", _release(replace(view, nonmembers=nobody), copier)),
        f"fresh_{name}": ("none", _release(view, fresh)),
        f"audit_{name}": ("none", _release(replace(view, nonmembers=nobody), view.nonmembers.take(np.sort(rows)))),
    }
    return {key: _census_control(name, kind, planted, bench) for key, (kind, planted) in plants.items()}


def _census_control(name: str, kind: str, view: View, bench: Bench) -> dict[str, Any]:
    if len(view.released) == 0 or len(view.members) == 0:
        return _not_run(kind, f"{len(view.released)} images to release")
    hits = bench.modules[name].find(view, bench.settings[name])
    copied, share = int(hits["image_id"].nunique()), bench.config.min_copies_found
    if kind == "plant":
        ok, expected = copied >= share * len(view.released), f"at least {share:.0%} of the copies found"
    else:
        ok, expected = copied == 0, "no copy found"
    return {"kind": kind, "ok": ok, "expected": expected, "found": f"{copied} of {len(view.released)} images"}


def _not_run(kind: str, why: str) -> dict[str, Any]:
    return {"kind": kind, "ok": None, "expected": "enough subjects", "found": f"not run: {why}"}


def _flat(found: Mapping[str, Mapping[str, Any]], alpha: float) -> dict[str, Any]:
    """All controls in one flat mapping, with ``_ok`` decided for those that have a p-value."""
    corrected = holm({name: c["p"] for name, c in found.items() if c["kind"] == "null" and "p" in c})
    flat: dict[str, Any] = {"controls": ",".join(found)}
    for name, control in found.items():
        decided = dict(control)
        if "p" in control:
            plant = control["kind"] == "plant"
            decided["ok"] = control["p"] <= alpha and control["auc"] > 0.5 if plant else corrected[name] > alpha
            decided["found"] = f"AUC {control['auc']:.3f}, p = {control['p']:.2g}"
        flat |= {f"control_{name}_{key}": value for key, value in decided.items()}
    return flat
