"""A catalog against the truth it was simulated from: completeness, purity and flux errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from raydeblend.errors import ConfigError
from raydeblend.evaluate.metrics import flux_bias, flux_nmad
from raydeblend.evaluate.tables import markdown, number
from raydeblend.survey import NJY_ZERO_POINT

RADIUS = 0.5
"""Arcsec within which a catalog source may be matched to a true one."""

DEFAULT_EDGES = (18.0, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MagnitudeBin:
    """The scores of one bin ``low <= magnitude < high`` in the reference band.

    Attributes
    ----------
    n_true, completeness
        True galaxies in the bin (true magnitude), and the fraction that has a catalog source.
    n_catalog, purity
        Catalog sources in the bin (measured magnitude), and the fraction that is a true source.
    duplicates
        Catalog sources of the bin without a match although a matched true source is in reach.
    density
        Catalog sources per square arcmin.
    bias, scatter
        By band: median and 1.4826 MAD of ``F / F_true - 1`` of the matched galaxies.
    """

    low: float
    high: float
    n_true: int
    completeness: float
    n_catalog: int
    purity: float
    duplicates: int
    density: float
    bias: dict[str, float]
    scatter: dict[str, float]


@dataclass(frozen=True)
class _Sources:
    """Positions in arcsec on the tangent plane ``(n, 2)`` and fluxes ``(n, bands)`` in nJy."""

    position: Floats
    flux: Floats

    def magnitude(self, band: int) -> Floats:
        positive = np.where(self.flux[:, band] > 0, self.flux[:, band], np.nan)
        return np.asarray(NJY_ZERO_POINT - 2.5 * np.log10(positive))

    @property
    def area(self) -> float:
        """Square arcmin of the rectangle that holds the positions."""
        return float(np.prod(np.ptp(self.position, axis=0))) / 3600


@dataclass(frozen=True)
class _Pairing:
    """Catalog and truth, matched.

    Attributes
    ----------
    match
        ``(m,)`` index in `found` of each true source, or -1.
    counted
        ``(m,)`` galaxies inside the rectangle that the catalog covers.
    duplicated
        ``(n,)`` found sources without a match beside a matched true source.
    """

    found: _Sources
    true: _Sources
    match: NDArray[np.int64]
    counted: NDArray[np.bool_]
    duplicated: NDArray[np.bool_]


def score_catalog(
    catalog: pa.Table,
    truth: pa.Table,
    bands: Sequence[str],
    edges: Sequence[float] = DEFAULT_EDGES,
    radius: float = RADIUS,
) -> list[MagnitudeBin]:
    """Score the primary sources of a catalog.

    Sources are matched one to one on the sky, the brightest true source choosing first, so that
    a faint neighbour does not take its detection.  Stars, and what lies beyond the edges, are
    matched too, but completeness and flux errors are those of the galaxies in the rectangle that
    the catalog covers.

    Parameters
    ----------
    catalog
        With the columns ``ra, dec, is_primary`` and ``flux_<band>`` (nJy, may be null).
    truth
        With the columns ``ra, dec, is_star`` and ``flux_<band>`` (nJy).
    bands
        The last one is the reference band of the magnitude bins.
    edges
        Bin edges in AB magnitude, ascending.
    radius
        Arcsec.

    Returns
    -------
    One row per bin and a last one over all magnitudes between the outer edges.

    Raises
    ------
    ConfigError
        If the catalog has no primary source.
    """
    primary = catalog.filter(catalog["is_primary"])
    if len(primary) == 0:
        raise ConfigError("the catalog has no primary source to score")
    center = _center(primary)
    found, true = _sources(primary, center, bands), _sources(truth, center, bands)
    match = match_sky(true.position, true.flux[:, -1], found.position, radius)
    counted = _covered(true, found) & ~truth["is_star"].to_numpy().astype(bool)
    pairing = _Pairing(found, true, match, counted, _duplicated(found, true, match, radius))
    ranges = [*pairwise(edges), (edges[0], edges[-1])]
    return [_score_bin(low, high, pairing, bands) for low, high in ranges]


def match_sky(true: Floats, flux: Floats, found: Floats, radius: float) -> NDArray[np.int64]:
    """Return for each true position the nearest free one of `found`, or -1; brightest first.

    Parameters
    ----------
    true, found
        ``(m, 2)`` and ``(n, 2)``, in the unit of `radius`.
    flux
        ``(m,)`` of the true sources.
    """
    match = np.full(len(true), -1, dtype=np.int64)
    taken = np.zeros(len(found), dtype=bool)
    neighbours = cKDTree(found).query_ball_point(true, radius)
    for i in np.argsort(-flux, kind="stable"):
        free = [j for j in neighbours[i] if not taken[j]]
        if free:
            match[i] = min(free, key=lambda j: float(np.sum((found[j] - true[i]) ** 2)))
            taken[match[i]] = True
    return match


def _sources(table: pa.Table, center: tuple[float, float], bands: Sequence[str]) -> _Sources:
    columns = [table[f"flux_{band}"].to_numpy().astype(np.float64) for band in bands]
    return _Sources(_project(table, center), np.stack(columns, axis=-1))


def _center(table: pa.Table) -> tuple[float, float]:
    """Mean direction in radians, from unit vectors, so that ra may pass through 0."""
    x, y, z = _unit_vectors(table).mean(axis=0)
    return float(np.arctan2(y, x)), float(np.arctan2(z, np.hypot(x, y)))


def _unit_vectors(table: pa.Table) -> Floats:
    ra, dec = (np.deg2rad(table[name].to_numpy()) for name in ("ra", "dec"))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _project(table: pa.Table, center: tuple[float, float]) -> Floats:
    """Gnomonic projection to arcsec east and north of `center` (Calabretta & Greisen 2002)."""
    (sin_ra, sin_dec), (cos_ra, cos_dec) = np.sin(center), np.cos(center)
    east = np.array([-sin_ra, cos_ra, 0])
    north = np.array([-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec])
    outward = np.array([cos_dec * cos_ra, cos_dec * sin_ra, sin_dec])
    vectors = _unit_vectors(table)
    plane = vectors @ np.stack([east, north], axis=-1) / (vectors @ outward)[:, None]
    return np.asarray(np.rad2deg(plane) * 3600)


def _covered(true: _Sources, found: _Sources) -> NDArray[np.bool_]:
    """Tell which true sources lie in the rectangle of the found ones."""
    low, high = found.position.min(axis=0), found.position.max(axis=0)
    return np.asarray(np.all((true.position >= low) & (true.position <= high), axis=1))


def _duplicated(
    found: _Sources, true: _Sources, match: NDArray[np.int64], radius: float
) -> NDArray[np.bool_]:
    """Tell which found sources have no match, but a matched true source in reach."""
    taken = true.position[match >= 0]
    if len(taken) == 0:
        return np.zeros(len(found.position), dtype=bool)
    distance, _ = cKDTree(taken).query(found.position)
    return np.asarray((distance <= radius) & ~np.isin(np.arange(len(distance)), match))


def _score_bin(low: float, high: float, pairing: _Pairing, bands: Sequence[str]) -> MagnitudeBin:
    found, true, match = pairing.found, pairing.true, pairing.match
    truths = _between(true.magnitude(-1), low, high) & pairing.counted
    sources = _between(found.magnitude(-1), low, high)
    matched = truths & (match >= 0)
    error = found.flux[match[matched]] / true.flux[matched] - 1
    return MagnitudeBin(
        low=low,
        high=high,
        n_true=int(truths.sum()),
        completeness=_fraction(matched, truths),
        n_catalog=int(sources.sum()),
        purity=_fraction(sources & np.isin(np.arange(len(sources)), match), sources),
        duplicates=int((sources & pairing.duplicated).sum()),
        density=float(sources.sum()) / found.area,
        bias={band: flux_bias(error[:, i]) for i, band in enumerate(bands)},
        scatter={band: flux_nmad(error[:, i]) for i, band in enumerate(bands)},
    )


def _between(values: Floats, low: float, high: float) -> NDArray[np.bool_]:
    return np.asarray((values >= low) & (values < high))


def _fraction(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else float("nan")


def format_table(rows: Sequence[MagnitudeBin]) -> str:
    """Return the scores as a Markdown table; the last row is over all magnitudes."""
    bands = list(rows[0].bias)
    header = ["mag", "true", "complete", "catalog", "pure", "duplicate", "per arcmin²"]
    header += [f"{name} {band}" for band in bands for name in ("bias", "scatter")]
    return markdown(header, [_line(row, bands) for row in rows])


def _line(row: MagnitudeBin, bands: Sequence[str]) -> list[str]:
    cells = [f"{row.low:g}–{row.high:g}", str(row.n_true), number(row.completeness, ".1%")]
    cells += [str(row.n_catalog), number(row.purity, ".1%"), str(row.duplicates)]
    cells.append(f"{row.density:.1f}")
    for band in bands:
        cells += [number(row.bias[band], "+.3f"), number(row.scatter[band], ".3f")]
    return cells
