"""Real galaxies seen by HST, as clean centered stamps of one size and pixel scale.

`load_hst` reads every collection that it finds in a folder and its subfolders:

- GalSim's COSMOS catalogs (``real_galaxy_catalog_*.fits`` and the files it names), F814W, nJy;
- ``f606w_gal<N>.fits.gz``, ``f814w_gal<N>…``, ``f125w_gal<N>…`` of JediSim, one galaxy a
  number, with TinyTim's ``f814w_psf.fits.gz``; no common zero point: each band of a stamp is
  normalized to sum 1, so that its colors mean nothing;
- the HUDF galaxies of JediSim, ``*_scaled_*_galaxy_<N>.fits.gz``, with PIXSCALE and the zero
  point MAG0 in the header, nJy; no PSF of their own;
- a user's cutouts (CANDELS, say): FITS stamps and a table ``catalog.fits``, ``.csv`` or
  ``.ecsv`` with a row for each galaxy and band.  Columns: ``galaxy`` (number or name), ``band``
  (``F775W``, ...), ``image`` (file, relative to the folder); optional ``hdu``,
  ``pixel_scale`` (arcsec; else PIXSCALE in the header, else 0.06) and ``zeropoint`` (AB; else
  MAGZERO in the header; without either the stamp is normalized to sum 1).  The PSF of band B is
  ``psf_<B>.fits``, its scale in PIXSCALE.  The galaxy is near the stamp's middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.errors import ConfigError
from raydeblend.instruments import ACS_FWHM
from raydeblend.simulate.cutouts import Cutout, central_stamp, read_cutouts, rebin

PSF_SIZE = 41
VALIDATION = 8
"""Galaxies whose number this divides are kept for validation."""


@dataclass(frozen=True)
class HstStamps:
    """Centered stamps of single galaxies.

    Attributes
    ----------
    images
        ``(n, bands, y, x)``, sky subtracted; nJy where `calibrated`, else each band of a stamp
        sums to 1.  Neighbors outside the central segment, and what the original does not
        cover, are white noise of the sky's sigma, or zero where the original has no sky noise.
    psf
        ``(n_psf, py, px)`` normalized, odd, at `pixel_scale`, pixel included.
    pixel_scale
        Arcsec.
    galaxy
        ``(n,)`` identifier of the galaxy; validation if a multiple of `VALIDATION`.
    psf_index
        ``(n,)`` which PSF each galaxy was seen through.
    calibrated
        ``(n,)``.
    skipped
        Galaxies whose images could not be read, had no usable size or showed nothing.
    """

    images: NDArray[np.float32]
    psf: NDArray[np.float32]
    pixel_scale: float
    bands: tuple[str, ...]
    galaxy: NDArray[np.int64]
    psf_index: NDArray[np.int64]
    calibrated: NDArray[np.bool_]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.galaxy)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> HstStamps:
        """Return the chosen galaxies."""
        return HstStamps(
            self.images[rows], self.psf, self.pixel_scale, self.bands, self.galaxy[rows],
            self.psf_index[rows], self.calibrated[rows], self.skipped,
        )  # fmt: skip

    @property
    def is_validation(self) -> NDArray[np.bool_]:
        """``(n,)``; true for galaxies that are never trained on."""
        return np.asarray(self.galaxy % VALIDATION == 0)


def load_hst(
    root: str,
    bands: tuple[str, ...] = ("F814W",),
    size: int = 64,
    pixel_scale: float = 0.06,
    limit: int | None = None,
    validation: bool = False,
) -> HstStamps:
    """Read all galaxies under `root` that have all `bands`.

    Where one band is asked for, F775W and F814W stand for each other.  The same files give the
    same stamps, noise included.

    Parameters
    ----------
    size
        Side of the stamps in pixels of `pixel_scale` (arcsec).
    limit
        Stop after this many galaxies.
    validation
        Only those kept for validation.

    Raises
    ------
    ConfigError
        If there is no such folder, or nothing in it can be used.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {root} of HST stamps")
    kept: list[Cutout] = []
    stamps: list[NDArray[np.float32]] = []
    skipped = 0
    for cutout in _cutouts(folder, bands):
        if validation and cutout is not None and cutout.galaxy % VALIDATION:
            continue
        stamp = _stamp(cutout, bands, size, pixel_scale)
        if cutout is None or stamp is None:
            skipped += 1
            continue
        kept.append(cutout)
        stamps.append(stamp)
        if len(stamps) == limit:
            break
    if not stamps:
        raise ConfigError(
            f"{root} holds no usable HST galaxy in {', '.join(bands)} ({skipped} were skipped)"
        )
    psf, index = _psfs(kept, pixel_scale)
    calibrated = np.array([_is_calibrated(cutout, bands) for cutout in kept])
    galaxy = np.array([cutout.galaxy for cutout in kept], dtype=np.int64)
    return HstStamps(np.stack(stamps), psf, pixel_scale, bands, galaxy, index, calibrated, skipped)


def _cutouts(folder: Path, bands: tuple[str, ...]) -> Iterator[Cutout | None]:
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    for path in (folder, *inner):
        yield from read_cutouts(path, bands)


def _is_calibrated(cutout: Cutout, bands: tuple[str, ...]) -> bool:
    return all(band in cutout.njy_per_count for band in bands)


def _stamp(
    cutout: Cutout | None, bands: tuple[str, ...], size: int, pixel_scale: float
) -> NDArray[np.float32] | None:
    if cutout is None:
        return None
    rng = np.random.default_rng(cutout.galaxy)
    stamp = central_stamp(cutout, bands, size, pixel_scale, rng)
    if stamp is None or not np.all(stamp.sum(axis=(1, 2)) > 0):
        return None
    if _is_calibrated(cutout, bands):
        return stamp
    return np.asarray(stamp / stamp.sum(axis=(1, 2), keepdims=True), dtype=np.float32)


def _psfs(
    cutouts: list[Cutout], pixel_scale: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the different PSFs on the stamps' grid, and which galaxy has which."""
    images = [nominal_hst_psf(pixel_scale)]
    seen: dict[int, int] = {}
    index = np.zeros(len(cutouts), dtype=np.int64)
    for row, cutout in enumerate(cutouts):
        if cutout.psf is None:
            continue
        # One array object is one PSF: collections with a single one share it.
        key = id(cutout.psf[0])
        if key not in seen:
            seen[key] = len(images)
            images.append(_resampled_psf(*cutout.psf, pixel_scale))
        index[row] = seen[key]
    return np.stack(images), index


def nominal_hst_psf(
    pixel_scale: float, size: int = PSF_SIZE, fwhm: float = ACS_FWHM
) -> NDArray[np.float32]:
    """Return a normalized PSF ``(size, size)``: Airy pattern of 2.4 m in F814W, broadened."""
    optics = galsim.Airy(lam=805.0, diam=2.4, obscuration=0.33)
    drizzled = galsim.Convolve(optics, galsim.Gaussian(fwhm=fwhm / 2))
    image = drizzled.drawImage(nx=size, ny=size, scale=pixel_scale).array
    return np.asarray(image / image.sum(), dtype=np.float32)


def _resampled_psf(
    psf: NDArray[np.float32], scale: float, pixel_scale: float
) -> NDArray[np.float32]:
    y, x = np.indices(psf.shape)
    core = np.where(psf > 0.1 * psf.max(), psf, 0)
    center = (float((core * y).sum() / core.sum()), float((core * x).sum() / core.sum()))
    image = rebin(psf, pixel_scale / scale, center, PSF_SIZE)
    return np.asarray(image / image.sum(), dtype=np.float32)
