"""Shapes of bright galaxies without a model: concentration, Gini coefficient, M20."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray

Floats = NDArray[np.floating]

THRESHOLD, MIN_AREA = 2.0, 8
"""Sky sigmas and pixels of what counts as the galaxy."""
REACH = 6.0
"""Radius that holds the whole flux, in rms lengths along the major axis."""
FRACTIONS = (0.2, 0.5, 0.8)


@dataclass(frozen=True)
class Morphology:
    """Numbers of one galaxy.

    Attributes
    ----------
    flux
        In the unit of the image.
    half_light
        Radius of the circle with half of it, in pixels.
    ellipticity
        1 - b/a of the second moments.
    concentration
        5 log10(r80 / r20) (Conselice 2003).
    gini, m20
        Lotz et al. 2004, equations 6 and 8, over the pixels above the threshold.
    """

    flux: float
    half_light: float
    ellipticity: float
    concentration: float
    gini: float
    m20: float


def measure_morphology(image: Floats, sigma: float = 1.0) -> Morphology | None:
    """Measure the source nearest to the middle of ``(y, x)``; None where there is none.

    Parameters
    ----------
    sigma
        Noise per pixel.
    """
    data = np.ascontiguousarray(image, dtype=np.float64)
    found, segments = sep.extract(
        data, THRESHOLD, err=sigma, minarea=MIN_AREA, segmentation_map=True
    )
    if not len(found):
        return None
    y, x = (np.array(image.shape) - 1) / 2
    nearest = int(np.argmin(np.hypot(found["x"] - x, found["y"] - y)))
    source = found[nearest]
    reach = min(REACH * source["a"], min(image.shape) / 2)
    center = [source["x"]], [source["y"]]
    flux = float(sep.sum_circle(data, *center, reach)[0][0])
    radii, _ = sep.flux_radius(data, *center, [reach], list(FRACTIONS))
    inner, half, outer = radii[0]
    if not (flux > 0 and inner > 0):
        return None
    inside = segments == nearest + 1
    return Morphology(
        flux=flux,
        half_light=float(half),
        ellipticity=float(1 - source["b"] / source["a"]),
        concentration=float(5 * np.log10(outer / inner)),
        gini=gini(data[inside]),
        m20=m20(np.where(inside, data, 0.0)),
    )


def gini(pixels: Floats) -> float:
    """Return how unequally the light is spread: 0 evenly, 1 all in one pixel (equation 6)."""
    light = np.sort(np.abs(pixels).ravel())
    n = len(light)
    weight = 2 * np.arange(1, n + 1) - n - 1
    return float((weight * light).sum() / (light.mean() * n * (n - 1)))


def m20(image: Floats) -> float:
    """Return log10 of the brightest fifth's part of the second moment (equation 8).

    Parameters
    ----------
    image
        ``(y, x)``, zero outside the galaxy.
    """
    y, x = np.indices(image.shape)
    total = image.sum()
    center_y, center_x = (image * y).sum() / total, (image * x).sum() / total
    moment = image * ((y - center_y) ** 2 + (x - center_x) ** 2)
    order = np.argsort(image, axis=None)[::-1]
    brightest = np.cumsum(image.ravel()[order]) <= FRACTIONS[0] * total
    # At least the brightest pixel, whatever its part of the light.
    brightest[0] = True
    part = moment.ravel()[order][brightest].sum() / moment.sum()
    return float(np.log10(max(part, np.finfo(float).tiny)))
