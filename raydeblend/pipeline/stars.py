"""The probability that a source is a star: a calibrated logistic model of its measurements.

Its features are how far the light extends beyond the PSF, relative to the noise; the magnitude,
since the fraction of stars falls with it; and the colors, if g, r and i are available.  The
coefficients and their origin are in ``weights/star.json``; `raydeblend train star` fits them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.calibration import read_calibration, write_calibration
from raydeblend.deblend.logistic import Logistic, probability, read_logistic, write_logistic
from raydeblend.measure.point_sources import PointSources
from raydeblend.shipped import SHIPPED
from raydeblend.survey import NJY_ZERO_POINT

Array = NDArray[np.float64]

SIZES = ("excess_sigma", "log_excess", "log_error", "magnitude", "lost")
COLOR_BANDS = ("g", "r", "i")
COLORS = ("g_r", "r_i", "color_error")
REFERENCE = "i"


@dataclass(frozen=True)
class StarConfig:
    """How the features are made; the calibration learns them as they are.

    Attributes
    ----------
    excess_floor
        Relative error of a PSF's T, which limits what the size of a bright source can prove.
    excess_scale
        Relative excess over the PSF's T above which the feature is logarithmic.
    """

    excess_floor: float = 0.01
    excess_scale: float = 0.1


STARS = StarConfig()


@dataclass(frozen=True)
class StarModel:
    """The calibration.

    Attributes
    ----------
    sizes
        From the features of `SIZES` alone, for any bands.
    colors
        From those and `COLORS`.
    card
        Where it comes from and how well it does.
    sha256
        Of the file it was read from.
    """

    sizes: Logistic
    colors: Logistic
    card: Mapping[str, Any]
    sha256: str = ""

    def p_star(self, points: PointSources, bands: Sequence[str]) -> Array:
        """Return the probabilities ``(k,)``; NaN where no band shows the source."""
        has_colors = set(COLOR_BANDS) <= set(bands)
        chosen, known = self.sizes, size_features(points, bands)
        p = probability(chosen.logit(np.nan_to_num(known)))
        if has_colors:
            both = np.column_stack([known, color_features(points, bands)])
            complete = np.isfinite(both).all(1)
            p = np.where(complete, probability(self.colors.logit(np.nan_to_num(both))), p)
        return np.where(np.isfinite(known).all(1), p, np.nan)


def size_features(points: PointSources, bands: Sequence[str]) -> Array:
    """Return the features ``(k, 5)`` of `SIZES`."""
    error = np.hypot(points.excess_err, STARS.excess_floor)
    band = bands.index(REFERENCE) if REFERENCE in bands else len(bands) - 1
    return np.column_stack(
        [
            np.arcsinh(points.excess / error),
            np.arcsinh(points.excess / STARS.excess_scale),
            np.log(error),
            _magnitude(points, band),
            points.lost,
        ]
    )


def color_features(points: PointSources, bands: Sequence[str]) -> Array:
    """Return the features ``(k, 3)`` of `COLORS`; NaN where a band does not show the source."""
    g, r, i = (bands.index(band) for band in COLOR_BANDS)
    magnitudes = [_magnitude(points, band) for band in (g, r, i)]
    noise = points.flux_err / np.maximum(points.flux, points.flux_err)
    error = np.log(np.hypot(noise[:, g], noise[:, r]) + STARS.excess_floor)
    return np.column_stack([magnitudes[0] - magnitudes[1], magnitudes[1] - magnitudes[2], error])


def _magnitude(points: PointSources, band: int) -> Array:
    """Return the AB magnitude of the point source, or of its flux error if that is brighter."""
    flux = np.maximum(points.flux[:, band], points.flux_err[:, band])
    return np.asarray(NJY_ZERO_POINT - 2.5 * np.log10(flux))


@cache
def shipped_stars() -> StarModel:
    """Return the calibration that is shipped.

    Raises
    ------
    ConfigError
        If it is missing or damaged.
    """
    return read_stars(SHIPPED / "star.json")


def read_stars(path: str | Path) -> StarModel:
    """Read a calibration.

    Raises
    ------
    ConfigError
        If there is none or it is damaged.
    """

    def make(content: Mapping[str, Any], sha256: str) -> StarModel:
        sizes, colors = (read_logistic(content[name]) for name in ("sizes", "colors"))
        return StarModel(sizes, colors, content["card"], sha256)

    return read_calibration(path, "stars", make)


def write_stars(path: str, model: StarModel) -> None:
    """Write a calibration as JSON."""
    parts = {"sizes": write_logistic(model.sizes), "colors": write_logistic(model.colors)}
    write_calibration(path, {**parts, "card": dict(model.card)})
