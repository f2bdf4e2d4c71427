"""What a catalog makes of galaxies that stand alone: each row near one is that galaxy, or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from raydeblend.evaluate.common.sky import mean_direction, primary, project
from raydeblend.survey import NJY_ZERO_POINT

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RADIUS, RADIUS_R50 = 0.5, 0.5
"""A row belongs to a galaxy within this many arcsec, or this many of its half-light radii."""
ABSURD_LOW, ABSURD_HIGH = -3.0, 2.0
"""A flux is absurd below this many of its errors, or above this many times the truth."""


@dataclass(frozen=True)
class SingleTable:
    """The m true galaxies; what was measured is NaN where missing.

    Attributes
    ----------
    cls
        ``(m,)`` class.
    magnitude, r50
        ``(m,)`` true, in the reference band.
    rows
        ``(m,)`` primary rows of the catalog nearest to each, within half the way to the next.
    found
        ``(m,)`` whether one of them is where the galaxy is; the brightest of these is matched.
    error, pull
        ``(m,)`` F / F_true - 1 in the reference band, and (F - F_true) over the stated error.
    absurd
        ``(m,)`` whether one of its rows has a flux that cannot be, in any band.
    flagged
        ``(m,)`` whether the matched row has a flag.
    tile_xy
        ``(m, 2)`` true positions in pixels of the grid.
    row_owner, row_xy
        ``(n,)`` which galaxy each primary row is nearest to, -1 for none, and ``(n, 2)`` its
        position in pixels.
    """

    cls: NDArray[np.str_]
    magnitude: Floats
    r50: Floats
    rows: NDArray[np.int64]
    found: Bools
    error: Floats
    pull: Floats
    absurd: Bools
    flagged: Bools
    tile_xy: Floats
    row_owner: NDArray[np.int64]
    row_xy: Floats

    @property
    def split(self) -> Bools:
        """``(m,)`` which galaxies have more than one row."""
        return self.rows > 1


def score_singles(catalog: pa.Table, truth: pa.Table, bands: Sequence[str]) -> SingleTable:
    """Give each primary row to the galaxy it is nearest to, and compare.

    Parameters
    ----------
    catalog
        As `raydeblend.catalog` writes it, of one tile.
    truth
        Of `raydeblend.simulate.tiles.simulate_singles`.
    bands
        The last one is the reference band.

    Raises
    ------
    ConfigError
        If the catalog has no primary source.
    """
    sources = primary(catalog)
    center = mean_direction(truth)
    true, found = project(truth, center), project(sources, center)
    owner = _owners(true, found)
    flux, err = (_columns(sources, kind, bands) for kind in ("flux", "flux_err"))
    flux_true = _columns(truth, "flux", bands)
    r50 = _column(truth, "r50")
    match = _matched(true, found, owner, np.maximum(RADIUS, RADIUS_R50 * r50), flux[:, -1])
    own = np.where(match >= 0, flux[match, -1], np.nan)
    own_err = np.where(match >= 0, err[match, -1], np.nan)
    return SingleTable(
        cls=np.asarray(truth["cls"].to_pylist()),
        magnitude=NJY_ZERO_POINT - 2.5 * np.log10(flux_true[:, -1]),
        r50=r50,
        rows=np.bincount(owner[owner >= 0], minlength=len(true)),
        found=match >= 0,
        error=own / flux_true[:, -1] - 1,
        pull=(own - flux_true[:, -1]) / np.where(own_err > 0, own_err, np.nan),
        absurd=_absurd(owner, flux, err, flux_true),
        flagged=(match >= 0) & (_column(sources, "flags")[match] != 0),
        tile_xy=np.stack([_column(truth, "x"), _column(truth, "y")], axis=1),
        row_owner=owner,
        row_xy=np.stack([_column(sources, "x"), _column(sources, "y")], axis=1),
    )


def _owners(true: Floats, found: Floats) -> NDArray[np.int64]:
    """Return the galaxy that each row ``(n, 2)`` is nearest to; -1 beyond half the way between."""
    tree = cKDTree(true)
    reach = tree.query(true, k=2)[0][:, 1].min() / 2 if len(true) > 1 else np.inf
    distance, owner = tree.query(found)
    return np.where(distance <= reach, owner, -1)


def _matched(
    true: Floats, found: Floats, owner: NDArray[np.int64], radius: Floats, flux: Floats
) -> NDArray[np.int64]:
    """Return the brightest row of each galaxy within its radius, -1 for none."""
    match = np.full(len(true), -1, dtype=np.int64)
    # From faint to bright, so that the brightest stays; a null flux is the faintest.
    for row in np.argsort(np.nan_to_num(flux, nan=-np.inf), kind="stable"):
        i = owner[row]
        if i >= 0 and np.hypot(*(found[row] - true[i])) <= radius[i]:
            match[i] = row
    return match


def _absurd(owner: NDArray[np.int64], flux: Floats, err: Floats, flux_true: Floats) -> Bools:
    """Tell which galaxies ``(m,)`` have a row of an absurd flux."""
    known = owner >= 0
    limit = ABSURD_HIGH * flux_true[owner[known]]
    wrong = (flux[known] < ABSURD_LOW * err[known]) | (flux[known] > limit)
    absurd = np.zeros(len(flux_true), dtype=bool)
    absurd[owner[known][wrong.any(axis=1)]] = True
    return absurd


def _columns(table: pa.Table, kind: str, bands: Sequence[str]) -> Floats:
    return np.stack([_column(table, f"{kind}_{band}") for band in bands], axis=-1)


def _column(table: pa.Table, name: str) -> Floats:
    """Return a column as float64, NaN where null."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)
