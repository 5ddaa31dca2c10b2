"""The one detector of near-duplicates: what ``prepare`` removes between roles is what the copy census looks for.

Screened by a ceiling of SSIM (:mod:`ops.metrics.copies_screen`), decided by SSIM itself (uniform window): two images
are copies when, after undoing a mirror, a crop or a change of brightness and contrast, their SSIM reaches
``ssim_min``. What lies within 2e-5 of it is decided by scikit-image. Since both users call the same function
with the same settings, real roles have no hits left once ``prepare`` has removed its pairs.

What a pair is does not depend on other pairs, as long as no image has more than ``crop_partners`` partners that could
be crops: of photographs hardly any has, of digits many, and then the most promising are aligned. Within one set the
screens are wider and twice as many partners are aligned, so that a search between two parts of it (the census) finds
nothing that this one (``prepare``) has missed. Byte-identical images are found
first and searched once: such a group is reported as a star around its first image, not as all its pairs.
Images without content (deviation below ``flat_levels``) are copies only when identical: blank tells nothing of anyone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from pydantic import Field

from ops.core import runtime as runtime_module
from ops.core.config import StrictModel
from ops.core.progress import Reporter, SilentReporter
from ops.metrics import ssim
from ops.metrics.copies_align import best_box, best_crop, boxes, crop, crop_arrays, level, mirror
from ops.metrics.copies_screen import Screen, batched, best_partners, candidates, reduce_all

DECIDED_AT_ONCE = 8192
WIDER = 0.02  # how much wider the screens are within one set than between two; half of it for an aligned crop
CROPPED_AT_ONCE = 8192  # images whose rough crops are held at once
SILENT = SilentReporter()


class Config(StrictModel):
    """The block ``copies``."""

    ssim_min: float = Field(..., gt=0, le=1, description="a pair of at least this SSIM (uniform window) is a copy")
    mirrored: bool = Field(..., description="also look for mirror images")
    crop_fractions: list[float] = Field(
        ..., description="fractions of the side cut off where crops are first looked for"
    )
    crop_max: float = Field(..., ge=0, lt=0.5, description="largest fraction of the side cut off by a crop")
    crop_screen_min: float = Field(..., gt=0, le=1, description="ceiling of SSIM from which a crop is aligned")
    crop_partners: int = Field(..., ge=1, description="most promising partners of an image that are aligned as crops")
    crop_align_min: float = Field(..., gt=0, le=1, description="SSIM of a rough crop from which it is aligned finely")
    max_shift: float = Field(..., ge=0, description="difference of mean brightness taken away (levels of 255)")
    max_gain: float = Field(..., ge=1, description="ratio of contrasts taken away")
    level_min: float = Field(
        ..., gt=0, le=1, description="SSIM as it is from which brightness and contrast are matched"
    )
    screen_slack: float = Field(..., ge=0, description="how far below ssim_min the screen's ceiling may lie")
    screen_rank: int = Field(..., ge=8, description="directions of the screen")
    screen_px: int = Field(..., ge=14, description="side to which images are reduced for the screen (pixels)")
    flat_levels: float = Field(..., ge=0, description="standard deviation below which an image has no content (levels)")


@dataclass(frozen=True)
class Pairs:
    """k pairs, by left, then right. left, right: int64 [k]; ssim: float32 [k]; variant: how the copy was recognised
    ("identical", "plain", "brightness", "mirrored", "crop"), the first that sufficed."""

    left: np.ndarray
    right: np.ndarray
    ssim: np.ndarray
    variant: list[str]


@dataclass(frozen=True)
class _Side:
    """One set with identical images folded: ``first[i]`` is the row of the set that stands for row i."""

    images_u8: np.ndarray
    first: np.ndarray
    searched: np.ndarray


def _first_of(digests: list[bytes]) -> np.ndarray:
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(digest, row) for row, digest in enumerate(digests)], np.int64)


def _fold(images_u8: np.ndarray, flat_levels: float) -> _Side:
    """Find identical images and those with content."""
    first = _first_of([np.ascontiguousarray(image).tobytes() for image in images_u8])
    deviation = np.array([image.std() for image in images_u8])
    searched = np.flatnonzero((first == np.arange(len(first))) & (deviation >= flat_levels))
    return _Side(images_u8, first, searched)


class _Found:
    """Pairs found so far, each once: the first variant that sufficed is kept."""

    def __init__(self) -> None:
        self.pairs: dict[tuple[int, int], tuple[float, str]] = {}

    def add(self, left: np.ndarray, right: np.ndarray, values: np.ndarray, variant: str) -> None:
        for x, y, value in zip(left.tolist(), right.tolist(), values.tolist(), strict=True):
            self.pairs.setdefault((x, y), (value, variant))

    def unknown(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        known = self.pairs
        pairs = zip(left.tolist(), right.tolist(), strict=True)
        return np.fromiter((pair not in known for pair in pairs), bool, len(left))

    def result(self) -> Pairs:
        keys = sorted(self.pairs)
        sides = np.array(keys, np.int64).reshape(-1, 2)
        values = np.array([self.pairs[key][0] for key in keys], np.float32)
        return Pairs(sides[:, 0], sides[:, 1], values, [self.pairs[key][1] for key in keys])


def _decide(x_u8: np.ndarray, y_u8: np.ndarray, ssim_min: float, device: torch.device) -> np.ndarray:
    """SSIM of aligned pairs, those near ``ssim_min`` by the judge: float64 [n]."""
    scores = ssim.pair_scores(x_u8, y_u8, device=device)
    return ssim.settle_near(scores, [ssim_min], lambda row: ssim.exact(x_u8[row], y_u8[row]))[0]


def _crop_all(grey: torch.Tensor, cut: torch.Tensor) -> torch.Tensor:
    return crop(grey[:, None], cut.expand(len(grey), 3))[:, 0]


class _Search:
    """One search of one set in another (or in itself), over images that are distinct and have content."""

    def __init__(
        self, queries: _Side, pool: _Side, config: Config, same: bool, device: torch.device, reporter: Reporter
    ) -> None:
        self.queries_u8 = queries.images_u8[queries.searched]
        self.pool_u8 = pool.images_u8[pool.searched]
        self.config, self.same, self.device, self.reporter = config, same, device, reporter
        self.pool_grey = reduce_all(self.pool_u8, config.screen_px, device)
        self.queries_grey = self.pool_grey if same else reduce_all(self.queries_u8, config.screen_px, device)
        sample = self.pool_grey if same else torch.cat([self.queries_grey, self.pool_grey])
        self.screen = Screen(sample, config.screen_rank)
        self.queries = self.screen.embed(self.queries_grey)
        self.pool = self.queries if same else self.screen.embed(self.pool_grey)
        self.found = _Found()

    def run(self) -> Pairs:
        steps: list[Callable[[], None]] = [self._plain]
        if self.config.mirrored:
            steps.append(self._mirrored)
        if self.config.crop_fractions:
            steps.append(self._crops)
        for done, step in enumerate(steps):
            self.reporter.progress("copies", done, len(steps), found=len(self.found.pairs))
            step()
        self.reporter.progress("copies", len(steps), len(steps), found=len(self.found.pairs))
        return self.found.result()

    def _chunks(self, queries: torch.Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Screened pairs not found yet, a bounded number at a time."""
        least = self.config.ssim_min - self.config.screen_slack - (WIDER if self.same else 0)
        for left, right in batched(candidates(queries, self.pool, least, upper_only=self.same), DECIDED_AT_ONCE):
            fresh = self.found.unknown(left, right)
            yield left[fresh], right[fresh]

    def _accept(
        self, left: np.ndarray, right: np.ndarray, scores: np.ndarray, variant: str, least: float | None = None
    ) -> None:
        hit = scores >= (self.config.ssim_min if least is None else least)
        self.found.add(left[hit], right[hit], scores[hit], variant)

    def _plain(self) -> None:
        for left, right in self._chunks(self.queries):
            self._compare(left, right, self.queries_u8[left], "plain", "brightness")

    def _mirrored(self) -> None:
        for left, right in self._chunks(self.screen.embed(self.queries_grey, mirror)):
            self._compare(left, right, self.queries_u8[left][:, :, ::-1], "mirrored", "mirrored")

    def _compare(self, left: np.ndarray, right: np.ndarray, x_u8: np.ndarray, variant: str, levelled: str) -> None:
        """As it is, then with brightness and contrast matched."""
        config, y_u8 = self.config, self.pool_u8[right]
        scores = _decide(x_u8, y_u8, config.ssim_min, self.device)
        self._accept(left, right, scores, variant)
        retry = np.flatnonzero((scores < config.ssim_min) & (scores >= config.level_min))
        if len(retry) == 0:
            return
        x_u8, y_u8 = level(x_u8[retry], y_u8[retry], config.max_shift, config.max_gain)
        self._accept(left[retry], right[retry], _decide(x_u8, y_u8, config.ssim_min, self.device), levelled)

    def _crops(self) -> None:
        """Each query cropped against the pool, then each pool image cropped against the queries."""
        whole, part, box = self._crop_partners(self.queries_grey, self.pool)
        self._align(whole, part, box, turned=False)
        if not self.same:  # within one set every image has been the whole and the part already
            whole, part, box = self._crop_partners(self.pool_grey, self.queries)
            self._align(whole, part, box, turned=True)

    def _crop_partners(self, wholes: torch.Tensor, parts: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each image those that its best rough crop is most like, where the ceiling allows it to be a copy."""
        cuts = torch.tensor(boxes(self.config.crop_fractions), dtype=torch.float32, device=self.device)
        count = self.config.crop_partners * (2 if self.same else 1)
        least = self.config.crop_screen_min - (WIDER if self.same else 0)
        found = []
        for start in range(0, len(wholes), CROPPED_AT_ONCE):
            some = wholes[start : start + CROPPED_AT_ONCE]
            views = [self.screen.embed(some, partial(_crop_all, cut=cut[None])) for cut in cuts]
            own = start if self.same else None
            whole, part, view = best_partners(views, parts, least, count, own)
            found.append((whole + start, part, cuts[view]))
        wholes_found, parts_found, cuts_found = (torch.cat(column).cpu().numpy() for column in zip(*found, strict=True))
        return wholes_found, parts_found, cuts_found

    def _align(self, whole: np.ndarray, part: np.ndarray, cut: np.ndarray, *, turned: bool) -> None:
        left, right = (part, whole) if turned else (whole, part)
        if self.same:
            left, right = np.minimum(left, right), np.maximum(left, right)
        fresh = np.flatnonzero(self.found.unknown(left, right))
        wholes_u8, parts_u8 = (self.pool_u8, self.queries_u8) if turned else (self.queries_u8, self.pool_u8)
        for start in range(0, len(fresh), DECIDED_AT_ONCE):
            rows = fresh[start : start + DECIDED_AT_ONCE]
            self._align_some(wholes_u8[whole[rows]], parts_u8[part[rows]], cut[rows], left[rows], right[rows])

    def _align_some(
        self, wholes_u8: np.ndarray, parts_u8: np.ndarray, cut: np.ndarray, left: np.ndarray, right: np.ndarray
    ) -> None:
        """Align the promising ones finely and accept what then is alike enough."""
        config, wider = self.config, WIDER if self.same else 0
        near = self._levelled(crop_arrays(wholes_u8, cut), parts_u8) >= config.crop_align_min - wider
        if not near.any():
            return
        wholes_u8, parts_u8, left, right = wholes_u8[near], parts_u8[near], left[near], right[near]
        cut = best_box(wholes_u8, parts_u8, boxes(config.crop_fractions), self._levelled)  # not the screen's: by SSIM
        _, cut = best_crop(wholes_u8, parts_u8, cut, self._levelled, config.crop_max, config.ssim_min)
        x_u8, y_u8 = level(crop_arrays(wholes_u8, cut), parts_u8, config.max_shift, config.max_gain)
        scores = _decide(x_u8, y_u8, config.ssim_min, self.device)
        self._accept(left, right, scores, "crop", config.ssim_min - wider / 2)

    def _levelled(self, x_u8: np.ndarray, y_u8: np.ndarray) -> np.ndarray:
        pair = level(x_u8, y_u8, self.config.max_shift, self.config.max_gain)
        return ssim.pair_scores(*pair, device=self.device)


def _identical(queries: _Side, pool: _Side, same: bool, found: _Found) -> None:
    """Groups of identical images as stars."""
    if same:
        rows = np.flatnonzero(pool.first != np.arange(len(pool.first)))
        found.add(pool.first[rows], rows, np.ones(len(rows)), "identical")
        return
    where = {np.ascontiguousarray(pool.images_u8[row]).tobytes(): row for row in np.unique(pool.first).tolist()}
    twins = {}
    for row in np.unique(queries.first).tolist():
        match = where.get(np.ascontiguousarray(queries.images_u8[row]).tobytes())
        if match is not None:
            twins[row] = (match, 1.0, "identical")
    _spread([(row, *twin) for row, twin in twins.items()], queries, pool, found)


def _spread(pairs: list[tuple[int, int, float, str]], queries: _Side, pool: _Side, found: _Found) -> None:
    """Give a pair of representatives to every image that is identical to one of them, as two stars."""
    members = [_members(queries.first), _members(pool.first)]
    for left, right, value, variant in pairs:
        for row in members[0][left]:
            found.pairs.setdefault((row, right), (value, variant))
        for row in members[1][right]:
            found.pairs.setdefault((left, row), (value, variant))


def _members(first: np.ndarray) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for row, representative in enumerate(first.tolist()):
        groups.setdefault(representative, []).append(row)
    return groups


def _is_grey(images_u8: np.ndarray) -> bool:
    """Whether all channels of every image are equal: uint8 [n, h, w, c]."""
    first = images_u8[..., :1]
    return all(bool((image == first[row]).all()) for row, image in enumerate(images_u8))


def find_copies(
    queries_u8: np.ndarray,
    pool_u8: np.ndarray,
    config: Config,
    *,
    same: bool = False,
    runtime: runtime_module.Config,
    reporter: Reporter = SILENT,
) -> Pairs:
    """All near-duplicate pairs between two sets, or within one.

    Args:
        queries_u8: uint8 [n, h, w, c]. pool_u8: uint8 [m, h, w, c], of the same shape; sides of at least 7 px.
        same: both are one set: each unordered pair once, left < right, and no image with itself.

    Returns:
        Pairs, sorted; indices into ``queries_u8`` and ``pool_u8``.
    """
    assert queries_u8.dtype == np.uint8, queries_u8.dtype
    assert pool_u8.dtype == np.uint8, pool_u8.dtype
    assert queries_u8.shape[1:] == pool_u8.shape[1:], (queries_u8.shape, pool_u8.shape)
    device = runtime_module.settle(runtime)
    if _is_grey(queries_u8) and _is_grey(pool_u8):  # the mean over equal channels is that of one
        queries_u8, pool_u8 = queries_u8[..., :1], pool_u8[..., :1]
    pool = _fold(pool_u8, config.flat_levels)
    queries = pool if same else _fold(queries_u8, config.flat_levels)
    found = _Found()
    _identical(queries, pool, same, found)
    if len(queries.searched) and len(pool.searched):
        with torch.inference_mode():
            hits = _Search(queries, pool, config, same, device, reporter).run()
        left, right = queries.searched[hits.left], pool.searched[hits.right]
        pairs = list(zip(left.tolist(), right.tolist(), hits.ssim.tolist(), hits.variant, strict=True))
        if same:
            found.pairs.update({(x, y): (value, variant) for x, y, value, variant in pairs})
        else:
            _spread(pairs, queries, pool, found)
    return found.result()
