"""Scores of stars and of the galaxies next to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from raydeblend.evaluate.common import metrics
from raydeblend.evaluate.common.rows import Row, fraction, measured
from raydeblend.evaluate.common.sky import between, pair_catalog, primary
from raydeblend.evaluate.survey.scores import FAR_ERROR, FAR_PULL

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

STAR_RADIUS = 1.5
"""Arcsec about a star within which a row that no other true source has is one of the star's."""
NEIGHBORS = (3.0, 7.0)
"""Arcsec from a star to the galaxies that its wings may spoil."""
EDGES = (15.5, 16.5, 17.5, 18.5, 19.5, 20.5)


@dataclass(frozen=True)
class StarTable:
    """The m stars, and the k galaxies next to them.

    Attributes
    ----------
    magnitude
        ``(m,)`` true, in the reference band.
    rows
        ``(m,)`` rows of the catalog on each.
    error
        ``(m,)`` F / F_true - 1; NaN where there is no row in place.
    flagged
        ``(m,)`` whether that row has a flag.
    neighbor_of
        ``(k,)`` magnitude of the star next to a galaxy.
    neighbor_found, neighbor_catastrophic
        ``(k,)``.
    """

    magnitude: Floats
    rows: NDArray[np.int64]
    error: Floats
    flagged: Bools
    neighbor_of: Floats
    neighbor_found: Bools
    neighbor_catastrophic: Bools


def score_stars(catalog: pa.Table, truth: pa.Table, bands: Sequence[str]) -> StarTable:
    """Score the stars that the catalog covers.

    Parameters
    ----------
    catalog, truth, bands
        As of `raydeblend.evaluate.survey.scores.compare`.

    Raises
    ------
    ConfigError
        If the catalog has no primary source.
    """
    sources = primary(catalog)
    pairing = pair_catalog(sources, truth, bands)
    is_star = truth["is_star"].to_numpy().astype(bool)
    true, match = pairing.true, pairing.match
    stars = np.flatnonzero(is_star & between(true.magnitude(-1), EDGES[0], EDGES[-1]))
    flux = np.where(match >= 0, pairing.found.flux[match, -1], np.nan)
    err = sources[f"flux_err_{bands[-1]}"].to_numpy().astype(np.float64)
    error = flux / true.flux[:, -1] - 1
    pull = (flux - true.flux[:, -1]) / np.where(match >= 0, err[match], np.nan)
    flags = sources["flags"].to_numpy()
    galaxies = np.flatnonzero(~is_star)
    star_of, near = _beside(true.position[stars], true.position[galaxies])
    beside = galaxies[near]
    far = (np.abs(pull) > FAR_PULL) & (np.abs(error) > FAR_ERROR)
    return StarTable(
        magnitude=true.magnitude(-1)[stars],
        rows=_rows_on(true.position, stars, match, pairing.found.position),
        error=error[stars],
        flagged=(match[stars] >= 0) & (flags[match[stars]] != 0),
        neighbor_of=true.magnitude(-1)[stars][star_of],
        neighbor_found=match[beside] >= 0,
        neighbor_catastrophic=far[beside],
    )


def _rows_on(
    true: Floats, stars: NDArray[np.int64], match: NDArray[np.int64], found: Floats
) -> NDArray[np.int64]:
    """Count the rows within `STAR_RADIUS` of each star that are its own or no source's."""
    other = np.zeros(len(found), dtype=bool)
    taken = np.setdiff1d(match[match >= 0], match[stars])
    other[taken] = True
    near = cKDTree(found).query_ball_point(true[stars], STAR_RADIUS)
    return np.array([int(np.sum(~other[rows])) for rows in near], dtype=np.int64)


def _beside(stars: Floats, galaxies: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return star and galaxy of each pair within `NEIGHBORS`."""
    if not len(stars) or not len(galaxies):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    distance = np.linalg.norm(stars[:, None] - galaxies[None], axis=-1)
    one, other = np.nonzero(between(distance, *NEIGHBORS))
    return one, other


def star_rows(table: StarTable) -> list[tuple[str, int, Row]]:
    """Return name, number and columns of each bin of the stars' magnitudes, at last of all."""
    rows = []
    for low, high in (*pairwise(EDGES), (EDGES[0], EDGES[-1])):
        own = between(table.magnitude, low, high)
        beside = between(table.neighbor_of, low, high)
        columns: Row = {}
        hits = {
            "found": np.isfinite(table.error[own]),
            "one_row": table.rows[own] == 1,
            "flagged": table.flagged[own],
            "neighbor_found": table.neighbor_found[beside],
            "neighbor_catastrophic": table.neighbor_catastrophic[beside],
        }
        for name, each in hits.items():
            columns |= fraction(name, each) if len(each) else _nothing(name)
        error = table.error[own]
        columns |= (
            measured("flux_bias", error, metrics.found_median)
            if len(error)
            else _nothing("flux_bias")
        )
        rows.append((f"stars {low:g}–{high:g}", int(own.sum()), columns))
    return rows


def _nothing(name: str) -> Row:
    return {f"{name}{end}": np.nan for end in ("", "_low", "_high")}
