"""Galaxies of several kinds in one table: Sérsic, bulge and disk, clumpy, or a real image."""

from __future__ import annotations

from dataclasses import dataclass, fields

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.simulate.galaxies import BULGE_DISK, CLUMPY, SERSIC, Shapes
from raydeblend.simulate.population.stamps import Stamps

FloatArray = NDArray[np.float64]

N_GRID = np.array([0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75,
                   2.0, 2.3, 2.6, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0])  # fmt: skip
"""Sérsic indices: GalSim sets up each new one in 9 ms, and a repeated one in 0.5."""
CLUMPS = 25
"""Knots of a clumpy galaxy."""
CLUMP_SIZE = 0.12
"""Half-light radius of a knot over that of the galaxy."""


@dataclass(frozen=True)
class MixedGalaxies:
    """A table of ``n`` galaxies of several kinds.

    Attributes
    ----------
    bands
        Names of the bands.
    magnitude
        ``(n, bands)`` total AB magnitudes.
    kind
        ``(n,)`` of `raydeblend.simulate.galaxies.KINDS`.
    cls
        ``(n,)`` what a protocol calls its class, as ``1.5`` or ``bd``.
    index
        ``(n,)`` Sérsic index; NaN for the kinds that have none.
    r50
        ``(n,)`` circularised half-light radius of the whole galaxy before the PSF, arcsec, in
        the i band where bands differ.
    g
        ``(n, 2)`` reduced shear (of the disk, where there is one; NaN for real ones, whose
        shape is in the image).
    bulge_fraction
        ``(n, bands)`` of the flux; 0 for the kinds without a bulge.
    bulge_radius, disk_radius
        ``(n,)`` circularised half-light radii, arcsec; 0 for the kinds without.
    bulge_g
        ``(n, 2)``.
    clumpiness
        ``(n,)`` fraction of the flux in knots.
    stamp
        ``(n,)`` which real image, -1 for none.
    stretch
        ``(n,)`` factor on the real image's size.
    angle
        ``(n,)`` by which the real image is turned, degrees; where knots lie (a seed).
    redshift
        ``(n,)``.
    stamps
        The real images; None where no galaxy is one.
    """

    bands: tuple[str, ...]
    magnitude: FloatArray
    kind: NDArray[np.str_]
    cls: NDArray[np.str_]
    index: FloatArray
    r50: FloatArray
    g: FloatArray
    bulge_fraction: FloatArray
    bulge_radius: FloatArray
    disk_radius: FloatArray
    bulge_g: FloatArray
    clumpiness: FloatArray
    stamp: NDArray[np.int64]
    stretch: FloatArray
    angle: FloatArray
    redshift: FloatArray
    stamps: Stamps | None = None

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> MixedGalaxies:
        """Return the chosen rows."""
        arrays = {
            f.name: getattr(self, f.name)[rows]
            for f in fields(self)
            if f.name not in ("bands", "stamps")
        }
        return MixedGalaxies(bands=self.bands, stamps=self.stamps, **arrays)

    def profile(self, row: int, band: int) -> galsim.GSObject:
        """Return the galaxy's surface brightness in one band with unit flux, before the PSF."""
        kind = self.kind[row]
        if kind == SERSIC:
            return self._sersic(row)
        if kind == CLUMPY:
            return self._clumpy(row)
        if kind == BULGE_DISK:
            return self._bulge_disk(row, band)
        return self._real(row, band)

    def shapes(self, band: int) -> Shapes:
        """Return what the truth says of them."""
        return Shapes(self.r50, self.g, self.index, self.bulge_fraction, self.kind, self.cls)

    def _sersic(self, row: int) -> galsim.GSObject:
        n, radius = float(self.index[row]), float(self.r50[row])
        return galsim.Sersic(n, half_light_radius=radius).shear(*_shear(self.g[row]))

    def _bulge_disk(self, row: int, band: int) -> galsim.GSObject:
        bulge = float(self.bulge_fraction[row, band])
        disk = galsim.Exponential(half_light_radius=self.disk_radius[row], flux=1 - bulge)
        spheroid = galsim.DeVaucouleurs(half_light_radius=self.bulge_radius[row], flux=bulge)
        return disk.shear(*_shear(self.g[row])) + spheroid.shear(*_shear(self.bulge_g[row]))

    def _clumpy(self, row: int) -> galsim.GSObject:
        radius, part = float(self.r50[row]), float(self.clumpiness[row])
        smooth = galsim.Exponential(half_light_radius=radius, flux=1 - part)
        knots = galsim.RandomKnots(
            CLUMPS,
            profile=galsim.Exponential(half_light_radius=radius, flux=part),
            rng=galsim.BaseDeviate(1 + int(1e6 * self.angle[row])),
        )
        wide = galsim.Convolve(knots, galsim.Gaussian(half_light_radius=CLUMP_SIZE * radius))
        return (smooth + wide).shear(*_shear(self.g[row]))

    def _real(self, row: int, band: int) -> galsim.GSObject:
        if self.stamps is None:
            raise ValueError("a real galaxy without its image")
        image = self.stamps.profile(int(self.stamp[row]), self.bands[band])
        return image.dilate(float(self.stretch[row])).rotate(self.angle[row] * galsim.degrees)


def _shear(g: FloatArray) -> tuple[galsim.Shear]:
    return (galsim.Shear(g1=float(g[0]), g2=float(g[1])),)
