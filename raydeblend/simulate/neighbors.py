"""Tiles of what is rare in the field: close pairs, and galaxies next to bright stars.

Both stand on grids, far from anything else, with the galaxies, PSFs and depth of the realistic
population.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.simulate.population.depth import as_observed
from raydeblend.simulate.population.draw import draw_realistic
from raydeblend.simulate.population.seeing import draw_seeing
from raydeblend.simulate.population.stamps import Stamps
from raydeblend.simulate.population.stars import star_magnitudes
from raydeblend.simulate.scene import Scene
from raydeblend.simulate.singles import grid_places
from raydeblend.survey import NJY_ZERO_POINT, Survey

FloatArray = NDArray[np.float64]

PAIR_SPACING = 56
"""Pixels between pairs."""
PAIR_I = (20.5, 24.5)
PAIR_DELTA = 2.5
"""By how many magnitudes the second may be fainter: a tenth of the flux."""
PAIR_DISTANCE = (0.2, 1.5)
"""Arcsec; evenly spread."""
STAR_SPACING = 128
"""Pixels between stars."""
STAR_I = (15.5, 20.5)
STAR_GI = (0.4, 3.0)
STAR_NEIGHBORS = 3
NEIGHBOR_DISTANCE = (3.0, 7.0)
"""Arcsec of a star's galaxies, evenly spread, each in its own third of the circle."""
NEIGHBOR_I = (21.0, 24.5)


def pairs_scene(
    survey: Survey, bands: tuple[str, ...], n_pairs: int, seed: int, stamps: Stamps
) -> Scene:
    """Draw pairs of galaxies, the brighter one of each first."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(5,)))
    deep = as_observed(survey)
    first = rng.uniform(*PAIR_I, n_pairs)
    second = first + rng.uniform(0, PAIR_DELTA, n_pairs)
    magnitude = np.stack([first, second], axis=1).ravel()
    galaxies = draw_realistic(magnitude, bands, rng, stamps)
    grid, places = grid_places(n_pairs, PAIR_SPACING, survey.pixel_scale, rng)
    distance = rng.uniform(*PAIR_DISTANCE, n_pairs)
    offset = _around(distance, rng.uniform(0, 2 * np.pi, n_pairs), survey)
    xy = np.stack([places, places + offset], axis=1).reshape(-1, 2)
    return Scene(
        survey=deep,
        grid=grid,
        xy=xy,
        flux=10 ** (0.4 * (NJY_ZERO_POINT - galaxies.magnitude)),
        galaxies=replace(galaxies, cls=np.full(len(galaxies), "pair", dtype="U8")),
        psfs=draw_seeing(deep, bands, rng),
    )


def stars_scene(
    survey: Survey, bands: tuple[str, ...], n_stars: int, seed: int, stamps: Stamps
) -> Scene:
    """Draw stars of all magnitudes, three galaxies around each."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(6,)))
    deep = as_observed(survey)
    grid, places = grid_places(n_stars, STAR_SPACING, survey.pixel_scale, rng)
    n = STAR_NEIGHBORS * n_stars
    galaxies = draw_realistic(rng.uniform(*NEIGHBOR_I, n), bands, rng, stamps)
    third = 2 * np.pi / STAR_NEIGHBORS
    angle = third * np.tile(np.arange(STAR_NEIGHBORS), n_stars) + rng.uniform(0, third, n)
    offset = _around(rng.uniform(*NEIGHBOR_DISTANCE, n), angle, survey)
    # The middles of as many equal steps, in no order.
    low, high = STAR_I
    magnitude_i = rng.permutation(low + (high - low) * (np.arange(n_stars) + 0.5) / n_stars)
    stars = star_magnitudes(magnitude_i, rng.uniform(*STAR_GI, n_stars), bands, rng)
    magnitude = np.concatenate([galaxies.magnitude, stars])
    return Scene(
        survey=deep,
        grid=grid,
        xy=np.concatenate([np.repeat(places, STAR_NEIGHBORS, axis=0) + offset, places]),
        flux=10 ** (0.4 * (NJY_ZERO_POINT - magnitude)),
        galaxies=galaxies,
        psfs=draw_seeing(deep, bands, rng),
        bleeds=True,
    )


def _around(distance: FloatArray, angle: FloatArray, survey: Survey) -> FloatArray:
    """Return offsets ``(n, 2)`` in pixels of distances in arcsec."""
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.asarray(distance[:, None] / survey.pixel_scale * unit)
