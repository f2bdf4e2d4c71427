"""Which galaxies of a catalog a test set holds, so that no network is trained on them."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.simulate.galaxies import Galaxies
from raydeblend.survey import NJY_ZERO_POINT, get_survey

SURVEY = "LSST"
"""Whose sky noise is the unit of the test sets (DESIGN section 2, evaluation data)."""
RADIUS_MAG = 0.03
"""Rows this near in magnitude space may be the galaxy too: stamps cut off a little flux."""


def exclude_held_out(table: Galaxies, path: str) -> Galaxies:
    """Return `table` without the galaxies of the test set at `path`.

    A test set does not name its galaxies; they are recognized by their magnitudes in all bands.

    Raises
    ------
    ConfigError
        If `path` is not a test set, or one without the bands of the table.
    """
    return table.take(~is_held_out(table, path))


def is_held_out(table: Galaxies, path: str) -> NDArray[np.bool_]:
    """Return ``(n,)``: which rows of `table` the test set at `path` may hold.

    Raises
    ------
    ConfigError
        As `exclude_held_out`.
    """
    magnitudes = _magnitudes(path, table.bands)
    tree = cKDTree(table.magnitude)
    near = [row for rows in tree.query_ball_point(magnitudes, RADIUS_MAG) for row in rows]
    nearest = tree.query(magnitudes)[1]
    held_out = np.zeros(len(table), dtype=bool)
    held_out[np.concatenate([np.array(near, dtype=np.int64), nearest])] = True
    return held_out


def _magnitudes(path: str, bands: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the AB magnitudes ``(galaxies, bands)`` of a test set."""
    if not storage.exists(path):
        raise ConfigError(f"there is no test set {path}")
    with np.load(io.BytesIO(storage.read_bytes(path))) as arrays:
        names = [name for name in arrays if name.startswith("isolated")]
        if not names or not set(bands) <= set(arrays["bands"]):
            raise ConfigError(f"{path} is not a test set of isolated galaxies in {bands}")
        flux = np.concatenate([_fluxes(arrays[name]) for name in names])
        columns = [list(arrays["bands"]).index(band) for band in bands]
    survey = get_survey(SURVEY)
    sky_sigma = np.array([survey.band(band).sky_sigma for band in bands])
    return np.asarray(NJY_ZERO_POINT - 2.5 * np.log10(flux[:, columns] * sky_sigma), np.float64)


def _fluxes(images: NDArray[np.float16]) -> NDArray[np.float64]:
    """Sum ``(n, k, bands, y, x)`` to ``(n * k, bands)``."""
    flux = images.sum(axis=(3, 4), dtype=np.float64)
    return np.asarray(flux.reshape(-1, images.shape[2]))
