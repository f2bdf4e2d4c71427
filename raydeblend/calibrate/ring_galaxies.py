"""Ring galaxies: what the fit takes for a galaxy with neighbors all about it."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.simulate.galaxies import ChangedGalaxies, GalaxyTable

FloatArray = NDArray[np.float64]

PART = (0.3, 0.8)
"""Of the light, which is in the ring."""
OUTER = (1.15, 2.0)
"""Width of the wider Gaussian over that of the narrower: a ring is their difference."""
RADIUS = (1.0, 1.6)
"""Of the ring's crest, in half-light radii of the galaxy that it would be without."""
INNER = 0.6
"""Half-light radius of what is inside, over that of the galaxy without a ring."""


@dataclass(frozen=True)
class RingGalaxies(ChangedGalaxies):
    """Sérsic galaxies, each shrunk and with a ring of the same center and shear about it.

    Attributes
    ----------
    part, outer, radius
        ``(n,)``, see `PART`, `OUTER` and `RADIUS`.
    """

    part: FloatArray
    outer: FloatArray
    radius: FloatArray

    @classmethod
    def draw(cls, galaxies: GalaxyTable, rng: np.random.Generator) -> RingGalaxies:
        """Draw a ring for each galaxy."""
        return cls(galaxies, *(rng.uniform(*each, len(galaxies)) for each in (PART, OUTER, RADIUS)))

    def profile(self, row: int, band: int) -> galsim.GSObject:
        """Return a galaxy's surface brightness in one band with unit flux, before the PSF."""
        shapes, part = self.shapes(band), float(self.part[row])
        crest = float(self.radius[row] * shapes.r50[row])
        inside = self.galaxies.profile(row, band).dilate(INNER) * (1 - part)
        g1, g2 = shapes.g[row].tolist()
        return inside + ring(crest, float(self.outer[row]), part).shear(g1=g1, g2=g2)


def ring(crest: float, outer: float, flux: float) -> galsim.GSObject:
    """Return the difference of two Gaussians of one central brightness, brightest at `crest`.

    exp(−r²/2a²s²) − exp(−r²/2s²) is largest at r² = 4 s² ln a · a²/(a² − 1).
    """
    square = outer**2
    sigma = crest / np.sqrt(4 * np.log(outer) * square / (square - 1))
    wide = galsim.Gaussian(sigma=outer * sigma, flux=flux * square / (square - 1))
    return wide - galsim.Gaussian(sigma=sigma, flux=flux / (square - 1))
