"""What became of each detected peak of a footprint, for the table of footprints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from raydeblend.parents import Shortfall, Unpublished
from raydeblend.pipeline.config import FOOTPRINTS
from raydeblend.tile import Blend, Box, FloatArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Residual:
    """χ² of a footprint's usable pixels and how many these are in each band, ``(bands,)``."""

    chi2: float
    pixels: NDArray[np.int64]

    @classmethod
    def of(cls, blend: Blend, rest: NDArray[np.floating]) -> Residual:
        """Return that of what is left ``(bands, y, x)`` of a footprint's image."""
        used = blend.footprint & ~blend.unusable
        square = np.where(used, np.asarray(rest, np.float64) ** 2 / blend.variance, 0.0)
        return cls(float(square.sum()), used.sum(axis=(1, 2)))

    def reduced(self, noise: Sequence[float]) -> float:
        """Return χ² over its expectation, as `pipeline.rows` does for sources; NaN for none.

        Parameters
        ----------
        noise
            Of each band, see `pipeline.detected.Detected`.
        """
        known = np.asarray(noise or (1.0,) * len(self.pixels), dtype=np.float64)
        expected = float(self.pixels @ np.where(np.isfinite(known), known, 1.0) ** -2.0)
        return self.chi2 / expected if expected else np.nan


@dataclass(frozen=True)
class Outcome:
    """What a deblender made of a footprint.

    Attributes
    ----------
    xy, parts_xy
        ``(n, 2)`` and ``(m, 2)`` positions in pixels of the tile of its sources and of what was
        put together with brighter ones.
    shortfall
        One of `raydeblend.parents.Shortfall`, or empty.
    flags
        Bits of `raydeblend.flags.Flag` that the deblending set.
    work
        See `raydeblend.tile.Separated`.
    residual
        None where it says nothing.
    """

    xy: Array
    parts_xy: Array
    deblender: str
    quality: str
    shortfall: str = ""
    flags: int = 0
    work: float = np.nan
    residual: Residual | None = None


@dataclass(frozen=True)
class Account:
    """The peaks of a footprint and what became of each.

    Attributes
    ----------
    box, area
        The detected pixels in the tile: around them, and how many.
    peaks
        ``(k, 2)`` positions in pixels of the tile, brightest first.
    source
        ``(k,)`` the source that stands for each; -1 for none.
    reasons
        Why there is none, of `raydeblend.parents.Unpublished`; empty where there is one.
    """

    parent_id: int
    box: Box
    area: int
    flags: int
    peaks: Array
    source: NDArray[np.intp]
    reasons: tuple[str, ...]
    outcome: Outcome


def account_for(blend: Blend, outcome: Outcome) -> Account:
    """Say what became of each peak of a footprint."""
    peaks = blend.on_tile(blend.xy)
    source = nearest_pairs(peaks, outcome.xy)
    reasons = [""] * len(peaks)
    for i in np.flatnonzero(source < 0).tolist():
        reasons[i] = _reason(peaks[i], _is_blind(blend, blend.xy[i]), outcome)
    rows, columns = np.nonzero(blend.footprint)
    box = Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    return Account(
        blend.parent_id,
        box.shift(blend.box.y0, blend.box.x0),
        len(rows),
        blend.flags | outcome.flags,
        peaks,
        source,
        tuple(reasons),
        outcome,
    )


def nearest_pairs(peaks: Array, sources: Array) -> NDArray[np.intp]:
    """Pair peaks with sources near them (`FootprintConfig`) one to one, the nearest pairs first.

    Returns ``(k,)`` the source of each peak, or -1.  Thousands of either cost what their near pairs
    do.
    """
    source = np.full(len(peaks), -1, dtype=np.intp)
    if not (len(peaks) and len(sources)):
        return source
    near = KDTree(peaks).sparse_distance_matrix(
        KDTree(sources), FOOTPRINTS.match_radius, output_type="ndarray"
    )
    taken = np.zeros(len(sources), dtype=bool)
    for pair in near[np.lexsort((near["j"], near["i"], near["v"]))]:
        if source[pair["i"]] < 0 and not taken[pair["j"]]:
            source[pair["i"]], taken[pair["j"]] = pair["j"], True
    return source


def _reason(peak: Array, blind: bool, outcome: Outcome) -> Unpublished:
    """Return why no source stands for a peak: what is known for sure comes first."""
    if blind:
        return Unpublished.NO_DATA
    if outcome.shortfall == Shortfall.FAILED:
        return Unpublished.FAILED
    if _is_near(peak, outcome.parts_xy):
        return Unpublished.STRUCTURE
    if _is_near(peak, outcome.xy):
        return Unpublished.MERGED
    limited = outcome.shortfall == Shortfall.LIMITED
    return Unpublished.LIMITED if limited else Unpublished.EVIDENCE


def _is_near(place: Array, others: Array) -> bool:
    return bool((np.hypot(*(others - place).T) <= FOOTPRINTS.match_radius).any())


def _is_blind(blend: Blend, xy: FloatArray) -> bool:
    """Tell whether the pixel of a stamp position is usable in no band."""
    x, y = np.floor(xy + 0.5).astype(int).clip(0, np.array(blend.footprint.shape[::-1]) - 1)
    return bool(blend.unusable[:, y, x].all())
