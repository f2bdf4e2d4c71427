"""Polynomials in the place on a tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.stellar_psf.config import StellarPsfConfig

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Polynomial:
    """All products of powers of x and y, both from -1 to 1 over the tile, up to an order.

    Attributes
    ----------
    shape
        Rows and columns of the tile.
    """

    order: int
    shape: tuple[int, int]

    def basis(self, xy: Array) -> Array:
        """Return the terms ``(n, t)`` at positions ``(n, 2)``, the constant first."""
        x, y = (2 * (xy + 0.5) / np.array(self.shape[::-1]) - 1).T
        powers = [(n - j, j) for n in range(self.order + 1) for j in range(n + 1)]
        return np.stack([x**i * y**j for i, j in powers], axis=1)


def order_for(n: int, config: StellarPsfConfig) -> int:
    """Return the order that n stars can tell."""
    return sum(n >= needed for needed in config.stars_for_order)
