"""Galaxies of known shape, whose fluxes alone are to be measured: from an earlier run or a table.

As T-PHOT takes models from images that are deeper or sharper (Merlin et al. 2015, A&A 582, A15).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from raydeblend.catalog import PROFILE
from raydeblend.errors import ConfigError
from raydeblend.positions import SkyPositions, read_positions, to_positions
from raydeblend.sky_tables import Columns, read_sky_table

Array = NDArray[np.float64]

FRACTION, ERROR = "bulge_fraction", "template_error"
SHAPE = (*PROFILE, FRACTION, ERROR)
"""What a template is: disk, bulge, the bulge's part of the light, and by which part of itself a
flux may be off for its sake."""
READ = "|".join([*SHAPE, f"{FRACTION}_.+", "flux_(?!psf_|cov_).+"])
LIMITS = {"disk_r50": (1e-4, 1e3), "disk_n": (0.3, 6.0), "disk_q": (1e-3, 1.0)} | {
    "bulge_r50": (1e-4, 1e3), "bulge_q": (1e-3, 1.0), FRACTION: (0.0, 1.0), ERROR: (0.0, 1.0)
}  # fmt: skip
"""Valid values; radii in arcsec."""
MATCH_RADIUS = 0.5
"""Arcsec within which a template is that of a position."""


def read_given(positions: str | None, templates: str | None) -> SkyPositions | None:
    """Return where to measure, and the shapes there if there are templates; None for neither.

    With both, a position has the shape of the nearest template within `MATCH_RADIUS`, and is a
    point source if there is none.

    Raises
    ------
    ConfigError
        See `read_positions` and `read_templates`; or if no position is near a template.
    """
    if templates is None:
        return None if positions is None else read_positions(positions)
    known = read_templates(templates)
    if positions is None:
        return known
    return _with_shapes(read_positions(positions), known, templates)


def read_templates(path: str) -> SkyPositions:
    """Read templates: the output of an earlier run, or a table as `read_sky_table` reads.

    A table has the columns ``disk_r50``, ``disk_n``, ``disk_q`` and ``disk_pa`` of the catalog, and
    maybe those of bulges, ``bulge_fraction`` and ``template_error``.  Without ``disk_r50`` a source
    is a point.

    Raises
    ------
    ConfigError
        As `read_positions` does; or if it has no shape, or one that cannot be.
    """
    where = f"the templates {path}"
    columns = read_sky_table(path, "templates", READ)
    if missing := [name for name in PROFILE[:4] if name not in columns]:
        raise ConfigError(
            f"{where} lack the column {missing[0]}; a catalog of the deblender joint has it"
        )
    shapes = _shapes(columns)
    if np.isnan(shapes[:, 0]).all():
        raise ConfigError(
            f"{where} have no value of disk_r50, which only the deblender joint measures"
        )
    _check(where, shapes)
    return replace(to_positions(where, columns), shapes=shapes)


def _shapes(columns: Columns) -> Array:
    """Return the columns `SHAPE` ``(n, 9)``; all are NaN for points."""
    known = {name: columns[name] for name in PROFILE if name in columns}
    known |= {FRACTION: _bulge_fraction(columns), ERROR: _error(columns)}
    # What has no bulge has the disk's shape there, which nobody sees.
    bulge = known[FRACTION] > 0
    for name in PROFILE[4:]:
        disk = known[name.replace("bulge", "disk")]
        known[name] = np.where(bulge, known.get(name, np.nan), disk)
    shapes = np.column_stack([known[name] for name in SHAPE])
    shapes[np.isnan(known["disk_r50"])] = np.nan
    return np.asarray(shapes, dtype=np.float64)


def _bulge_fraction(columns: Columns) -> Array:
    """Return the bulge's part of the light ``(n,)``; of several bands by their signal to noise."""
    if FRACTION in columns:
        return np.nan_to_num(columns[FRACTION])
    total, weight = np.zeros((2, len(columns["ra"])))
    for band in _bands(columns):
        ratio = np.nan_to_num(columns[f"flux_{band}"] / columns[f"flux_err_{band}"])
        own = np.maximum(ratio, 0)
        total += own * np.nan_to_num(columns[f"{FRACTION}_{band}"])
        weight += own
    return np.asarray(total / np.where(weight > 0, weight, 1))


def _error(columns: Columns) -> Array:
    """Return by which part fluxes may be off ``(n,)``: as the template's own flux, where best."""
    if ERROR in columns:
        return np.nan_to_num(columns[ERROR])
    best = np.full(len(columns["ra"]), np.inf if _bands(columns) else 0.0)
    for band in _bands(columns):
        flux = columns[f"flux_{band}"]
        with np.errstate(invalid="ignore"):
            ratio = columns[f"flux_err_{band}"] / np.where(flux > 0, flux, np.nan)
        best = np.fmin(best, ratio)
    return np.asarray(np.minimum(best, LIMITS[ERROR][1]))


def _bands(columns: Columns) -> list[str]:
    prefix = f"{FRACTION}_"
    named = [name.removeprefix(prefix) for name in columns if name.startswith(prefix)]
    return [band for band in named if {f"flux_{band}", f"flux_err_{band}"} <= set(columns)]


def _check(where: str, shapes: Array) -> None:
    """Refuse shapes that cannot be; those of points are left out."""
    known = ~np.isnan(shapes[:, 0])
    for name, values in zip(SHAPE, shapes.T, strict=True):
        low, high = LIMITS.get(name, (-np.inf, np.inf))
        with np.errstate(invalid="ignore"):
            wrong = np.flatnonzero(known & ~((values >= low) & (values <= high)))
        if len(wrong):
            limits = f"; valid: {low:g} to {high:g}" if name in LIMITS else ""
            raise ConfigError(
                f"row {wrong[0]} of {where} has the {name} {values[wrong[0]]:g}{limits}"
            )


def _with_shapes(positions: SkyPositions, known: SkyPositions, path: str) -> SkyPositions:
    """Return positions with the shapes of the templates near them."""
    assert known.shapes is not None
    places, own = (SkyCoord(each.ra, each.dec, unit="deg") for each in (positions, known))
    nearest, apart, _ = places.match_to_catalog_sky(own)
    near = apart.arcsec < MATCH_RADIUS
    if not near.any():
        raise ConfigError(f"no position has a template within {MATCH_RADIUS} arcsec among {path}")
    return replace(positions, shapes=np.where(near[:, None], known.shapes[nearest], np.nan))
