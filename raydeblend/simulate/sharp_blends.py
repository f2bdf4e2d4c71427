"""Blends at HST's resolution of galaxies kept out of training, with the truth of each.

Hemmati et al. 2022, section 2: cutouts are shifted and rotated at random and added; the sum is
degraded to HSC's.  Positions, magnitudes, sizes and redshifts are recorded.  The galaxies are
real HST stamps of the validation split (see `raydeblend.simulate.hst`), dimmed as in training,
and parametric ones of seeds that no training draws from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.errors import ConfigError
from raydeblend.instruments import (
    FACTOR,
    FINE_SCALE,
    HST_NOISE,
    REFERENCE,
    coarse_psf,
    coarse_seeing,
    hst_psf,
)
from raydeblend.simulate.cutouts import IDENTIFIERS
from raydeblend.simulate.degrade import Degradation, hsc_degradation
from raydeblend.simulate.galaxies import Galaxies
from raydeblend.simulate.hst import HstStamps, load_hst
from raydeblend.simulate.sharp import (
    DIMMING,
    FAINTEST_REAL,
    SHRINK,
    draw_population,
    flux_njy,
    hst_magnitudes,
    magnitude_of,
    render,
    shrunk,
)
from raydeblend.survey import draw_psf

FloatImages = NDArray[np.float32]
FloatArray = NDArray[np.float64]

SIDE = 66
"""Side of a blend in fine pixels: 22 coarse ones, of which the paper's 64 are the middle."""
MARGIN = 18
"""Fine pixels around the blend from which light falls into it."""
STAMP = SIDE + 5 * MARGIN
"""Side of a parametric galaxy in fine pixels: what is shifted furthest still fills the scene, as
the edge of a stamp inside the scene looks like a source of its own."""
REAL_STAMP = 120
"""The same of a real galaxy, whose stamp ends anyway."""
SPREAD = 6.0
"""Standard deviation in fine pixels of a galaxy's shift along each axis: "drawn from a normal
distribution" (section 5); its width is not printed, that of the training is taken."""
FAINT = 25.0
"""AB in the i band ("in testing went down to 25th magnitude", section 5)."""
REAL_FRACTION = 0.5
"""Of the galaxies, where there are real ones."""
CHUNK = 50
"""Blends drawn with one seed."""
SEEDS = 20_221_120
"""Start of the seeds of the test blends; trainings start from small numbers."""


@dataclass(frozen=True)
class RealGalaxies:
    """Held-out HST stamps, larger than a blend, and their photometric redshifts (NaN: unknown)."""

    stamps: HstStamps
    redshift: FloatArray


@dataclass(frozen=True)
class SharpBlends:
    """Blends of `k` galaxies, the brightest first; images in sky sigmas of the coarse pixels.

    Attributes
    ----------
    low, variance
        ``(n, bands, y, x)`` with HSC's noise, and the variance of sky and photons.
    high
        ``(n, bands, 3 y, 3 x)`` with HST's noise.
    isolated
        ``(n, k, bands, 3 y, 3 x)`` the same of each galaxy alone, without added noise.
    xy
        ``(n, k, 2)`` centers (x, y) in fine pixels.
    magnitude
        ``(n, k)`` AB in the i band.
    fwhm
        ``(n, k)`` arcsec, at HST's resolution: of the circle as large as the area above half of
        the maximum.
    redshift
        ``(n, k)``.
    is_real
        ``(n, k)``.
    bands
        HST's.
    """

    low: FloatImages
    variance: FloatImages
    high: FloatImages
    isolated: FloatImages
    xy: FloatArray
    magnitude: FloatArray
    fwhm: FloatArray
    redshift: FloatArray
    is_real: NDArray[np.bool_]
    bands: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, rows: slice) -> SharpBlends:
        arrays = {item.name: getattr(self, item.name)[rows] for item in fields(self)[:-1]}
        return SharpBlends(**arrays, bands=self.bands)

    @property
    def separation(self) -> FloatArray:
        """Arcsec between the brightest and the faintest, ``(n,)``."""
        return np.asarray(FINE_SCALE * np.hypot(*(self.xy[:, -1] - self.xy[:, 0]).T))


@dataclass(frozen=True)
class SharpTest:
    """A test set of `n` blends of `k` galaxies, drawn in chunks by seed.

    Attributes
    ----------
    real
        None: parametric galaxies only.
    """

    n: int
    k: int = 2
    bands: tuple[str, ...] = ("F775W",)
    real: RealGalaxies | None = None
    seed: int = 0

    def of(self, k: int) -> SharpTest:
        """Return the test set of as many images of `k` galaxies."""
        return replace(self, k=k)

    def chunk(self, number: int) -> SharpBlends:
        """Return the blends from ``number * CHUNK`` on."""
        rng = np.random.default_rng([SEEDS, self.seed, self.k, number])
        return draw_blends(min(CHUNK, self.n - number * CHUNK), self.k, self.bands, rng, self.real)

    def chunks(self) -> Iterator[SharpBlends]:
        """Yield all the blends."""
        return (self.chunk(number) for number in range(-(-self.n // CHUNK)))


def reference_band(bands: tuple[str, ...]) -> int:
    """Return the index of the i band: F775W, else F814W, else the first."""
    known = [band for band in REFERENCE if band in bands]
    return bands.index(known[0]) if known else 0


def read_real(root: str) -> RealGalaxies:
    """Read the held-out galaxies under `root`, one in eight by number.

    Raises
    ------
    ConfigError
        If there are none.
    """
    side = int(REAL_STAMP * max(SHRINK))
    stamps = load_hst(root, ("F814W",), side, FINE_SCALE, validation=True)
    stamps = stamps.take(magnitude_of(stamps) < FAINTEST_REAL)
    if not len(stamps):
        raise ConfigError(f"{root} holds no galaxy of the validation split")
    known = _photometric_redshifts(Path(root))
    redshift = [known.get(int(galaxy), np.nan) for galaxy in stamps.galaxy]
    return RealGalaxies(stamps, np.array(redshift))


def _photometric_redshifts(root: Path) -> dict[int, float]:
    """Return redshifts by galaxy, of GalSim's extension catalogs that have a column ZPHOT."""
    found: dict[int, float] = {}
    for path in sorted(root.rglob("real_galaxy_catalog*extension*_fits.fits")):
        table = Table.read(path)
        if "ZPHOT" in table.colnames:
            pairs = zip(table["IDENT"], table["ZPHOT"], strict=True)
            found |= {2 * IDENTIFIERS + int(galaxy): float(z) for galaxy, z in pairs if z > 0}
    return found


def draw_blends(
    n: int,
    k: int,
    bands: tuple[str, ...],
    rng: np.random.Generator,
    real: RealGalaxies | None = None,
) -> SharpBlends:
    """Draw `n` blends of `k` galaxies."""
    galaxies = draw_population(n * k, rng, FAINT)
    redshift = galaxies.redshift.copy()
    magnitude = galaxies.magnitude[:, 3].copy()
    is_real = rng.random(n * k) < (REAL_FRACTION if real else 0)
    scenes = np.zeros((n * k, len(bands), SIDE + 2 * MARGIN, SIDE + 2 * MARGIN), dtype=np.float32)
    xy = np.zeros((n * k, 2))
    for row in range(n * k):
        offset = np.zeros(2)
        if is_real[row] and real:
            stamp, z, magnitude[row] = _real_stamp(galaxies, row, bands, real, rng)
            redshift[row] = z if np.isfinite(z) else redshift[row]
        else:
            stamp, offset = _drawn_stamp(galaxies, row, bands, rng)
        shift = np.clip(np.rint(rng.normal(0, SPREAD, 2)), -1.5 * MARGIN, 1.5 * MARGIN)
        _paste(scenes[row], stamp, shift.astype(int))
        xy[row] = (SIDE - 1) / 2 + shift + offset
    order = np.argsort(magnitude.reshape(n, k), axis=1, kind="stable")
    rows = (order + k * np.arange(n)[:, None]).astype(int)
    low, variance, high, isolated = _observe(scenes[rows], bands, rng)
    return SharpBlends(
        low, variance, high, isolated, xy[rows], magnitude[rows],
        _fwhm(isolated[:, :, reference_band(bands)]), redshift[rows], is_real[rows], bands,
    )  # fmt: skip


def _drawn_stamp(
    galaxies: Galaxies, row: int, bands: tuple[str, ...], rng: np.random.Generator
) -> tuple[FloatImages, FloatArray]:
    """Return ``(bands, STAMP, STAMP)`` in nJy, and the offset (x, y) of its center."""
    offset = rng.uniform(-0.5, 0.5, 2)
    image = render(galaxies, row, bands, STAMP, rng.uniform(0, 360), offset)
    flux = flux_njy(hst_magnitudes(galaxies.magnitude[row : row + 1], bands)[0])
    return np.asarray(image * flux[:, None, None], dtype=np.float32), offset


def _real_stamp(
    galaxies: Galaxies,
    row: int,
    bands: tuple[str, ...],
    real: RealGalaxies,
    rng: np.random.Generator,
) -> tuple[FloatImages, float, float]:
    """Return a real galaxy in nJy, rotated, dimmed and shrunk; its redshift and magnitude."""
    index = int(rng.integers(len(real.stamps)))
    chosen = real.stamps.take(np.array([index]))
    own, wanted = float(magnitude_of(chosen)[0]), float(galaxies.magnitude[row, 3])
    fainter = max(wanted - own, DIMMING)
    turned = ndimage.rotate(chosen.images[0, 0], rng.uniform(0, 360), reshape=False)
    shape = shrunk(turned, fainter, REAL_STAMP, bands)
    sed = hst_magnitudes(galaxies.magnitude[row : row + 1], bands)[0]
    flux = flux_njy(sed - wanted + own + fainter)
    image = np.asarray(shape * flux[:, None, None], dtype=np.float32)
    return image, float(real.redshift[index]), own + fainter


def _paste(scene: FloatImages, stamp: FloatImages, shift: NDArray[np.intp]) -> None:
    """Add a stamp to the middle of a scene ``(bands, y, x)``, shifted by (x, y), in place."""
    first = (scene.shape[-1] - stamp.shape[-1]) // 2 + shift[::-1]
    low, high = np.maximum(first, 0), np.minimum(first + stamp.shape[-1], scene.shape[-1])
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    cut = tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))
    scene[:, *inside] += stamp[:, *cut]


def _observe(
    scenes: FloatImages, bands: tuple[str, ...], rng: np.random.Generator
) -> tuple[FloatImages, FloatImages, FloatImages, FloatImages]:
    """Return low, its variance, high and isolated images of ``(n, k, bands, y, x)`` in nJy."""
    inside = slice(MARGIN, -MARGIN)
    coarse = slice(MARGIN // FACTOR, -(MARGIN // FACTOR))
    surveys = [degradation(band) for band in bands]
    light = np.stack([s.blurred(scenes.sum(axis=1)[:, i]) for i, s in enumerate(surveys)], axis=1)
    light = light[..., coarse, coarse]
    sigma, electrons = (
        np.array(values, dtype=np.float32)[:, None, None]
        for values in zip(*((s.sky_sigma, s.electrons_per_njy) for s in surveys), strict=True)
    )
    variance = 1 + np.clip(light, 0, None) / electrons / sigma**2
    low = light / sigma + np.sqrt(variance) * rng.standard_normal(light.shape).astype(np.float32)
    isolated = scenes[..., inside, inside] / sigma
    high = isolated.sum(axis=1)
    noise = rng.standard_normal(high.shape).astype(np.float32)
    return low, variance, high + HST_NOISE * noise, isolated


@cache
def degradation(band: str) -> Degradation:
    """Return what takes an HST band to HSC's: the paper's 0.6 arcsec in i, else HSC's median."""
    psf = draw_psf(hst_psf(band), FINE_SCALE, 41)
    return hsc_degradation(psf, band, fwhm=coarse_seeing(band))


def band_psfs(bands: Sequence[str], size: int = 25) -> FloatImages:
    """Return the PSFs ``(bands, size, size)`` of the degraded bands on the coarse pixels."""
    return np.stack([coarse_psf(band, size) for band in bands])


def _fwhm(images: FloatImages) -> FloatArray:
    """Return ``(n, k)`` arcsec of ``(n, k, y, x)``."""
    # Smoothed by half a pixel, as a galaxy's highest pixel may be noise.
    smooth = ndimage.gaussian_filter(images, (0, 0, 0.5, 0.5))
    top = smooth.max(axis=(2, 3), keepdims=True)
    return np.asarray(FINE_SCALE * 2 * np.sqrt((smooth > top / 2).sum(axis=(2, 3)) / np.pi))
