"""Sources drawn into a copy of a tile's pixels, as the camera would have seen them."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.inject.sources import InjectedSources
from raydeblend.tile import Box, Tile

FloatArray = NDArray[np.float64]

STAMP_MAX = 256
"""Pixels of the largest image that a source is drawn on."""
BRIGHT = 5.0
"""Sigma of a pixel from which it tells how the variance grows with the light."""
FEW_PIXELS = 100


def inject(tile: Tile, sources: InjectedSources, rng: np.random.Generator) -> Tile:
    """Return a copy of a tile with sources in it, behind the PSF at the place of each.

    Where the tile's variance grows with the light, as the counting of photons makes it, the sources
    have photon noise and add to the variance alike; elsewhere both stay as they are.
    """
    part = tile.crop(_reach(sources))
    light = np.stack([_light(part, sources, band) for band in range(len(part.image))])
    slopes = np.array([variance_per_light(part, band) for band in range(len(light))])
    noisy = light + _photon_noise(light, slopes, rng)
    return replace(
        tile,
        image=_with(tile, "image", part, noisy),
        variance=_with(tile, "variance", part, slopes[:, None, None] * light),
    )


def _reach(sources: InjectedSources) -> Box:
    """Return the pixels that the images of sources may lie on."""
    x, y = np.floor(sources.xy.T + 0.5).astype(int)
    return Box(y.min(), x.min(), y.max() + 1, x.max() + 1).grow(STAMP_MAX // 2)


def _with(tile: Tile, plane: str, part: Tile, added: FloatArray) -> NDArray[np.float32]:
    """Return a plane of a tile with what is added to the usable pixels of a part of it."""
    values = np.array(getattr(tile, plane), dtype=np.float32)
    window = part.box.shift(-tile.box.y0, -tile.box.x0).slices
    values[:, *window] += np.where(part.unusable, 0.0, added)
    return values


def _light(tile: Tile, sources: InjectedSources, band: int) -> FloatArray:
    """Return the sources in one band without noise: ``(y, x)`` in nJy."""
    box, scale = tile.box, tile.header.pixel_scale
    canvas = galsim.ImageD(galsim.BoundsI(box.x0, box.x1 - 1, box.y0, box.y1 - 1), init_value=0)
    if tile.unusable[band].all():
        return np.asarray(canvas.array)
    seeing = {
        key: galsim.InterpolatedImage(galsim.Image(stamp.astype(float)), scale=scale, flux=1.0)
        for key, stamp in enumerate(tile.psf.bands[band].stamps)
    }
    for row, number in enumerate(tile.psf.numbers(sources.xy)[band].tolist()):
        seen = galsim.Convolve(sources.profile(row, band), seeing[number])
        half = min(seen.getGoodImageSize(scale), STAMP_MAX) // 2
        x, y = np.floor(sources.xy[row] + 0.5).astype(int).tolist()
        stamp = galsim.ImageD(galsim.BoundsI(x - half, x + half, y - half, y + half))
        center = galsim.PositionD(*sources.xy[row])
        # The PSF stamp already includes the pixel.
        seen.drawImage(stamp, scale=scale, center=center, method="no_pixel")
        shared = stamp.bounds & canvas.bounds
        if shared.isDefined():
            canvas[shared] += stamp[shared]
    return np.asarray(np.maximum(canvas.array, 0.0))


def _photon_noise(light: FloatArray, slopes: FloatArray, rng: np.random.Generator) -> FloatArray:
    noise = np.zeros_like(light)
    for band in np.flatnonzero(slopes > 0):
        photons = light[band] / slopes[band]
        noise[band] = (rng.poisson(photons) - photons) * slopes[band]
    return noise


def variance_per_light(tile: Tile, band: int) -> float:
    """Return by how much the variance (nJy²) grows with a pixel's light (nJy): 1 / gain.

    The median over bright pixels of what they have above the sky's variance; 0 where there are too
    few of them, or where the variance is that of the sky alone.
    """
    seen = ~tile.unusable[band]
    image, variance = tile.image[band][seen], tile.variance[band][seen]
    if not len(image):
        return 0.0
    sky = float(np.median(variance))
    bright = image > BRIGHT * np.sqrt(sky)
    if bright.sum() < FEW_PIXELS:
        return 0.0
    return max(float(np.median((variance[bright] - sky) / image[bright])), 0.0)
