"""Tiles of saturated stars drawn with GalSim: holes of any shape, charge at the end of trails."""

from collections.abc import Sequence
from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sky_tiles import SIGMA, make_tile

from raydeblend.psf import constant
from raydeblend.tile import Tile

SIDE, STAMP = 160, 43
FULL = 5e4
"""Full well in nJy."""
GAIN = 20.0
"""Electrons per nJy."""
PSFS = tuple(
    galsim.Moffat(beta=beta, fwhm=fwhm).shear(g1=g, g2=-g)
    for beta, fwhm, g in ((3.5, 4.6, 0.02), (3.0, 4.2, 0.0), (2.8, 3.6, 0.03))
)
"""Of each band, in pixels."""


@dataclass(frozen=True)
class Trail:
    """A strip of saturated pixels through a star: its half sides in pixels, and its direction."""

    half_width: float
    half_length: float
    angle: float = np.pi / 2


def draw(
    profiles: Sequence[galsim.GSObject], xy: Sequence[float], method: str = "auto"
) -> NDArray[np.float64]:
    """Return ``(3, SIDE, SIDE)`` of a source of one profile in each band.

    By ``no_pixel`` the far wings are exact, without Fourier transforms.
    """
    out = []
    for profile in profiles:
        image = galsim.ImageD(galsim.BoundsI(0, SIDE - 1, 0, SIDE - 1))
        profile.drawImage(image, scale=1, center=galsim.PositionD(*xy), method=method)
        out.append(image.array)
    return np.array(out)


def star(flux: float, xy: Sequence[float]) -> NDArray[np.float64]:
    """Return the light of a star of equal flux in all bands."""
    return draw([psf.withFlux(flux) for psf in PSFS], xy, "no_pixel")


def psf_stamp(psf: galsim.GSObject) -> NDArray[np.float32]:
    """Return a stamp of unit flux."""
    stamp = psf.drawImage(nx=STAMP, ny=STAMP, scale=1, method="no_pixel").array
    return np.asarray(stamp / stamp.sum(), dtype=np.float32)


def galaxy(flux: float, xy: Sequence[float], radius: float = 2.5) -> NDArray[np.float64]:
    """Return the light of an exponential disk, `radius` in pixels."""
    disk = galsim.Exponential(half_light_radius=radius, flux=flux)
    return draw([galsim.Convolve(disk, psf) for psf in PSFS], xy)


def strip(xy: Sequence[float], trail: Trail, longer: float = 0.0) -> NDArray[np.bool_]:
    """Return the pixels of a trail."""
    y, x = np.indices((SIDE, SIDE))
    dx, dy = x - xy[0], y - xy[1]
    along = dx * np.cos(trail.angle) + dy * np.sin(trail.angle)
    across = dy * np.cos(trail.angle) - dx * np.sin(trail.angle)
    return (abs(along) <= trail.half_length + longer) & (abs(across) <= trail.half_width)


def saturated_tile(
    light: NDArray[np.float64],
    trails: Sequence[tuple[Sequence[float], Trail]] = (),
    bands: Sequence[int] = (0, 1, 2),
    grown: int = 1,
    seed: int = 0,
) -> Tile:
    """Return what a camera makes of some light: `FULL` is masked, and so are the trails.

    Beyond each end of a trail lies a pixel of what was left of the charge, which is not masked.

    Parameters
    ----------
    bands
        Which of them saturate.
    grown
        Pixels by which the masks are larger than the saturated pixels of the core.
    """
    rng, image = np.random.default_rng(seed), light.copy()
    masked = np.zeros(image.shape, dtype=bool)
    for band in bands:
        full = light[band] >= FULL
        masked[band] = ndimage.binary_dilation(full, iterations=grown) if grown else full
        for xy, trail in trails:
            own = strip(xy, trail)
            beside = ndimage.binary_dilation(own, np.ones((3, 3)))
            left = strip(xy, trail, 1.0) & beside & ~own
            image[band] = np.where(left, np.maximum(image[band], 0.5 * FULL), image[band])
            masked[band] |= own
    image = np.where(masked, FULL, image)
    variance = SIGMA[:, None, None] ** 2 + np.maximum(image, 0) / GAIN
    image = image + np.sqrt(variance) * rng.standard_normal(image.shape)
    stamps = [psf_stamp(psf) for psf in PSFS]
    tile = make_tile(np.where(masked, 0, image))
    return Tile(
        **{
            **vars(tile),
            "variance": variance.astype(np.float32),
            "unusable": masked,
            "saturated": masked.any(axis=0),
            "psf": constant(stamps),
        }
    )
