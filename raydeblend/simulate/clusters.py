"""Cores of clusters of galaxies: a large galaxy, and many others in its light.

They stand on a grid, far from anything else, with the PSFs and depth of the realistic population.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.simulate.galaxies import SERSIC
from raydeblend.simulate.population.depth import as_observed
from raydeblend.simulate.population.draw import draw_realistic, on_grid
from raydeblend.simulate.population.galaxies import MixedGalaxies
from raydeblend.simulate.population.seeing import draw_seeing
from raydeblend.simulate.population.stamps import Stamps
from raydeblend.simulate.scene import Scene
from raydeblend.simulate.singles import grid_places
from raydeblend.survey import NJY_ZERO_POINT, Survey

FloatArray = NDArray[np.float64]

SPACING = 400
"""Pixels between clusters."""
HOST_I = (15.5, 20.0)
HOST_INDEX = (2.0, 5.0)
HOST_SHEAR = 0.08
R50_AT_18, R50_SLOPE, LOG_R50_SCATTER = 3.0, -0.2, 0.25
"""Half-light radius of a host in arcsec at i = 18, d log10 / d i (one surface brightness for all),
and its scatter in ln."""
MEMBERS = (6, 20)
FAINTER = (1.5, 6.0)
"""Range of the magnitudes by which members are fainter than their host."""
FAINTEST = 24.5
REACH = 1.5
"""Standard deviation of the members' offsets from the host, in its half-light radii."""
NEAREST = 0.7
"""Least distance of a member from the host, in arcsec."""
RED, RED_SCATTER = 0.7, 0.04
"""Fraction of the members that have the host's colors, and their scatter in magnitudes."""


def clusters_scene(
    survey: Survey, bands: tuple[str, ...], n_clusters: int, seed: int, stamps: Stamps
) -> Scene:
    """Draw clusters, the hosts of all first."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
    deep = as_observed(survey)
    counts = rng.integers(*MEMBERS, n_clusters, endpoint=True)
    cluster = np.repeat(np.arange(n_clusters), counts)
    host_i = rng.uniform(*HOST_I, n_clusters)
    member_i = host_i[cluster] + rng.uniform(*FAINTER, len(cluster))
    magnitude = np.concatenate([host_i, np.minimum(member_i, FAINTEST)])
    galaxies = draw_realistic(magnitude, bands, rng, stamps)
    _make_hosts(galaxies, n_clusters, rng)
    _redden(galaxies, cluster, rng)
    grid, places = grid_places(n_clusters, SPACING, survey.pixel_scale, rng)
    offset = REACH * galaxies.r50[cluster, None] * rng.standard_normal((len(cluster), 2))
    distance = np.hypot(*offset.T)[:, None]
    offset *= np.maximum(distance, NEAREST) / distance
    return Scene(
        survey=deep,
        grid=grid,
        xy=np.concatenate([places, places[cluster] + offset / survey.pixel_scale]),
        flux=10 ** (0.4 * (NJY_ZERO_POINT - galaxies.magnitude)),
        galaxies=galaxies,
        psfs=draw_seeing(deep, bands, rng),
    )


def _make_hosts(galaxies: MixedGalaxies, n: int, rng: np.random.Generator) -> None:
    """Turn the first n galaxies into large Sérsic ones, in place."""
    hosts = slice(n)
    brighter = galaxies.magnitude[hosts, galaxies.bands.index("i")] - 18
    galaxies.kind[hosts] = galaxies.cls[hosts] = SERSIC
    galaxies.index[hosts] = on_grid(rng.uniform(*HOST_INDEX, n))
    galaxies.r50[hosts] = R50_AT_18 * 10 ** (R50_SLOPE * brighter)
    galaxies.r50[hosts] *= np.exp(LOG_R50_SCATTER * rng.standard_normal(n))
    galaxies.g[hosts] = HOST_SHEAR * rng.standard_normal((n, 2))
    galaxies.bulge_fraction[hosts] = 0
    galaxies.clumpiness[hosts] = 0
    galaxies.stamp[hosts] = -1


def _redden(galaxies: MixedGalaxies, cluster: NDArray[np.intp], rng: np.random.Generator) -> None:
    """Give many of the members, of these clusters, their host's colors, in place."""
    n, i = len(galaxies) - len(cluster), galaxies.bands.index("i")
    magnitude = galaxies.magnitude
    red = rng.random(len(cluster)) < RED
    color = magnitude[cluster] - magnitude[cluster, i : i + 1]
    color = color + RED_SCATTER * rng.standard_normal(color.shape)
    color[:, i] = 0
    magnitude[n:][red] = (magnitude[n:, i : i + 1] + color)[red]
