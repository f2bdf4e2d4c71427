"""Large galaxies like those nearby, with stars and other galaxies in front of them.

They are real images enlarged, and stand on a grid, far from each other, with the PSFs and depth of
the realistic population.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.simulate.galaxies import HUDF, REAL
from raydeblend.simulate.population.depth import as_observed
from raydeblend.simulate.population.draw import draw_realistic
from raydeblend.simulate.population.galaxies import MixedGalaxies
from raydeblend.simulate.population.seeing import draw_seeing
from raydeblend.simulate.population.stamps import Stamps
from raydeblend.simulate.population.stars import star_magnitudes
from raydeblend.simulate.scene import Scene
from raydeblend.simulate.singles import grid_places
from raydeblend.survey import NJY_ZERO_POINT, Survey

FloatArray = NDArray[np.float64]

SPACING = 440
"""Pixels between large galaxies."""
LARGE_I = (14.5, 18.5)
R50_AT_16, R50_SLOPE, LOG_R50_SCATTER = 4.0, -0.17, 0.25
"""Half-light radius in arcsec at i = 16, d log10 / d i, and its scatter in ln."""
R50_RANGE = (1.5, 9.0)
MOST_STRETCH = 8.0
"""Largest factor by which an image is enlarged: beyond, its lack of resolution would show."""
MIN_R50, FAINTEST = 0.35, 22.5
"""Limits of the images, in arcsec and magnitude: others show no structure, or noise."""
OTHERS, STARS = 4, 2
"""Number of other galaxies and of stars around each."""
OTHERS_I, STARS_I = (19.0, 24.0), (17.8, 21.0)
STARS_GI = (0.4, 3.0)
REACH = 1.6
"""Standard deviation of the other sources' offsets from the center, in half-light radii."""
NEAREST = 1.5
"""Their least distance from the center, in arcsec."""


def large_scene(
    survey: Survey, bands: tuple[str, ...], n_large: int, seed: int, stamps: Stamps
) -> Scene:
    """Draw large galaxies, first, the galaxies about them, and the stars.

    Parameters
    ----------
    stamps
        Real galaxies of the split that is asked for, at least one.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(8,)))
    deep = as_observed(survey)
    large_i = rng.uniform(*LARGE_I, n_large)
    others_i = rng.uniform(*OTHERS_I, OTHERS * n_large)
    galaxies = draw_realistic(np.concatenate([large_i, others_i]), bands, rng, stamps)
    galaxies = _enlarged(galaxies, n_large, stamps, rng)
    stars_i = rng.uniform(*STARS_I, STARS * n_large)
    stars = star_magnitudes(stars_i, rng.uniform(*STARS_GI, len(stars_i)), bands, rng)
    grid, places = grid_places(n_large, SPACING, survey.pixel_scale, rng)
    host = np.concatenate([np.repeat(np.arange(n_large), each) for each in (OTHERS, STARS)])
    offset = REACH * galaxies.r50[host, None] * rng.standard_normal((len(host), 2))
    distance = np.hypot(*offset.T)[:, None]
    offset *= np.maximum(distance, NEAREST) / distance
    magnitude = np.concatenate([galaxies.magnitude, stars])
    return Scene(
        survey=deep,
        grid=grid,
        xy=np.concatenate([places, places[host] + offset / survey.pixel_scale]),
        flux=10 ** (0.4 * (NJY_ZERO_POINT - magnitude)),
        galaxies=galaxies,
        psfs=draw_seeing(deep, bands, rng),
    )


def _enlarged(
    galaxies: MixedGalaxies, n: int, stamps: Stamps, rng: np.random.Generator
) -> MixedGalaxies:
    """Return galaxies of which the first n are large real images."""
    large = slice(n)
    # Where no image is calibrated, any may be taken.
    seen = (stamps.r50 > MIN_R50) & (np.nan_to_num(stamps.magnitude) < FAINTEST)
    among = np.flatnonzero(seen if seen.any() else np.ones(len(stamps), dtype=bool))
    chosen = rng.choice(among, n)
    fainter = galaxies.magnitude[large, galaxies.bands.index("i")] - 16
    r50 = R50_AT_16 * 10 ** (R50_SLOPE * fainter) * np.exp(LOG_R50_SCATTER * rng.standard_normal(n))
    stretch = np.minimum(np.clip(r50, *R50_RANGE) / stamps.r50[chosen], MOST_STRETCH)
    galaxies.stamp[large], galaxies.stretch[large] = chosen, stretch
    galaxies.r50[large] = stretch * stamps.r50[chosen]
    kind = np.where(stamps.collection[chosen] == HUDF, HUDF, REAL)
    galaxies.kind[large] = galaxies.cls[large] = kind
    galaxies.angle[large] = rng.uniform(0, 360, n)
    galaxies.index[large] = galaxies.g[large] = np.nan
    galaxies.bulge_fraction[large] = galaxies.clumpiness[large] = 0
    return replace(galaxies, stamps=stamps)
