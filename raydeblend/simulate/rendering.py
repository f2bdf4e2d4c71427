"""The pixels of a simulated tile: sources behind the PSF, noise, saturation and masks."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.fits import njy_per_count
from raydeblend.simulate.bleeding import bleed
from raydeblend.simulate.resampling import resample
from raydeblend.simulate.scene import Scene
from raydeblend.survey import Band, nominal_psf
from raydeblend.tile import Box

FloatArray = NDArray[np.float64]

# The LSST pipelines' default planes and bits; the simulation sets BAD and SAT.
MASK_PLANES = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
}
# One bad column in this many, over part of its length.
BAD_COLUMNS_EVERY = 512

# Fractions of a source's light that may fall off its stamp.  The finest is taken that keeps the
# light lost below this many sky sigmas, all lost pixels together; a stamp ends at STAMP_MAX.
FOLDING = (5e-3, 1e-3, 2e-4)
LOST_SIGMAS = 10.0
STAMP_MAX = 512
# Sources that would need a larger image than this (pixels) to lose so little take the coarsest:
# de Vaucouleurs profiles of many arcsec, for which the finest takes 20 s.
TRANSFORM_MAX = 2 * STAMP_MAX


@dataclass(frozen=True)
class BandPixels:
    """One band of a tile: ``(y, x)`` image in nJy, mask bits and variance in nJy²."""

    image: FloatArray
    mask: NDArray[np.int32]
    variance: FloatArray


def render_tile(scene: Scene, tile: int, seed: int) -> list[BandPixels]:
    """Draw one tile in every band; `seed` and the tile's number set the noise."""
    return [
        observe(
            draw_tile(scene, tile, band),
            scene.survey.band(name),
            _saturation(scene, name),
            np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, tile, band))),
            scene.bleeds,
            scene.correlated_noise,
        )
        for band, name in enumerate(scene.bands)
    ]


def draw_tile(scene: Scene, tile: int, band: int) -> FloatArray:
    """Draw a tile without noise: ``(y, x)`` in nJy.

    Where the PSF jumps, the pixels of each cell are seen with the cell's.
    """
    box, variation = scene.grid.box(tile), scene.variation
    if variation is None or variation.is_smooth:
        return draw_sources(scene, box, band)
    image = np.zeros(box.shape)
    for cell, psf in variation.in_cells(scene.psf(band), tile, box, band):
        if min(cell.shape) > 0:
            image[cell.shift(-box.y0, -box.x0).slices] = draw_sources(scene, cell, band, psf)
    return image


def draw_sources(
    scene: Scene, box: Box, band: int, psf: galsim.GSObject | None = None
) -> FloatArray:
    """Draw all sources that reach into `box` without noise: ``(y, x)`` in nJy.

    A source's pixels do not depend on the box, so that neighboring tiles agree.

    Parameters
    ----------
    psf
        By default each source's is that at its position.
    """
    canvas = galsim.ImageD(galsim.BoundsI(box.x0, box.x1 - 1, box.y0, box.y1 - 1))
    sky = scene.survey.band(scene.bands[band]).sky_sigma
    reach = box.grow(STAMP_MAX // 2)
    for row in [row for row, (x, y) in enumerate(scene.xy) if reach.contains(y, x)]:
        profile = scene.profile(row, band).withFlux(scene.flux[row, band])
        seeing = psf or scene.psf_at(band, *scene.xy[row])
        source = _seen(profile, seeing, _folding(scene.flux[row, band], sky))
        if source.getGoodImageSize(scene.grid.pixel_scale) > TRANSFORM_MAX:
            # Its wings end with the stamp anyway.
            source = _seen(profile, seeing, FOLDING[0])
        _add(canvas, source, scene.xy[row], scene.grid.pixel_scale)
    return np.asarray(canvas.array)


def _seen(profile: galsim.GSObject, psf: galsim.GSObject, folding: float) -> galsim.GSObject:
    return galsim.Convolve(profile, psf, gsparams=galsim.GSParams(folding_threshold=folding))


def _folding(flux: float, sky_sigma: float) -> float:
    allowed = LOST_SIGMAS * sky_sigma / flux
    return next((value for value in FOLDING if value <= allowed), FOLDING[-1])


def _add(canvas: galsim.Image, source: galsim.GSObject, xy: FloatArray, scale: float) -> None:
    """Add a source to the canvas where its stamp overlaps it."""
    half = min(source.getGoodImageSize(scale), STAMP_MAX) // 2
    x, y = (int(np.floor(value + 0.5)) for value in xy)
    bounds = galsim.BoundsI(x - half, x + half, y - half, y + half)
    shared = bounds & canvas.bounds
    if shared.isDefined():
        stamp = galsim.ImageD(bounds)
        source.drawImage(stamp, scale=scale, center=galsim.PositionD(*xy))
        canvas[shared] += stamp[shared]


def _saturation(scene: Scene, band: str) -> float:
    """Return the saturation level in nJy per pixel."""
    psf = nominal_psf(scene.survey, band, pixel_scale=scene.grid.pixel_scale)
    return float(psf.max()) * njy_per_count(scene.survey.band(band).saturation)


def observe(
    image: FloatArray,
    band: Band,
    saturation: float,
    rng: np.random.Generator,
    bleeds: bool = False,
    correlated: bool = False,
) -> BandPixels:
    """Add sky and photon noise, saturation (whose charge bleeds or is lost) and bad columns.

    The variance is that of the electrons counted, source and sky, as the HSC pipeline writes
    it (Bosch et al. 2018, PASJ 70, S5).  `correlated` noise is that of resampled exposures.
    """
    if bleeds:
        image = bleed(image, saturation)
    expected = band.sky_electrons + np.maximum(image, 0) * band.electrons_per_njy
    electrons = rng.poisson(expected)
    observed = np.asarray(electrons - band.sky_electrons) / band.electrons_per_njy
    variance = np.maximum(electrons, 1) / band.electrons_per_njy**2
    if correlated:
        noise, variance = resample(observed - image, variance)
        observed = image + noise
    saturated = (observed >= saturation) | (image >= saturation)
    bad = bad_columns(image.shape, rng)
    observed = np.where(bad, 0, np.minimum(observed, saturation))
    mask = bad * (1 << MASK_PLANES["BAD"]) + saturated * (1 << MASK_PLANES["SAT"])
    return BandPixels(np.asarray(observed), mask.astype(np.int32), np.asarray(variance))


def bad_columns(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw dead stretches of columns, half a column long on average: ``(y, x)``, true if bad."""
    bad = np.zeros(shape, dtype=bool)
    for _ in range(rng.poisson(shape[1] / BAD_COLUMNS_EVERY)):
        column = rng.integers(shape[1])
        start, length = rng.integers(shape[0], size=2)
        bad[start : start + length, column] = True
    return bad
