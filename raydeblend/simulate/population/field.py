"""A field of the realistic population: clustered galaxies, and stars, behind drawn PSFs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.simulate.galaxies import faint_limit
from raydeblend.simulate.population.depth import as_observed
from raydeblend.simulate.population.draw import Fractions, draw_realistic
from raydeblend.simulate.population.seeing import draw_seeing
from raydeblend.simulate.population.stamps import Stamps
from raydeblend.simulate.population.stars import draw_locus_stars
from raydeblend.simulate.scene import MARGIN, Grid, Scene
from raydeblend.survey import NJY_ZERO_POINT, Survey
from raydeblend.tile import Box

FloatArray = NDArray[np.float64]

COUNTS = ((16.5, 0.55), (19.0, 0.40), (21.0, 0.31))
"""From which i on the counts rise by how many dex per magnitude: the LSST Science Book's slope
(section 3.7) where COSMOS has it too; COSMOS's from 19.5 to 21; nearly Euclidean at the bright end
(Yasuda et al. 2001, AJ 122, 1104)."""
CLUSTERED = 0.35
"""Of the galaxies, which part lies by another one."""
CLUSTER_RANGE = (0.2, 15.0)
"""Arcsec from it."""
CLUSTER_SLOPE = 1.2
"""Neighbors within a distance rise with this power, as for w of slope -0.8.  With the part above
w(3-5") of i < 23.3 is that of COSMOS, 0.5."""


def realistic_scene(
    survey: Survey,
    bands: tuple[str, ...],
    grid: Grid,
    density: float,
    seed: int,
    stamps: Stamps,
    fractions: Fractions = Fractions(),  # noqa: B008
) -> Scene:
    """Draw a field, at the depth of the survey's wide layer.

    Parameters
    ----------
    density
        Galaxies per square arcmin; it sets the faint limit.
    stamps
        Real galaxies of the split that is asked for; may be empty.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4,)))
    field = grid.extent.grow(MARGIN)
    area = float(np.prod(field.shape)) * (grid.pixel_scale / 60) ** 2
    magnitude = draw_magnitudes(int(rng.poisson(density * area)), faint_limit(density), rng)
    galaxies = draw_realistic(magnitude, bands, rng, stamps, fractions)
    stars = draw_locus_stars(area, bands, rng)
    deep = as_observed(survey)
    return Scene(
        survey=deep,
        grid=grid,
        xy=np.concatenate(
            [
                clustered(len(galaxies), field, grid.pixel_scale, rng),
                _uniform(len(stars), field, rng),
            ]
        ),
        flux=np.concatenate([10 ** (0.4 * (NJY_ZERO_POINT - galaxies.magnitude)), stars]),
        galaxies=galaxies,
        psfs=draw_seeing(deep, bands, rng),
        bleeds=True,
    )


def draw_magnitudes(n: int, faint: float, rng: np.random.Generator) -> FloatArray:
    """Draw magnitudes in i from `COUNTS`, down to `faint`."""
    starts, slopes = np.array(COUNTS).T
    fine = np.linspace(starts[0], faint, 2001)
    slope = slopes[np.searchsorted(starts, fine, side="right") - 1]
    log_counts = np.concatenate([[0.0], np.cumsum(slope[:-1] * np.diff(fine))])
    steps = np.diff(fine) * 10 ** ((log_counts[1:] + log_counts[:-1]) / 2)
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(np.interp(rng.uniform(0, cumulative[-1], n), cumulative, fine))


def clustered(n: int, field: Box, pixel_scale: float, rng: np.random.Generator) -> FloatArray:
    """Draw ``(n, 2)`` places in pixels: some at random, the others near some of these."""
    xy = _uniform(n, field, rng)
    order = rng.permutation(n)
    moved, hosts = np.split(order, [int(CLUSTERED * n)])
    if not len(moved):
        return xy
    low, high = (edge**CLUSTER_SLOPE for edge in CLUSTER_RANGE)
    distance = rng.uniform(low, high, len(moved)) ** (1 / CLUSTER_SLOPE) / pixel_scale
    angle = rng.uniform(0, 2 * np.pi, len(moved))
    offset = distance[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    xy[moved] = xy[rng.choice(hosts, len(moved))] + offset
    return xy


def _uniform(n: int, field: Box, rng: np.random.Generator) -> FloatArray:
    places = rng.uniform((field.x0, field.y0), (field.x1, field.y1), (n, 2))
    return np.asarray(places - 0.5)
