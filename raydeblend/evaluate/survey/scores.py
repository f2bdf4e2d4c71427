"""What a catalog of simulated tiles is worth: one table of galaxies, one of detections, and scores.

Truth knows more than the catalog: how blended a galaxy is and how far its neighbor.  Blendedness
is that of round Gaussians as wide as galaxy and seeing together, whose products are analytic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from raydeblend.evaluate.common.sky import RADIUS, Pairing, pair_catalog, primary
from raydeblend.evaluate.survey.unrecognized import FLUX_RATIO, unrecognized_blends
from raydeblend.survey import Survey, get_survey

HALF_LIGHT_PER_SIGMA = 1.17741
FWHM_PER_SIGMA = 2.35482
"""Of a two-dimensional Gaussian: (2 ln 2)^½ and twice that."""
NEIGHBOR_FLUX = FLUX_RATIO
"""Part of a galaxy's flux from which another source counts as its neighbor."""
FAR_PULL, FAR_ERROR = 5.0, 0.2
"""A flux is catastrophic if off by more than this many errors and this fraction of the truth."""
REACH = 15.0
"""Arcsec beyond which light does not overlap."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class GalaxyTable:
    """The m true galaxies that the catalog could hold; what was measured is NaN where missing.

    Attributes
    ----------
    magnitude
        ``(m,)`` true AB magnitude in the reference band.
    blendedness
        ``(m,)`` of Gaussians in the reference band, see `gaussian_blendedness`.
    separation
        ``(m,)`` arcsec to the nearest source of at least `NEIGHBOR_FLUX` of its flux.
    error, pull
        ``(m, bands)`` F / F_true - 1, and (F - F_true) over the stated error.
    offset
        ``(m, 2)`` arcsec east and north, catalog less truth.
    g_true, g
        ``(m, 2)`` reduced shears.
    flagged
        ``(m,)`` whether the catalog source has any flag.
    quality
        ``(m,)`` of the catalog source; empty where there is none.
    p_bad
        ``(m,)`` of the catalog source; NaN where null or there is none.
    """

    magnitude: Floats
    blendedness: Floats
    separation: Floats
    error: Floats
    pull: Floats
    offset: Floats
    g_true: Floats
    g: Floats
    flagged: Bools
    quality: NDArray[np.str_]
    p_bad: Floats

    @property
    def measured(self) -> Bools:
        """``(m,)`` which have a flux with an error in the reference band."""
        return np.isfinite(self.pull[:, -1])

    @property
    def catastrophic(self) -> Bools:
        """``(m,)`` whose flux is wrong by more than 5 stated errors and by more than 20 %."""
        pull, error = self.pull[:, -1], self.error[:, -1]
        return np.asarray((np.abs(pull) > FAR_PULL) & (np.abs(error) > FAR_ERROR))

    @property
    def found(self) -> Bools:
        """``(m,)`` which galaxies have a catalog source."""
        return np.isfinite(self.offset[:, 0])

    def take(self, rows: Bools) -> GalaxyTable:
        """Return the chosen galaxies."""
        return GalaxyTable(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True)
class DetectionTable:
    """The n primary sources of a catalog.

    Attributes
    ----------
    position
        ``(n, 2)`` arcsec on the tangent plane.
    magnitude
        ``(n,)`` measured, in the reference band.
    pure, duplicate
        ``(n,)`` has a true source of its own; has none, but a matched true one in reach.
    unrecognized
        ``(n,)`` holds another true source that has no detection of its own; see
        `unrecognized_blends`.
    probability
        ``(n,)`` p_unrecognized_blend; NaN where null.
    """

    position: Floats
    magnitude: Floats
    pure: Bools
    duplicate: Bools
    unrecognized: Bools
    probability: Floats

    @property
    def area(self) -> float:
        """Square arcmin of the rectangle that holds the positions."""
        return float(np.prod(np.ptp(self.position, axis=0))) / 3600

    def take(self, rows: Bools) -> DetectionTable:
        """Return the chosen detections."""
        return DetectionTable(**{name: values[rows] for name, values in vars(self).items()})


def compare(
    catalog: pa.Table,
    truth: pa.Table,
    bands: Sequence[str],
    radius: float = RADIUS,
    survey: str = "HSC",
) -> tuple[GalaxyTable, DetectionTable]:
    """Match a catalog to the truth and compare.

    Parameters
    ----------
    catalog
        As `raydeblend.catalog` writes it.
    truth
        As `raydeblend.simulate.scene.truth_table` makes it.
    bands
        The last one is the reference band.
    survey
        Whose median seeing true blendedness is of.

    Raises
    ------
    ConfigError
        If the catalog has no primary source.
    """
    sources = primary(catalog)
    pairing = pair_catalog(sources, truth, bands, radius)
    return (
        _galaxies(sources, truth, pairing, bands, get_survey(survey)),
        _detections(sources, pairing),
    )


def _galaxies(
    catalog: pa.Table,
    truth: pa.Table,
    pairing: Pairing,
    bands: Sequence[str],
    survey: Survey,
) -> GalaxyTable:
    true, match = pairing.true, pairing.match
    width = _widths(truth, survey, bands[-1])
    flux, flux_err = (
        _matched(np.stack([_column(catalog, f"{kind}_{b}") for b in bands], axis=-1), match)
        for kind in ("flux", "flux_err")
    )
    shapes = [np.stack([_column(t, g) for g in ("g1", "g2")], axis=-1) for t in (truth, catalog)]
    table = GalaxyTable(
        magnitude=true.magnitude(-1),
        blendedness=gaussian_blendedness(true.position, true.flux[:, -1], width),
        separation=nearest_neighbor(true.position, true.flux[:, -1]),
        error=flux / true.flux - 1,
        pull=(flux - true.flux) / np.where(flux_err > 0, flux_err, np.nan),
        offset=_matched(pairing.found.position, match) - true.position,
        g_true=shapes[0],
        g=_matched(shapes[1], match),
        flagged=(match >= 0) & (_column(catalog, "flags")[match] != 0),
        quality=np.where(match >= 0, np.asarray(catalog["quality"].to_pylist())[match], ""),
        p_bad=np.where(match >= 0, _column(catalog, "p_bad")[match], np.nan),
    )
    return table.take(pairing.counted)


def _detections(catalog: pa.Table, pairing: Pairing) -> DetectionTable:
    matched = np.zeros(len(catalog), dtype=bool)
    matched[pairing.match[pairing.match >= 0]] = True
    return DetectionTable(
        position=pairing.found.position,
        magnitude=pairing.found.magnitude(-1),
        pure=matched,
        duplicate=pairing.duplicated,
        unrecognized=unrecognized_blends(
            pairing.found.position, pairing.true.position, pairing.true.flux[:, -1]
        ),
        probability=_column(catalog, "p_unrecognized_blend"),
    )


def _column(table: pa.Table, name: str) -> Floats:
    """Return a column as float64, NaN where null."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _matched(values: Floats, match: NDArray[np.int64]) -> Floats:
    """Return the rows ``(m, ...)`` of `values` that truth is matched to, NaN where to none."""
    rows = values[np.maximum(match, 0)]
    return np.where((match >= 0)[:, None], rows, np.nan)


def _widths(truth: pa.Table, survey: Survey, band: str) -> Floats:
    """Return the Gaussian width (arcsec) of each true source behind the median seeing."""
    radius = np.nan_to_num(_column(truth, "half_light_radius"))
    seeing = survey.band(band).psf_fwhm / FWHM_PER_SIGMA
    return np.asarray(np.hypot(radius / HALF_LIGHT_PER_SIGMA, seeing))


def gaussian_blendedness(position: Floats, flux: Floats, width: Floats) -> Floats:
    """Return 1 − Σ I_k² / Σ I_k Σ_j I_j of round Gaussians (Bosch et al. 2018).

    The integral of the product of two is F_k F_j / (2π s²) exp(−d²/2s²) with s² = σ_k² + σ_j².

    Parameters
    ----------
    position
        ``(m, 2)`` in the unit of `width`, arcsec.
    flux, width
        ``(m,)``.
    """
    own = flux**2 / (4 * np.pi * width**2)
    total = own.copy()
    for i, j in cKDTree(position).query_pairs(REACH):
        square = width[i] ** 2 + width[j] ** 2
        distance2 = float(np.sum((position[i] - position[j]) ** 2))
        shared = flux[i] * flux[j] / (2 * np.pi * square) * np.exp(-distance2 / (2 * square))
        total[i] += shared
        total[j] += shared
    return np.asarray(1 - own / total)


def nearest_neighbor(position: Floats, flux: Floats, part: float = NEIGHBOR_FLUX) -> Floats:
    """Return the distance to the nearest source of at least `part` of one's flux; inf for none.

    Looked for within `REACH`.
    """
    nearest = np.full(len(flux), np.inf)
    for i, j in cKDTree(position).query_pairs(REACH):
        distance = float(np.linalg.norm(position[i] - position[j]))
        for one, other in ((i, j), (j, i)):
            if flux[other] >= part * flux[one]:
                nearest[one] = min(nearest[one], distance)
    return nearest
