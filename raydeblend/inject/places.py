"""Where sources are injected: apart from each other, not from those of the sky."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.inject.config import InjectionConfig
from raydeblend.simulate.population.field import (
    CLUSTER_RANGE,
    CLUSTER_SLOPE,
    CLUSTERED,
)
from raydeblend.simulate.tiles import REALISTIC_DENSITY
from raydeblend.tile import BoolArray, Box, Tile

FloatArray = NDArray[np.float64]

COMPANIONS = 2 * CLUSTERED + CLUSTERED**2 / (1 - CLUSTERED)
"""Sources within `CLUSTER_RANGE` of a galaxy of the population beyond those by chance: its host,
those of the same host, or those of which it is the host."""
NEAR = 2
"""Pixels around a source that must be usable."""


def choose_region(inner: Box, n: int, room: int, rng: np.random.Generator) -> Box:
    """Return a part of a cell, somewhere in it, with `room`² pixels for each of `n` sources."""
    side = room * int(np.ceil(np.sqrt(n)))
    height, width = (min(side, whole) for whole in inner.shape)
    y = int(rng.integers(inner.y0, inner.y1 - height + 1))
    x = int(rng.integers(inner.x0, inner.x1 - width + 1))
    return Box(y, x, y + height, x + width)


def usable_pixels(tile: Tile) -> BoolArray:
    """Tell ``(y, x)`` where a source may be: usable in all bands that have any data."""
    present = ~tile.unusable.all(axis=(1, 2))
    return np.asarray(present.any() & ~tile.unusable[present].any(axis=0))


@dataclass(frozen=True)
class Ground:
    """What is known of the pixels that sources are drawn into.

    Attributes
    ----------
    usable
        ``(y, x)`` of the pixels from `origin`, (y, x) on the tile, on.
    peaks
        ``(k, 2)`` (x, y) of detected sources.
    density
        Of these, per square arcminute.
    pixel_scale
        Arcsec.
    """

    usable: BoolArray
    origin: tuple[int, int]
    peaks: FloatArray
    density: float
    pixel_scale: float

    @property
    def companions(self) -> float:
        """Probability of lying by a detected source, as galaxies do, beyond chance."""
        return min(COMPANIONS * self.density / REALISTIC_DENSITY, 0.5)

    def is_usable(self, xy: FloatArray) -> bool:
        """Tell whether a source may be at a place."""
        x, y = np.floor(xy + 0.5).astype(int) - self.origin[::-1]
        near = self.usable[max(y - NEAR, 0) : y + NEAR + 1, max(x - NEAR, 0) : x + NEAR + 1]
        return bool(near.size and near.all())

    def is_clear(self, xy: FloatArray, arcsec: float) -> bool:
        """Tell whether no detected source is nearer than some arcsec, 0 for anywhere."""
        return _are_apart(self.peaks, xy, arcsec / self.pixel_scale)

    def peaks_about(self, region: Box) -> FloatArray:
        """Return the detected sources ``(k, 2)`` of which a companion may lie in a region."""
        around = region.grow(int(CLUSTER_RANGE[1] / self.pixel_scale))
        return np.array([xy for xy in self.peaks if around.contains(xy[1], xy[0])]).reshape(-1, 2)


def choose_places(
    region: Box,
    clear: Sequence[float],
    ground: Ground,
    config: InjectionConfig,
    rng: np.random.Generator,
) -> list[FloatArray | None]:
    """Return a place ``(x, y)`` in a region for each of n sources; None where no try finds one.

    Parameters
    ----------
    clear
        ``(n,)`` arcsec to the nearest detected source, of which then none is a companion; 0 for
        anywhere.
    """
    places: list[FloatArray | None] = []
    hosts = ground.peaks_about(region)
    for arcsec in clear:
        tries = list(_anywhere(region, config.tries, rng))
        if not arcsec and len(hosts) and rng.random() < ground.companions:
            tries = [*_by_hosts(hosts, ground.pixel_scale, config.tries, rng), *tries]
        others = np.array([xy for xy in places if xy is not None]).reshape(-1, 2)
        allowed = (
            xy
            for xy in tries
            if region.contains(xy[1], xy[0])
            and ground.is_usable(xy)
            and ground.is_clear(xy, arcsec)
            and _are_apart(others, xy, config.spacing)
        )
        places.append(next(allowed, None))
    return places


def _anywhere(region: Box, n: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    yield from rng.uniform((region.x0, region.y0), (region.x1, region.y1), (n, 2)) - 0.5


def _by_hosts(
    hosts: FloatArray, pixel_scale: float, n: int, rng: np.random.Generator
) -> Iterator[FloatArray]:
    """Yield places by sources, as the population clusters."""
    low, high = (edge**CLUSTER_SLOPE for edge in CLUSTER_RANGE)
    distance = rng.uniform(low, high, n) ** (1 / CLUSTER_SLOPE) / pixel_scale
    angle = rng.uniform(0, 2 * np.pi, n)
    offset = distance[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    yield from hosts[rng.integers(len(hosts), size=n)] + offset


def _are_apart(others: FloatArray, xy: FloatArray, pixels: float) -> bool:
    return not len(others) or bool(np.linalg.norm(others - xy, axis=1).min() >= pixels)
