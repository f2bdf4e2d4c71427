"""Rings of galaxies for measuring the response to shear, each galaxy seen sixteen times.

Every object is turned to four angles, in which its own shape averages out, and each of these is
sheared by ±γ along the axes and along the diagonals in the same noise, which the difference of two
shears does not hold to first order (Massey et al. 2007, MNRAS 376, 13; Pujol et al. 2019, A&A
621, A2).  An object is one galaxy or a close pair, which is turned and sheared as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.simulate.galaxies import ChangedGalaxies
from raydeblend.simulate.population.depth import as_observed
from raydeblend.simulate.population.draw import draw_realistic
from raydeblend.simulate.population.galaxies import MixedGalaxies
from raydeblend.simulate.population.seeing import draw_seeing
from raydeblend.simulate.population.stamps import Stamps
from raydeblend.simulate.rendering import BandPixels, draw_sources
from raydeblend.simulate.scene import Grid, Scene
from raydeblend.simulate.singles import grid_places
from raydeblend.simulate.tiles import write_pixels
from raydeblend.survey import NJY_ZERO_POINT, Survey

FloatArray = NDArray[np.float64]

ANGLES = (0.0, 45.0, 90.0, 135.0)
"""Degrees."""
DIRECTIONS = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
"""Shears in units of `RingPlan.shear`."""
VIEWS = len(ANGLES) * len(DIRECTIONS)


@dataclass(frozen=True)
class RingPlan:
    """What is drawn.

    Attributes
    ----------
    edges
        Of bins of i magnitude, each of which has as many objects.
    shear
        Reduced shear.
    spacing
        Pixels between objects.
    distance
        Range in arcsec between the galaxies of a pair, evenly spread; None for single ones.
    fainter
        Magnitudes by which the second of a pair may be fainter.
    """

    edges: tuple[float, ...] = (20.5, 21.5, 22.5, 23.5, 24.0, 24.5)
    shear: float = 0.02
    spacing: int = 56
    distance: tuple[float, float] | None = None
    fainter: float = 1.0

    @property
    def members(self) -> int:
        """Galaxies of an object."""
        return 1 if self.distance is None else 2


PAIRS = RingPlan(spacing=64, distance=(0.6, 2.4))


@dataclass(frozen=True)
class TurnedGalaxies(ChangedGalaxies):
    """Galaxies turned by `angle` degrees and then sheared by `shear` (g1, g2)."""

    angle: float
    shear: tuple[float, float]

    def profile(self, row: int, band: int) -> galsim.GSObject:
        """Return the surface brightness of a galaxy of unit flux before the PSF."""
        turned = self.galaxies.profile(row, band).rotate(self.angle * galsim.degrees)
        return turned.shear(g1=self.shear[0], g2=self.shear[1])


@dataclass(frozen=True)
class Rings:
    """n objects of m galaxies each.

    Attributes
    ----------
    grid
        A row of tiles for each angle, a column for each shear.
    places
        ``(n, 2)`` of the objects in each tile, in pixels.
    offsets
        ``(n, m, 2)`` of the galaxies from there, not yet turned, in pixels.
    galaxies
        ``(n m)``, object after object.
    """

    survey: Survey
    plan: RingPlan
    grid: Grid
    places: FloatArray
    offsets: FloatArray
    galaxies: MixedGalaxies
    psfs: tuple[galsim.GSObject, ...]

    @property
    def flux(self) -> FloatArray:
        """``(n m, bands)`` nJy."""
        return np.asarray(10 ** (0.4 * (NJY_ZERO_POINT - self.galaxies.magnitude)))

    def xy(self, view: int) -> FloatArray:
        """Return the positions ``(n, m, 2)`` in the pixels of a view's tile."""
        angle, shear = self._seen(view)
        turn = np.deg2rad(angle)
        cos, sin = np.cos(turn), np.sin(turn)
        matrix = galsim.Shear(g1=shear[0], g2=shear[1]).getMatrix() @ [[cos, -sin], [sin, cos]]
        return np.asarray(self.places[:, None] + self.offsets @ matrix.T)

    def axis(self, view: int) -> FloatArray:
        """Return the angle ``(n,)`` in radian from the x axis at which the pairs lie."""
        along = self.offsets[:, -1] - self.offsets[:, 0]
        return np.asarray(np.arctan2(along[:, 1], along[:, 0]) + np.deg2rad(self._seen(view)[0]))

    def scene(self, view: int) -> Scene:
        """Return the sky of one view."""
        box = self.grid.box(view)
        return Scene(
            survey=self.survey,
            grid=self.grid,
            xy=self.xy(view).reshape(-1, 2) + np.array([box.x0, box.y0]),
            flux=self.flux,
            galaxies=TurnedGalaxies(self.galaxies, *self._seen(view)),
            psfs=self.psfs,
        )

    def _seen(self, view: int) -> tuple[float, tuple[float, float]]:
        angle, direction = divmod(view, len(DIRECTIONS))
        g1, g2 = DIRECTIONS[direction]
        return ANGLES[angle], (self.plan.shear * g1, self.plan.shear * g2)


def draw_rings(
    survey: Survey, bands: tuple[str, ...], plan: RingPlan, n: int, seed: int, stamps: Stamps
) -> Rings:
    """Draw `n` objects of the realistic population, at the depth of the survey's wide layer."""
    key = (10, plan.members)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    deep = as_observed(survey)
    edges = np.array(plan.edges)
    bins = np.arange(n) % (len(edges) - 1)
    first = rng.uniform(edges[bins], edges[bins + 1])
    magnitude = np.repeat(first[:, None], plan.members, axis=1)
    magnitude[:, 1:] += rng.uniform(0, plan.fainter, (n, plan.members - 1))
    tile, places = grid_places(n, plan.spacing, survey.pixel_scale, rng)
    return Rings(
        survey=deep,
        plan=plan,
        grid=Grid(VIEWS, tile.size, 0, survey.pixel_scale),
        places=places,
        offsets=_offsets(plan, n, rng) / survey.pixel_scale,
        galaxies=draw_realistic(magnitude.ravel(), bands, rng, stamps),
        psfs=draw_seeing(deep, bands, rng),
    )


def _offsets(plan: RingPlan, n: int, rng: np.random.Generator) -> FloatArray:
    """Return offsets ``(n, m, 2)`` in arcsec, about the middle of each object."""
    if plan.distance is None:
        return np.zeros((n, 1, 2))
    half = 0.5 * rng.uniform(*plan.distance, n)
    angle = rng.uniform(0, 2 * np.pi, n)
    one = half[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.stack([-one, one], axis=1)


def write_view(rings: Rings, view: int, seed: int, out: str) -> int:
    """Render one view and write it as a tile; returns its number.

    The noise is that of electrons counted, as a Gaussian: the same standard normal numbers under
    each shear.
    """
    scene, box = rings.scene(view), rings.grid.box(view)
    pixels = []
    for index, name in enumerate(scene.bands):
        band = scene.survey.band(name)
        key = (11, view // len(DIRECTIONS), index)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
        clean = draw_sources(scene, box, index)
        electrons = band.sky_electrons + np.maximum(clean, 0) * band.electrons_per_njy
        variance = electrons / band.electrons_per_njy**2
        image = clean + np.sqrt(variance) * rng.standard_normal(clean.shape)
        pixels.append(BandPixels(image, np.zeros(clean.shape, dtype=np.int32), variance))
    write_pixels(scene, view, pixels, out)
    return view
