"""Where sources are injected: apart from each other, not from those of the sky."""

from __future__ import annotations

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


def choose_region(inner: Box, n: int, spacing: int, rng: np.random.Generator) -> Box:
    """Return a part of a cell, somewhere in it, with room for `n` squares if there is that much."""
    side = spacing * int(np.ceil(np.sqrt(n)))
    height, width = (min(side, whole) for whole in inner.shape)
    y = int(rng.integers(inner.y0, inner.y1 - height + 1))
    x = int(rng.integers(inner.x0, inner.x1 - width + 1))
    return Box(y, x, y + height, x + width)


def choose_squares(region: Box, n: int, spacing: int, rng: np.random.Generator) -> list[Box]:
    """Return up to `n` squares of the regular grid of a region, in random order."""
    rows, columns = (max(1, side // spacing) for side in region.shape)
    chosen = rng.permutation(rows * columns)[:n]
    height, width = region.shape[0] // rows, region.shape[1] // columns
    corners = [divmod(int(i), columns) for i in chosen]
    return [
        Box(0, 0, height, width).shift(region.y0 + row * height, region.x0 + column * width)
        for row, column in corners
    ]


def usable_pixels(tile: Tile) -> BoolArray:
    """Tell ``(y, x)`` where a source may be: usable in all bands that have any data."""
    present = ~tile.unusable.all(axis=(1, 2))
    return np.asarray(~tile.unusable[present].any(axis=0))


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
        """Tell whether no detected source is near."""
        if not len(self.peaks):
            return True
        return bool(np.linalg.norm(self.peaks - xy, axis=1).min() >= arcsec / self.pixel_scale)


def place(
    square: Box, ground: Ground, clear: float, config: InjectionConfig, rng: np.random.Generator
) -> FloatArray | None:
    """Draw a place ``(x, y)`` within a square; None if no try finds one.

    Parameters
    ----------
    clear
        Arcsec to the nearest detected source, of which then none is a companion; 0 for anywhere.
    """
    part = square.grow(-min(config.margin, min(square.shape) // 4))
    for _ in range(config.tries):
        xy = rng.uniform((part.x0, part.y0), (part.x1, part.y1)) - 0.5
        if not clear and rng.random() < ground.companions:
            xy = _beside(part, ground, xy, rng)
        if ground.is_usable(xy) and (not clear or ground.is_clear(xy, clear)):
            return np.asarray(xy)
    return None


def _beside(
    part: Box, ground: Ground, otherwise: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Return a place by a detected source, as the population clusters, if one is in the box."""
    low, high = (edge**CLUSTER_SLOPE for edge in CLUSTER_RANGE)
    n = len(ground.peaks)
    distance = rng.uniform(low, high, n) ** (1 / CLUSTER_SLOPE) / ground.pixel_scale
    angle = rng.uniform(0, 2 * np.pi, n)
    there = ground.peaks + distance[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    inside = [i for i, (x, y) in enumerate(there) if part.contains(y, x)]
    return np.asarray(there[rng.choice(inside)] if inside else otherwise)
