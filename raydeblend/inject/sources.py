"""The injected sources: galaxies and stars of the realistic population, and bright controls."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.inject.config import InjectionConfig
from raydeblend.inject.places import Ground, choose_places
from raydeblend.psf import TilePsf
from raydeblend.simulate.galaxies import COUNTS_SLOPE, SERSIC
from raydeblend.simulate.population.draw import draw_realistic
from raydeblend.simulate.population.galaxies import MixedGalaxies
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.population.stars import star_magnitudes
from raydeblend.survey import NJY_ZERO_POINT
from raydeblend.tile import Box, Tile, TileHeader

FloatArray = NDArray[np.float64]

GALAXY, STAR, CONTROL_STAR, CONTROL_DISK = "galaxy", "star", "control star", "control disk"
KINDS = (GALAXY, STAR, CONTROL_STAR, CONTROL_DISK)
CONTROLS = (CONTROL_STAR, CONTROL_DISK)
REFERENCE = "i"
DETECTION = 5.0
STAR_GI = (0.4, 3.0)
"""Range of the g - i of stars; that of control stars is in the middle of the locus."""
CONTROL_GI = 1.2
USUAL_DEPTH = 26.0
"""Of the weights: the same for all cells, or deep ones would count for less than their area."""


@dataclass(frozen=True)
class InjectedSources:
    """The n sources of one cell.

    Attributes
    ----------
    kind
        ``(n,)`` of `KINDS`.
    xy
        ``(n, 2)`` (x, y) in tile pixels.
    flux
        ``(n, bands)`` in nJy.
    weight
        ``(n,)`` numbers in the sky over those drawn, 1 at `USUAL_DEPTH` in a cell that deep.
    galaxies
        The profile of each, also of the stars, whose place it only keeps.
    """

    kind: NDArray[np.str_]
    xy: FloatArray
    flux: FloatArray
    weight: FloatArray
    galaxies: MixedGalaxies

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def is_star(self) -> NDArray[np.bool_]:
        """``(n,)``."""
        return np.isin(self.kind, (STAR, CONTROL_STAR))

    @property
    def r50(self) -> FloatArray:
        """``(n,)`` half-light radius before the PSF in arcsec, 0 of stars."""
        return np.where(self.is_star, 0.0, self.galaxies.r50)

    def profile(self, row: int, band: int) -> galsim.GSObject:
        """Return a source in one band before the PSF, in nJy."""
        light = galsim.DeltaFunction() if self.is_star[row] else self.galaxies.profile(row, band)
        return light.withFlux(float(self.flux[row, band]))

    def take(self, rows: NDArray[np.intp]) -> InjectedSources:
        """Return the chosen sources."""
        arrays = (self.kind[rows], self.xy[rows], self.flux[rows], self.weight[rows])
        return InjectedSources(*arrays, self.galaxies.take(rows))


def cell_rng(seed: int, tile: str, cell: str) -> np.random.Generator:
    """Return the generator of a cell's injection, which depends on its name and the run's seed."""
    digest = hashlib.sha256(f"{seed}/{tile}/{cell}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def expected_number(density: float, header: TileHeader, inner: Box) -> float:
    """Return how many sources a cell gets on average at a density per square arcminute."""
    return density * square_arcmin(header, inner)


def square_arcmin(header: TileHeader, box: Box) -> float:
    """Return the area of a box of a tile."""
    return float(np.prod(box.shape)) * (header.pixel_scale / 60) ** 2


def draw_sources(
    n: int,
    region: Box,
    depth: float,
    ground: Ground,
    psf: TilePsf,
    bands: tuple[str, ...],
    config: InjectionConfig,
    rng: np.random.Generator,
) -> InjectedSources:
    """Draw up to `n` sources in a region; those for which no place is found are left out.

    Parameters
    ----------
    depth
        AB magnitude of a point source of five sigma in the reference band.
    """
    drawn = _draw(n, depth, bands, config, rng)
    clear = np.where(np.isin(drawn.kind, CONTROLS), config.control_clear, 0.0)
    places = choose_places(region, clear.tolist(), ground, config, rng)
    kept = np.array([i for i, xy in enumerate(places) if xy is not None], dtype=np.intp)
    if not len(kept):
        return drawn.take(kept)
    xy = np.array([places[i] for i in kept])
    there = replace(drawn.take(kept), xy=xy)
    return there.take(np.flatnonzero(~psf.missing(xy).any(axis=1)))


def _draw(
    n: int,
    depth: float,
    bands: tuple[str, ...],
    config: InjectionConfig,
    rng: np.random.Generator,
) -> InjectedSources:
    magnitude = depth + draw_relative(n, config, rng)
    kind = draw_kinds(n, config, rng)
    controls = np.isin(kind, CONTROLS)
    magnitude[controls] = depth + config.control_magnitude
    galaxies = draw_realistic(magnitude, bands, rng, find_stamps(None, "test"))
    _to_disks(galaxies, np.flatnonzero(kind == CONTROL_DISK), config.control_r50)
    gi = np.where(kind == CONTROL_STAR, CONTROL_GI, rng.uniform(*STAR_GI, n))
    is_star = np.isin(kind, (STAR, CONTROL_STAR))
    of_stars = star_magnitudes(magnitude, gi, bands, rng)
    both = np.where(is_star[:, None], of_stars, galaxies.magnitude)
    flux = 10 ** (0.4 * (NJY_ZERO_POINT - both))
    in_sky = 10 ** (COUNTS_SLOPE * (magnitude - USUAL_DEPTH))
    weight = in_sky / 10 ** (config.slope * (magnitude - depth))
    return InjectedSources(kind, np.zeros((n, 2)), flux, weight, galaxies)


def draw_relative(n: int, config: InjectionConfig, rng: np.random.Generator) -> FloatArray:
    """Draw magnitudes ``(n,)`` relative to the depth, as `InjectionConfig` says."""
    low, high = (10 ** (config.slope * edge) for edge in (config.brightest, config.faintest))
    return np.asarray(np.log10(rng.uniform(low, high, n)) / config.slope)


def draw_kinds(n: int, config: InjectionConfig, rng: np.random.Generator) -> NDArray[np.str_]:
    """Draw the kinds ``(n,)`` of sources."""
    control, star = config.control_fraction, config.star_fraction
    parts = ((1 - control) * (1 - star), (1 - control) * star, control / 2, control / 2)
    return rng.choice(np.array(KINDS), n, p=parts)


def _to_disks(galaxies: MixedGalaxies, rows: NDArray[np.intp], r50: float) -> None:
    """Turn some galaxies into round exponential disks of one size, in place."""
    galaxies.kind[rows] = galaxies.cls[rows] = SERSIC
    galaxies.index[rows], galaxies.r50[rows], galaxies.g[rows] = 1.0, r50, 0.0
    galaxies.bulge_fraction[rows] = 0.0


def reference_band(bands: Sequence[str]) -> int:
    """Return the band that magnitudes are of: i, or else the last."""
    return bands.index(REFERENCE) if REFERENCE in bands else len(bands) - 1


def point_depth(tile: Tile, band: int) -> float:
    """Return the AB magnitude of a point source of five sigma in blank sky of a band.

    NaN if the band has no usable pixel.
    """
    seen = ~tile.unusable[band]
    if not seen.any():
        return float("nan")
    stamp = tile.psf.bands[band].stamps[0]
    sigma = np.sqrt(np.median(tile.variance[band][seen]) / np.sum(stamp.astype(float) ** 2))
    return float(NJY_ZERO_POINT - 2.5 * np.log10(DETECTION * sigma))
