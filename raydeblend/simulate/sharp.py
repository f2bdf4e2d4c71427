"""Galaxies as HST sees them, to be blended and degraded: parametric ones and real stamps.

The real stamps have one trustworthy band.  Where more are asked for, a stamp has the same shape
in all of them, behind each band's PSF, and the colors of a drawn galaxy.
"""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from raydeblend.errors import ConfigError
from raydeblend.instruments import ACS_FWHM, FINE_SCALE, INFRARED_FWHM, PIVOT, hst_psf
from raydeblend.simulate.cutouts import rebin
from raydeblend.simulate.galaxies import CATSIM_BANDS, Galaxies, draw_galaxies, profile
from raydeblend.simulate.hst import VALIDATION, HstStamps, load_hst
from raydeblend.survey import NJY_ZERO_POINT

FloatArray = NDArray[np.float64]

GROUND = {"u": 368.0, "g": 486.0, "r": 625.0, "i": 756.0, "z": 870.0, "y": 972.0}
BRIGHTEST = 19.0
"""AB in the i band: brighter galaxies are wider than the stamps."""
SHRINK = (1.0, 1.5, 2.2, 3.2)
"""A real galaxy made fainter is made smaller too, by the nearest of these factors."""
SIZE_SLOPE = 0.269
"""ln(size) falls by this a magnitude (Miller et al. 2013, as in `galaxies`)."""
UNKNOWN_MAGNITUDE = 22.0
"""Of a stamp without a zero point."""
DIMMING = 0.75
"""Magnitudes by which a real galaxy is at least dimmed, so that its sky noise sinks below HSC's."""
FAINTEST_REAL = 23.5
"""AB; fainter stamps are mostly noise."""
REAL = 10**12
"""Added to the identifier of real galaxies; a multiple of `VALIDATION`."""


@dataclass(frozen=True)
class SharpGalaxies:
    """Single galaxies at HST's resolution.

    Attributes
    ----------
    images
        ``(n, bands, y, x)`` in nJy, centered within half a pixel of 0.06".
    galaxy
        ``(n,)`` identifier; several images may be of one galaxy.
    """

    images: NDArray[np.float16]
    galaxy: NDArray[np.int64]
    bands: tuple[str, ...]

    @property
    def is_validation(self) -> NDArray[np.bool_]:
        """``(n,)``; true for galaxies that must not be trained on."""
        return np.asarray(self.galaxy % VALIDATION == 0)


def join(parts: list[SharpGalaxies]) -> SharpGalaxies:
    """Put sets of galaxies of the same bands together."""
    images = np.concatenate([part.images for part in parts])
    return SharpGalaxies(images, np.concatenate([part.galaxy for part in parts]), parts[0].bands)


def hst_magnitudes(ugrizy: FloatArray, bands: tuple[str, ...]) -> FloatArray:
    """Return ``(n, bands)`` AB magnitudes in HST bands from ``(n, 6)`` in u g r i z y.

    Linear in ln(wavelength) between the bands.  Redder than y the slope from i to y goes on at
    0.7 of itself, which gives the 1 mag of i − H of typical faint galaxies.
    """
    known = np.log(list(GROUND.values()))
    wanted = np.log([PIVOT[band] for band in bands])
    inside = np.array([np.interp(wanted, known, row) for row in ugrizy])
    slope = (ugrizy[:, 5] - ugrizy[:, 3]) / (known[5] - known[3])
    beyond = np.maximum(wanted - known[5], 0)
    return np.asarray(inside + 0.7 * slope[:, None] * beyond)


def draw_sharp(
    n: int, bands: tuple[str, ...], rng: np.random.Generator, size: int = 72, faint: float = 25.2
) -> SharpGalaxies:
    """Draw `n` parametric bulge + disk galaxies with BRIGHTEST < i < `faint` (AB), noiseless."""
    galaxies = draw_population(n, rng, faint)
    flux = flux_njy(hst_magnitudes(galaxies.magnitude, bands))
    images = np.zeros((n, len(bands), size, size), dtype=np.float16)
    for row in range(n):
        angle, offset = rng.uniform(0, 360), rng.uniform(-0.5, 0.5, 2)
        images[row] = render(galaxies, row, bands, size, angle, offset) * flux[row, :, None, None]
    return SharpGalaxies(images, np.arange(n, dtype=np.int64), bands)


def draw_population(n: int, rng: np.random.Generator, faint: float) -> Galaxies:
    """Draw `n` galaxies with BRIGHTEST < i < `faint` (AB), in u g r i z y."""
    # Counts rise tenfold in 3.2 magnitudes: few of twice as many are too bright.
    drawn = draw_galaxies(2 * n + 16, CATSIM_BANDS, rng, faint)
    return drawn.take(np.flatnonzero(drawn.magnitude[:, 3] > BRIGHTEST)[:n])


def flux_njy(magnitude: FloatArray) -> FloatArray:
    """Return nJy of AB magnitudes."""
    return np.asarray(10 ** (0.4 * (NJY_ZERO_POINT - magnitude)))


def render(
    galaxies: Galaxies,
    row: int,
    bands: tuple[str, ...],
    size: int,
    angle: float,
    offset: FloatArray,
) -> NDArray[np.float32]:
    """Render a galaxy of unit flux ``(bands, size, size)``; bands of one PSF share the image."""
    shape = profile(galaxies, row, 3).rotate(angle * galsim.degrees)
    drawn: dict[bool, NDArray[np.float32]] = {}
    for band in bands:
        infrared = PIVOT[band] > 1000
        if infrared not in drawn:
            seen = galsim.Convolve(shape, hst_psf(band), gsparams=galsim.GSParams(
                maximum_fft_size=16384, folding_threshold=2e-2))  # fmt: skip
            drawn[infrared] = seen.drawImage(
                nx=size, ny=size, scale=FINE_SCALE, offset=tuple(offset)
            ).array
    return np.stack([drawn[PIVOT[band] > 1000] for band in bands])


def real_sharp(
    n: int,
    root: str,
    bands: tuple[str, ...],
    rng: np.random.Generator,
    size: int = 72,
    faint: float = 25.2,
) -> SharpGalaxies:
    """Return `n` images of the real galaxies under `root` (see `load_hst`), dimmed and shrunk.

    Each gets the magnitude of a drawn galaxy and the colors that go with it.

    Raises
    ------
    ConfigError
        If `root` holds nothing usable.
    """
    stamps = load_hst(root, ("F814W",), int(size * max(SHRINK)), FINE_SCALE)
    usable = np.flatnonzero(magnitude_of(stamps) < FAINTEST_REAL)
    if not len(usable):
        raise ConfigError(f"{root} holds no galaxy brighter than {FAINTEST_REAL} mag")
    stamps = stamps.take(usable)
    own = magnitude_of(stamps)
    galaxies = draw_population(n, rng, faint)
    rows = np.resize(rng.permutation(len(stamps)), n)
    images = np.zeros((n, len(bands), size, size), dtype=np.float16)
    for index, row in enumerate(rows):
        sed = hst_magnitudes(galaxies.magnitude[index : index + 1], bands)[0]
        reference = float(galaxies.magnitude[index, 3])
        fainter = max(reference - own[row], DIMMING)
        shape = shrunk(stamps.images[row, 0], fainter, size, bands)
        flux = flux_njy(sed - reference + own[row] + fainter)
        images[index] = shape * flux[:, None, None]
    return SharpGalaxies(images, stamps.galaxy[rows] + REAL, bands)


def magnitude_of(stamps: HstStamps) -> FloatArray:
    """Return AB magnitudes ``(n,)`` in the first band; UNKNOWN_MAGNITUDE without a zero point."""
    own = NJY_ZERO_POINT - 2.5 * np.log10(stamps.images[:, 0].sum(axis=(1, 2), dtype=np.float64))
    return np.where(stamps.calibrated, own, UNKNOWN_MAGNITUDE)


def shrunk(
    image: NDArray[np.float32], fainter: float, size: int, bands: tuple[str, ...]
) -> NDArray[np.float32]:
    """Return the galaxy ``(bands, size, size)`` of unit flux, as small as suits its new flux."""
    factor = SHRINK[int(np.argmin(np.abs(np.log(SHRINK) - SIZE_SLOPE * fainter)))]
    middle = (image.shape[0] - 1) / 2
    small = rebin(image, factor, (middle, middle), size)
    shapes = [gaussian_filter(small, _missing_blur(factor, band)) for band in bands]
    return np.stack([shape / max(float(shape.sum()), 1e-30) for shape in shapes])


def _missing_blur(factor: float, band: str) -> float:
    """Return the sigma in pixels of what a shrunk PSF lacks to the band's own."""
    fwhm = INFRARED_FWHM if PIVOT[band] > 1000 else ACS_FWHM
    missing = max(fwhm**2 - (ACS_FWHM / factor) ** 2, 0.0)
    return float(np.sqrt(missing) / FINE_SCALE / 2.3548)
