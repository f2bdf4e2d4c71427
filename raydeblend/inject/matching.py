"""Which rows of the catalog of a copy are injected sources, and which those of the sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend.detect.matching import match_sky
from raydeblend.inject.sources import InjectedSources

FloatArray = NDArray[np.float64]
BESIDE = 4.0
"""Match radii within which a row that is nothing known is a part of an injected source."""


@dataclass(frozen=True)
class Recovery:
    """What became of n injected sources.

    Attributes
    ----------
    match
        ``(n,)`` row of the copy's catalog, or -1.
    extra
        ``(n,)`` rows that are neither an injected source nor one of the clean catalog, by the
        nearest injected one: what was shredded off it.
    """

    match: NDArray[np.int64]
    extra: NDArray[np.int64]


def recover(
    sources: InjectedSources, found: pa.Table, clean: pa.Table, band: int, name: str, radius: float
) -> Recovery:
    """Match the catalog of a copy to what is known to be in it.

    Known are the injected sources and, of the sky, the rows of the clean catalog.  As in the
    protocol `survey`, the brightest chooses first and takes the nearest row within reach: a row
    that the clean catalog has too is an injected source only if that is the brighter one.

    Parameters
    ----------
    found, clean
        Rows of the copy and of the sky, with ``x, y`` in pixels and fluxes.
    band, name
        The reference band's number and name.
    radius
        Pixels.
    """
    n = len(sources)
    known = np.concatenate([sources.xy, positions(clean)])
    flux = np.concatenate([sources.flux[:, band], _flux(clean, name)])
    places = positions(found)
    match = match_sky(known, flux, places, radius)
    return Recovery(match[:n], _extra(sources.xy, places, match, BESIDE * radius))


def _extra(
    xy: FloatArray, places: FloatArray, match: NDArray[np.int64], reach: float
) -> NDArray[np.int64]:
    extra = np.zeros(len(xy), dtype=np.int64)
    left = np.setdiff1d(np.arange(len(places)), match)
    if len(xy) and len(left):
        distance = np.linalg.norm(places[left][:, None] - xy[None], axis=2)
        nearest = distance.argmin(axis=1)[distance.min(axis=1) <= reach]
        np.add.at(extra, nearest, 1)
    return extra


def positions(rows: pa.Table) -> FloatArray:
    """Return ``(n, 2)`` (x, y) of rows of a catalog."""
    columns = [rows[name].to_numpy() for name in ("x", "y")]
    return np.asarray(np.column_stack(columns), dtype=np.float64)


def _flux(rows: pa.Table, band: str) -> FloatArray:
    return np.asarray(np.nan_to_num(rows[f"flux_{band}"].to_numpy().astype(np.float64)))
