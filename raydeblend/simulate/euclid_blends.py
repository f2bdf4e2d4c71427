"""Test sets to the protocol of Nemani et al. 2023: VIS stamps with one and with two galaxies.

The paper superimposes "one galaxy in an annulus around another" and measures the "central" one
(section 2).  It is silent on the annulus, on how bright the two are, and on the magnitudes of its
catalog; here both are drawn alike, whichever is the brighter, down to `FAINT`.  Its noise is
Gaussian and that of the limiting magnitude alone; here the galaxies' own Poisson noise comes on
top, as at a telescope, which makes ours no easier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.errors import ConfigError
from raydeblend.simulate.euclid import (
    BANDS,
    FAINT,
    SURVEY,
    SersicFits,
    double_sersic,
    draw_euclid,
    draw_profile,
    vis_psf,
)
from raydeblend.simulate.euclid_real import deconvolved, fainter_than, magnitudes
from raydeblend.simulate.hst import HstStamps
from raydeblend.survey import draw_psf, get_survey

SIZE = 64
ANNULUS = (6.0, 20.0)
"""Radii in pixels (0.6 and 2 arcsec) between which the second galaxy lies; not printed."""
GALAXIES = 3
"""Of each entry of a set: one alone, and two that make a blend."""

Draw = Callable[[], tuple[galsim.GSObject, float]]
"""Returns the next galaxy, of unit flux and before the PSF, and its magnitude."""


def nemani2023_blends(
    n: int,
    seed: int,
    fits: SersicFits | None = None,
    real: HstStamps | None = None,
    faint: float = FAINT,
) -> dict[str, NDArray[Any]]:
    """Draw `n` stamps of one galaxy and `n` of two, of galaxies that no network is trained on.

    Parameters
    ----------
    fits
        For analytic galaxies; see `draw_euclid`.
    real
        HST galaxies for realistic stamps, in place of analytic ones; those kept for validation
        are used.

    Returns
    -------
    arrays
        ``blend1 (n, 1, 64, 64)``, ``isolated1 (n, 1, 1, 64, 64)`` and ``xy1 (n, 1, 2)``; the same
        with 2, where the first galaxy is the centered one, bright or faint; ``psf``, ``bands``,
        ``pixel_scale``.  Unit: the sky sigma.

    Raises
    ------
    ConfigError
        If `n` is not positive, or no HST galaxy is kept for validation.
    """
    if n < 1:
        raise ConfigError(f"the number of stamps must be at least 1, not {n}")
    rng = np.random.default_rng(seed)
    draw = _analytic(GALAXIES * n, rng, fits, faint) if real is None else _real(real, rng, faint)
    survey = get_survey(SURVEY)
    arrays: dict[str, NDArray[Any]] = {
        "psf": draw_psf(vis_psf(survey), survey.pixel_scale)[None],
        "bands": np.array(BANDS),
        "pixel_scale": np.array(survey.pixel_scale),
    }
    for k in (1, 2):
        stamps = [_stamp(k, draw, rng) for _ in range(n)]
        names = ("blend", "isolated", "xy")
        for name, values in zip(names, zip(*stamps, strict=True), strict=True):
            arrays[f"{name}{k}"] = np.stack(values)
    return arrays


def _analytic(n: int, rng: np.random.Generator, fits: SersicFits | None, faint: float) -> Draw:
    galaxies = draw_euclid(n, rng, fits, faint, validation=True)

    def draw() -> Iterator[tuple[galsim.GSObject, float]]:
        for row in range(n):
            yield double_sersic(galaxies, row), float(galaxies.magnitude[row])

    return draw().__next__


def _real(stamps: HstStamps, rng: np.random.Generator, faint: float) -> Draw:
    kept = stamps.take(stamps.is_validation)
    if len(kept) == 0:
        raise ConfigError("none of the HST galaxies is kept for validation")
    own = magnitudes(kept)

    def draw() -> tuple[galsim.GSObject, float]:
        row = int(rng.integers(len(kept)))
        magnitude = fainter_than(own[row], faint, rng)
        return deconvolved(kept, row, magnitude - own[row]), magnitude

    return draw


def _stamp(
    k: int, draw: Draw, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return image ``(1, y, x)``, true galaxies ``(k, 1, y, x)`` and positions ``(k, 2)``."""
    survey = get_survey(SURVEY)
    psf = vis_psf(survey)
    offsets = [rng.uniform(-0.5, 0.5, 2), *(_in_annulus(rng) for _ in range(k - 1))]
    galaxies = []
    for offset in offsets:
        profile, magnitude = draw()
        place = (float(offset[0]), float(offset[1]))
        image = draw_profile(profile, psf, magnitude, survey, rng, SIZE, place)
        galaxies.append(np.maximum(image, 0)[None])
    scene = np.sum(galaxies, axis=0)
    sky = np.sqrt(survey.band(BANDS[0]).sky_electrons)
    noise = rng.normal(size=scene.shape) * np.sqrt(1 + scene / sky)
    xy = np.stack(offsets) + (SIZE - 1) / 2
    return (scene + noise).astype(np.float32), np.stack(galaxies), xy.astype(np.float32)


def _in_annulus(rng: np.random.Generator) -> NDArray[np.float64]:
    """Offset (x, y) uniform over the area of the annulus."""
    radius = np.sqrt(rng.uniform(ANNULUS[0] ** 2, ANNULUS[1] ** 2))
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([radius * np.cos(angle), radius * np.sin(angle)])
