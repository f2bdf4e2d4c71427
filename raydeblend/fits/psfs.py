"""PSF stamps: their own pixel scale, brought to the tile's pixels, centered and of sum 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from astropy import units
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend.errors import TileError
from raydeblend.fits.hdus import by
from raydeblend.fits.sky import is_number
from raydeblend.flags import Flag
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]

ARCSEC_CARDS = ("PIXSCALE", "PIXSCAL", "PIXSCAL1", "PIXELSCL", "PIXSIZE", "SECPIX", "SECPIX1",
                "GS_SCALE")  # fmt: skip
"""Arcsec of a stamp's pixel; the last is GalSim's."""
STEP_CARDS = ("PSF_SAMP",)
"""Image pixels between those of a stamp that holds samples: PSFEx."""
OVERSAMPLING_CARDS = ("OVERSAMP", "OVERSAMPLE", "OVERSAMPLING", "OVERSMPL")
SAME = 0.01
"""Relative difference of pixel scales that no resampling is done for."""
RATIOS = (0.02, 5.0)
"""Pixels of the tile that a pixel of the stamp may be."""
OFF_CENTER = 0.1
"""Pixels from which a stamp is moved to its middle."""
FREQUENCIES = 512
LOST = 0.02
"""Share of a PSF's light beyond its stamp from which the stamp counts as too small; and in a
negative level of its rim, from which it is refused: too much sky was taken off the star."""


@dataclass(frozen=True)
class Stamp:
    """A PSF stamp as read from the file.

    Attributes
    ----------
    pixels
        ``(py, px)``.
    scale
        Tile pixels of one of its pixels.
    sampled
        Whether its values are samples of the PSF with the tile's pixel in it (PSFEx), and not
        integrals over its own.
    """

    pixels: NDArray[np.generic]
    scale: float = 1.0
    sampled: bool = False


def read_stamp(where: str, hdu: fits.ImageHDU, pixel_scale: float) -> Stamp:
    """Read a stamp and what its header says of its pixels; without a word they are the tile's.

    Raises
    ------
    TileError
        If its cards contradict each other or give no possible scale.
    """
    header = hdu.header  # before the pixels are asked for
    said = dict(_scales(where, header, pixel_scale))
    if not said:
        return Stamp(np.array(hdu.data))
    values = np.array(list(said.values()))
    low, high = RATIOS
    if np.ptp(values) > SAME * values.min() or not (low <= values[0] <= high):
        told = ", ".join(f"{card} says {value:.4g}" for card, value in said.items())
        raise TileError(f"{where}: the PSF stamp's pixels in pixels of the tile: {told}")
    sampled = any(card in said for card in STEP_CARDS)
    return Stamp(np.array(hdu.data), float(values[0]), sampled)


def _scales(where: str, header: fits.Header, pixel_scale: float) -> Iterator[tuple[str, float]]:
    """Yield what each card says of the tile's pixels that one of the stamp is."""
    for card in (*ARCSEC_CARDS, *STEP_CARDS, *OVERSAMPLING_CARDS):
        if card not in header:
            continue
        value = header[card]
        if not is_number(value) or value <= 0:
            raise TileError(f"{where}: the PSF stamp's {card} = {value!r} is no pixel scale")
        if card in ARCSEC_CARDS:
            yield card, value / pixel_scale
        else:
            yield card, value if card in STEP_CARDS else 1 / value
    sides = _wcs_sides(where, header)
    if sides is not None:
        if abs(sides[0] - sides[1]) > SAME * sides[1]:
            raise TileError(f"{where}: the PSF stamp's pixels are not square")
        yield "WCS", sides[0] / pixel_scale


def _wcs_sides(where: str, header: fits.Header) -> tuple[float, float] | None:
    """Return the sides of a pixel in arcsec from CD or CDELT cards; None where in pixels."""
    rows = [[header.get(f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)]
    if not any(f"CD{i}_{j}" in header for i in (1, 2) for j in (1, 2)):
        rows = [[header.get(f"CDELT{i}", 1.0) * header.get(f"PC{i}_{j}", float(i == j))
                 for j in (1, 2)] for i in (1, 2)]  # fmt: skip
    matrix = np.array(rows, dtype=np.float64)
    unit = str(header.get("CUNIT1") or "").strip().lower()
    if "LINEAR" in str(header.get("CTYPE1", "")).upper() or unit.startswith("pix"):
        return None
    if np.allclose(np.abs(matrix), np.eye(2)):
        return None
    try:
        factor = units.Unit(unit or "deg").to(units.arcsec)
    except (ValueError, units.UnitConversionError) as error:
        raise TileError(f"{where}: the PSF stamp's CUNIT1 = {unit!r} is no angle") from error
    x, y = np.hypot(*matrix) * factor
    return float(x), float(y)


def finish_stamp(stamp: Stamp, where: str) -> tuple[FloatArray, Flag]:
    """Return a stamp in the tile's pixels with sum 1, and Flag.PSF_TRUNCATED if it is too small.

    A stamp on another scale is resampled, and one off its center by `OFF_CENTER` moved, unless it
    is cut so close that its light does not tell its center.

    Raises
    ------
    TileError
        If a side is even, a pixel is not finite, the sum is not positive, or the rim is negative
        by more than `LOST`.
    """
    pixels = normalize_psf(stamp.pixels, where).astype(np.float64)
    pedestal = float(_rim(pixels).mean()) * pixels.size
    if pedestal < -LOST:
        raise TileError(
            f"{where}: the rim of the PSF stamp is negative; such a level over the whole stamp is "
            f"{pedestal:.1%} of its light"
        )
    truncated = lost_light(pixels) > LOST
    middle = (np.array(pixels.shape) - 1) / 2
    center = middle if truncated else _centroid(pixels)
    other = abs(stamp.scale - 1) > SAME
    if other or stamp.scale * np.abs(center - middle).max() > OFF_CENTER:
        pixels = resample(pixels, stamp.scale if other else 1.0, center, stamp.sampled)
    return normalize_psf(pixels, where), Flag.PSF_TRUNCATED if truncated else Flag(0)


def normalize_psf(stamp: NDArray[np.generic], where: str) -> FloatArray:
    """Return the stamp with sum 1.

    Raises
    ------
    TileError
        If a side is even, a pixel is not finite, or the sum is not positive.
    """
    stamp = np.asarray(stamp, dtype=np.float64)
    if stamp.shape[0] % 2 == 0 or stamp.shape[1] % 2 == 0:
        raise TileError(f"{where}: the PSF stamp has {by(stamp.shape)} pixels, not odd sides")
    if not np.isfinite(stamp).all():
        raise TileError(f"{where}: the PSF stamp holds NaN or infinite pixels")
    # Relative, so that rounding does not make a sum of zero look positive.
    if stamp.sum() <= 1e-6 * np.abs(stamp).sum():
        raise TileError(f"{where}: the PSF stamp sums to {stamp.sum():.3g}, not to 1")
    return np.asarray(stamp / stamp.sum(), dtype=np.float32)


def _centroid(pixels: Array) -> Array:
    """Return (y, x) of the light that is above half the maximum."""
    core = np.maximum(pixels - pixels.max() / 2, 0)
    y, x = np.indices(pixels.shape)
    return np.asarray(np.array([(core * y).sum(), (core * x).sum()]) / core.sum())


def lost_light(pixels: Array) -> float:
    """Return the share of a PSF's light beyond its stamp, of wings that fall as r^-4."""
    beyond = np.pi * (min(pixels.shape) / 2) ** 2 * max(float(_rim(pixels).mean()), 0.0)
    return float(beyond / (beyond + pixels.sum()))


def _rim(pixels: Array) -> Array:
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def resample(pixels: Array, scale: float, center: Array, sampled: bool = False) -> Array:
    """Return a stamp on other pixels, with `center` (y, x) on the middle of odd sides.

    Parameters
    ----------
    pixels
        ``(py, px)``, band-limited, as a PSF on pixels that sample it is.
    scale
        New pixels that an old one is.
    sampled
        Whether values are samples; otherwise those of old pixels become those of new ones, by
        the ratio of the two squares' Fourier transforms.
    """
    rows, columns = (
        _kernel(n, scale, middle, sampled) for n, middle in zip(pixels.shape, center, strict=True)
    )
    return np.asarray(rows @ pixels @ columns.T)


def _kernel(n: int, scale: float, middle: float, sampled: bool) -> Array:
    """Return ``(m, n)`` the weight of each of n old pixels in each of m new ones."""
    side = max(int(n * scale), 1)
    m = side if side % 2 else side - 1
    new = middle + (np.arange(m) - (m - 1) / 2) / scale
    # Frequencies up to that of two old pixels; the kernel is the sum of their cosines.
    frequency = (np.arange(FREQUENCIES) + 0.5) / (2 * FREQUENCIES)
    ratio = np.ones(FREQUENCIES)
    if not sampled:
        ratio = np.sinc(frequency / scale) / np.sinc(frequency)
    there, here = (2j * np.pi * np.outer(x, frequency) for x in (new, np.arange(n)))
    return np.asarray(((np.exp(there) * ratio) @ np.exp(-here).T).real / FREQUENCIES)
