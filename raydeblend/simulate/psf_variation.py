"""How the PSF of simulated tiles changes from place to place: smoothly, or from cell to cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.errors import ConfigError
from raydeblend.tile import Box

FloatArray = NDArray[np.float64]

KINDS = ("none", "smooth", "cells")
"""smooth: a quadratic over the field.  cells: the same, and on top of it each cell of a tile has a
part of its own, so that the PSF jumps at its edges as in coadds made cell by cell."""
SMOOTH = (0.03, 0.015, 0.015)
"""Amplitudes of ln width and of both components of the reduced shear: HSC's and LSST's PSFs change
by several per cent over a patch (Aihara et al. 2018, PASJ 70, S8)."""
JUMPS = (0.03, 0.01, 0.01)
"""The same of what each cell has of its own."""
TERMS = ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
"""Powers of x and y, both from -1 to 1 over the field."""


@dataclass(frozen=True)
class PsfVariation:
    """By how much PSFs are wider and longer than a band's usual one.

    Attributes
    ----------
    field
        All tiles together, in grid pixels.
    cells
        Along a side of a tile.
    slopes
        ``(bands, 5, 3)`` of `TERMS`: ln width and two shears.
    jumps
        ``(tiles, bands, cells, cells, 3)`` (row, column); empty where the PSF changes smoothly.
    """

    field: Box
    cells: int
    slopes: FloatArray
    jumps: FloatArray

    @property
    def is_smooth(self) -> bool:
        """Whether nothing jumps."""
        return not self.jumps.size

    def smooth(self, psf: galsim.GSObject, band: int, x: float, y: float) -> galsim.GSObject:
        """Return the PSF at a place, by its smooth part."""
        return _changed(psf, self._at(band, x, y))

    def in_cells(
        self, psf: galsim.GSObject, tile: int, box: Box, band: int
    ) -> Iterator[tuple[Box, galsim.GSObject]]:
        """Yield the pixels of each cell of a tile, row after row, and the PSF in it."""
        side = -(-max(box.shape) // self.cells)
        for row, column in np.ndindex(self.cells, self.cells):
            own = Box(0, 0, side, side).shift(box.y0 + row * side, box.x0 + column * side)
            change = self._at(band, (own.x0 + own.x1 - 1) / 2, (own.y0 + own.y1 - 1) / 2)
            if not self.is_smooth:
                change = change + self.jumps[tile, band, row, column]
            yield own.clip(box), _changed(psf, change)

    def _at(self, band: int, x: float, y: float) -> FloatArray:
        rows, columns = self.field.shape
        u = 2 * (x - self.field.x0 + 0.5) / columns - 1
        v = 2 * (y - self.field.y0 + 0.5) / rows - 1
        return np.asarray(np.array([u**i * v**j for i, j in TERMS]) @ self.slopes[band])


def draw_variation(
    kind: str, cells: int, field: Box, n_tiles: int, bands: int, seed: int
) -> PsfVariation | None:
    """Draw how PSFs vary; None for ``none``.

    Raises
    ------
    ConfigError
        If the kind is unknown.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown variation {kind!r} of the PSF; known: {', '.join(KINDS)}")
    if kind == "none":
        return None
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(8,)))
    slopes = rng.uniform(-1, 1, (bands, len(TERMS), 3)) * SMOOTH
    shape = (n_tiles if kind == "cells" else 0, bands, cells, cells, 3)
    return PsfVariation(field, cells, slopes, rng.normal(0, 1, shape) * JUMPS)


def _changed(psf: galsim.GSObject, change: FloatArray) -> galsim.GSObject:
    width, g1, g2 = change.tolist()
    return psf.dilate(float(np.exp(width))).shear(g1=g1, g2=g2)
