"""Isolated galaxies of known class on a grid, so that what a catalog makes of each is seen alone.

Every class has every magnitude `repeats` times; sizes, axis ratios and colors are those that the
population has at the magnitude (and Sérsic index).  The large ones have their own grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.errors import ConfigError
from raydeblend.simulate.galaxies import BULGE_DISK, CLUMPY, HUDF, REAL
from raydeblend.simulate.population.depth import as_observed
from raydeblend.simulate.population.draw import draw_smooth, with_bulge, with_clumps, with_images
from raydeblend.simulate.population.galaxies import MixedGalaxies
from raydeblend.simulate.population.seeing import draw_seeing
from raydeblend.simulate.population.stamps import Stamps
from raydeblend.simulate.scene import Grid, Scene
from raydeblend.survey import NJY_ZERO_POINT, Survey

FloatArray = NDArray[np.float64]

INDICES = (0.5, 0.7, 1.0, 1.5, 2.5, 4.0, 6.0)
CLASSES = (*(f"{n:g}" for n in INDICES), BULGE_DISK, CLUMPY, REAL, HUDF)
MAGNITUDES = (19.0, 20.0, 21.0, 22.0, 23.0)
BULGE_DISK_INDICES = (1.3, 6.0)
"""Range of the single Sérsic index whose sizes and bulges these have."""
JITTER = 3.0
"""Pixels by which centers are off the middle of their cells."""
MAX_AXIS = 0.16
"""Half-light semi-major axis over the side of a cell: larger galaxies are made that small, or their
wings meet."""


@dataclass(frozen=True)
class SinglesPlan:
    """What stands on the grid.

    Attributes
    ----------
    classes
        Of `CLASSES`.
    magnitudes
        In i; each galaxy is within half the step to the next.
    repeats
        Galaxies of each class and magnitude.
    spacing
        Pixels between centers.
    r50
        Range in arcsec from which sizes are drawn evenly in the logarithm; None for those of
        the population.
    """

    classes: tuple[str, ...] = CLASSES
    magnitudes: tuple[float, ...] = MAGNITUDES
    repeats: int = 4
    spacing: int = 64
    r50: tuple[float, float] | None = None


LARGE = SinglesPlan(
    classes=("0.5", "1", "1.5", "2.5", BULGE_DISK, HUDF),
    magnitudes=(17.5, 18.5, 19.5),
    spacing=192,
    r50=(1.5, 5.0),
)
"""Galaxies of up to 5 arcsec; of n = 4, a part of the light would lie off every stamp."""


def singles_scene(
    survey: Survey, bands: tuple[str, ...], plan: SinglesPlan, seed: int, stamps: Stamps
) -> Scene:
    """Draw the grid; classes of real galaxies are left out where `stamps` has none of them.

    Parameters
    ----------
    stamps
        Real galaxies of the split that is asked for (`find_stamps`).

    Raises
    ------
    ConfigError
        For an unknown class, or if nothing is left.
    """
    unknown = [name for name in plan.classes if name not in CLASSES]
    if unknown:
        raise ConfigError(f"unknown class {unknown[0]!r}; known: {', '.join(CLASSES)}")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3,)))
    classes = [name for name in plan.classes if _available(name, stamps)]
    names = np.repeat(classes, len(plan.magnitudes) * plan.repeats)
    magnitude = np.tile(plan.magnitudes, len(classes) * plan.repeats)
    if not len(names):
        raise ConfigError("a grid without galaxies: no real ones are at hand, and no other class")
    order = rng.permutation(len(names))
    names, magnitude = names[order], magnitude[order]
    step = float(np.min(np.diff(plan.magnitudes))) if len(plan.magnitudes) > 1 else 1.0
    magnitude = magnitude + step * rng.uniform(-0.5, 0.5, len(names))
    deep = as_observed(survey)
    galaxies = _draw(names, magnitude, bands, plan, deep.pixel_scale, rng, stamps)
    grid, places = grid_places(len(names), plan.spacing, survey.pixel_scale, rng)
    return Scene(
        survey=deep,
        grid=grid,
        xy=places,
        flux=10 ** (0.4 * (NJY_ZERO_POINT - galaxies.magnitude)),
        galaxies=galaxies,
        psfs=draw_seeing(deep, bands, rng),
    )


def _available(name: str, stamps: Stamps) -> bool:
    if name == CLUMPY:
        return not len(stamps)
    if name in (REAL, HUDF):
        return bool(np.any((stamps.collection == HUDF) == (name == HUDF)))
    return True


def grid_places(
    n: int, spacing: int, pixel_scale: float, rng: np.random.Generator
) -> tuple[Grid, FloatArray]:
    """Return a square tile of `n` cells and a place ``(n, 2)`` near the middle of each."""
    columns = int(np.ceil(np.sqrt(n)))
    row, column = np.divmod(np.arange(n), columns)
    middle = spacing * (np.stack([column, row], axis=1) + 0.5) - 0.5
    places = middle + rng.uniform(-JITTER, JITTER, (n, 2))
    return Grid(1, columns * spacing, 0, pixel_scale), np.asarray(places)


def _draw(
    names: NDArray[np.str_],
    magnitude: FloatArray,
    bands: tuple[str, ...],
    plan: SinglesPlan,
    pixel_scale: float,
    rng: np.random.Generator,
    stamps: Stamps,
) -> MixedGalaxies:
    """Draw a galaxy of each class and magnitude."""
    index = _indices(names, rng)
    galaxies = draw_smooth(magnitude, bands, rng, index)
    if plan.r50 is not None:
        low, high = np.log(plan.r50)
        galaxies.r50[:] = np.exp(rng.uniform(low, high, len(names)))
    modulus = np.hypot(*galaxies.g.T)
    ratio = (1 - modulus) / (1 + modulus)
    limit = MAX_AXIS * plan.spacing * pixel_scale * np.sqrt(ratio)
    np.minimum(galaxies.r50, limit, out=galaxies.r50)
    with_bulge(galaxies, np.flatnonzero(names == BULGE_DISK), rng)
    with_clumps(galaxies, np.flatnonzero(names == CLUMPY), rng)
    for name in (REAL, HUDF):
        rows = np.flatnonzero(names == name)
        if len(rows):
            own = np.flatnonzero((stamps.collection == HUDF) == (name == HUDF))
            galaxies = with_images(galaxies, rows, stamps, rng, own)
    return replace(galaxies, cls=names.astype("U8"))


def _indices(names: NDArray[np.str_], rng: np.random.Generator) -> FloatArray:
    """Return the Sérsic index of each; of those that have none, that of the like of them."""
    low, high = np.log(BULGE_DISK_INDICES)
    index = np.where(names == BULGE_DISK, np.exp(rng.uniform(low, high, len(names))), 1.0)
    for row, name in enumerate(names):
        if name not in (BULGE_DISK, CLUMPY, REAL, HUDF):
            index[row] = float(name)
    return index
