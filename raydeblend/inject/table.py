"""The table of injected sources: truth, match and measurement, a row for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend.inject.matching import Recovery, positions
from raydeblend.inject.sources import KINDS, InjectedSources, reference_band
from raydeblend.survey import NJY_ZERO_POINT

FloatArray = NDArray[np.float64]

_PLACE = (
    ("tile", pa.string(), "", "name of the tile"),
    ("cell", pa.string(), "", "name of the cell"),
    ("kind", pa.string(), "", ", ".join(KINDS)),
    ("x", pa.float64(), "pix", "true column in the tile, 0 at the center of the first pixel"),
    ("y", pa.float64(), "pix", "true row in the tile"),
    ("ra", pa.float64(), "deg", "true right ascension, ICRS"),
    ("dec", pa.float64(), "deg", "true declination, ICRS"),
    ("magnitude", pa.float64(), "mag", "true AB magnitude in i, or else in the last band"),
    ("weight", pa.float64(), "", "numbers in the sky over those injected, by magnitude"),
    ("r50", pa.float64(), "arcsec", "true half-light radius before the PSF, 0 of stars"),
)
_FOUND = (
    ("found", pa.bool_(), "", "whether a row of the copy's catalog is this source"),
    ("extra", pa.int64(), "", "rows of the copy that are neither this source nor known ones"),
    ("dx", pa.float64(), "arcsec", "measured less true position along the rows"),
    ("dy", pa.float64(), "arcsec", "measured less true position along the columns"),
    ("n_blended", pa.int64(), "", "sources of its footprint"),
    ("p_star", pa.float64(), "", "probability of being a star"),
    ("flags", pa.int64(), "", "bits of raydeblend.flags.Flag"),
)
_FLUXES = (
    ("true_flux_{}", "true flux in {}"),
    ("flux_{}", "measured flux in {}"),
    ("flux_err_{}", "standard error of flux_{}"),
    ("flux_psf_{}", "measured flux of the PSF at the source in {}"),
)


def schema(bands: Sequence[str]) -> pa.Schema:
    """Return the columns of the table, with units and descriptions."""
    fluxes = tuple(
        (name.format(band), pa.float64(), "nJy", text.format(band))
        for band in bands
        for name, text in _FLUXES
    )
    return pa.schema(
        [
            pa.field(name, kind, metadata={"unit": unit, "description": text})
            for name, kind, unit, text in (*_PLACE, *fluxes, *_FOUND)
        ]
    )


def injected_table(
    sources: InjectedSources,
    sky: FloatArray,
    found: pa.Table,
    recovery: Recovery,
    key: tuple[str, str],
    bands: Sequence[str],
    pixel_scale: float,
) -> pa.Table:
    """Return the table of a cell's injected sources.

    Parameters
    ----------
    sky
        ``(n, 2)`` ra and dec in degrees.
    found
        The catalog of the copy.
    key
        Tile and cell.
    """
    n, band = len(sources), reference_band(bands)
    moved = pixel_scale * (_taken(positions(found), recovery) - sources.xy)
    columns: dict[str, object] = {
        "tile": [key[0]] * n,
        "cell": [key[1]] * n,
        "kind": sources.kind.tolist(),
        "x": sources.xy[:, 0],
        "y": sources.xy[:, 1],
        "ra": sky[:, 0],
        "dec": sky[:, 1],
        "magnitude": NJY_ZERO_POINT - 2.5 * np.log10(sources.flux[:, band]),
        "weight": sources.weight,
        "r50": sources.r50,
        "found": recovery.match >= 0,
        "extra": recovery.extra,
        "dx": moved[:, 0],
        "dy": moved[:, 1],
    }
    for i, name in enumerate(bands):
        columns[f"true_flux_{name}"] = sources.flux[:, i]
    fields = schema(bands)
    for field in fields:
        if field.name not in columns:
            columns[field.name] = _taken(found[field.name].to_numpy(), recovery)
    return pa.table(
        [pa.array(columns[field.name], field.type, from_pandas=True) for field in fields],
        schema=fields,
    )


def _taken(values: NDArray[np.generic], recovery: Recovery) -> FloatArray:
    """Return the values of the matched rows, NaN where there is none."""
    rows = recovery.match
    if not len(values):
        return np.full((len(rows), *values.shape[1:]), np.nan)
    taken = values.astype(np.float64)[np.maximum(rows, 0)]
    return np.where((rows >= 0).reshape(-1, *[1] * (values.ndim - 1)), taken, np.nan)
