"""A catalog and the true sources behind it, matched on the sky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from raydeblend.detect.matching import match_sky
from raydeblend.errors import ConfigError
from raydeblend.survey import NJY_ZERO_POINT

RADIUS = 0.5
"""Arcsec within which a catalog source may be matched to a true one."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sources:
    """Positions in arcsec on the tangent plane ``(n, 2)`` and fluxes ``(n, bands)`` in nJy."""

    position: Floats
    flux: Floats

    def magnitude(self, band: int) -> Floats:
        """AB magnitudes ``(n,)``; NaN for a flux that is null or not positive."""
        positive = np.where(self.flux[:, band] > 0, self.flux[:, band], np.nan)
        return np.asarray(NJY_ZERO_POINT - 2.5 * np.log10(positive))


@dataclass(frozen=True)
class Pairing:
    """Catalog and truth, matched.

    Attributes
    ----------
    match
        ``(m,)`` index in `found` of each true source, or -1.
    counted
        ``(m,)`` galaxies inside the rectangle that the catalog covers.
    duplicated
        ``(n,)`` found sources without a match close to a matched true source.
    """

    found: Sources
    true: Sources
    match: NDArray[np.int64]
    counted: NDArray[np.bool_]
    duplicated: NDArray[np.bool_]


def primary(catalog: pa.Table) -> pa.Table:
    """Return the primary sources.

    Raises
    ------
    ConfigError
        If there is none.
    """
    chosen = catalog.filter(catalog["is_primary"])
    if len(chosen) == 0:
        raise ConfigError("the catalog has no primary source to score")
    return chosen


def pair_catalog(
    catalog: pa.Table, truth: pa.Table, bands: Sequence[str], radius: float = RADIUS
) -> Pairing:
    """Match the sources of a catalog one to one to true ones; see `match_sky`.

    Parameters
    ----------
    catalog
        Primary sources, with the columns ``ra, dec`` and ``flux_<band>`` (nJy, may be null).
    truth
        With the columns ``ra, dec, is_star`` and ``flux_<band>`` (nJy).
    bands
        The brightest in the last one chooses first.
    radius
        Arcsec.
    """
    center = mean_direction(catalog)
    found, true = _sources(catalog, center, bands), _sources(truth, center, bands)
    match = match_sky(true.position, true.flux[:, -1], found.position, radius)
    counted = _covered(true, found) & ~truth["is_star"].to_numpy().astype(bool)
    return Pairing(found, true, match, counted, _duplicated(found, true, match, radius))


def _sources(table: pa.Table, center: tuple[float, float], bands: Sequence[str]) -> Sources:
    columns = [table[f"flux_{band}"].to_numpy().astype(np.float64) for band in bands]
    return Sources(project(table, center), np.stack(columns, axis=-1))


def mean_direction(table: pa.Table) -> tuple[float, float]:
    """Mean direction in radians, from unit vectors, so that ra may pass through 0."""
    x, y, z = _unit_vectors(table).mean(axis=0)
    return float(np.arctan2(y, x)), float(np.arctan2(z, np.hypot(x, y)))


def _unit_vectors(table: pa.Table) -> Floats:
    ra, dec = (np.deg2rad(table[name].to_numpy()) for name in ("ra", "dec"))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def project(table: pa.Table, center: tuple[float, float]) -> Floats:
    """Gnomonic projection to arcsec east and north of `center` (Calabretta & Greisen 2002)."""
    (sin_ra, sin_dec), (cos_ra, cos_dec) = np.sin(center), np.cos(center)
    east = np.array([-sin_ra, cos_ra, 0])
    north = np.array([-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec])
    outward = np.array([cos_dec * cos_ra, cos_dec * sin_ra, sin_dec])
    vectors = _unit_vectors(table)
    plane = vectors @ np.stack([east, north], axis=-1) / (vectors @ outward)[:, None]
    return np.asarray(np.rad2deg(plane) * 3600)


def _covered(true: Sources, found: Sources) -> NDArray[np.bool_]:
    """Tell which true sources lie in the rectangle of the found ones."""
    low, high = found.position.min(axis=0), found.position.max(axis=0)
    return np.asarray(np.all((true.position >= low) & (true.position <= high), axis=1))


def _duplicated(
    found: Sources, true: Sources, match: NDArray[np.int64], radius: float
) -> NDArray[np.bool_]:
    """Tell which found sources have no match, but a matched true source in reach."""
    taken = true.position[match >= 0]
    if len(taken) == 0:
        return np.zeros(len(found.position), dtype=bool)
    distance, _ = cKDTree(taken).query(found.position)
    return np.asarray((distance <= radius) & ~np.isin(np.arange(len(distance)), match))


def between(values: Floats, low: float, high: float) -> NDArray[np.bool_]:
    """Tell which values lie in ``low <= value < high``; NaN does not."""
    return np.asarray((values >= low) & (values < high))
