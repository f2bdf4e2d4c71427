"""Small FITS tiles written with astropy alone, to check the package's reader against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

SHAPE = (40, 50)
PLANES = {"BAD": 0, "SAT": 1, "DETECTED": 5, "NO_DATA": 8}


def wcs_header(**cards: object) -> fits.Header:
    header = fits.Header()
    header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0)
    header.update(CRPIX1=1.0, CRPIX2=1.0, CD1_1=-0.2 / 3600, CD2_2=0.2 / 3600)
    header.update(cards)
    return header


def pixels(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def planes(
    image: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    variance: np.ndarray | None = None,
    psf: np.ndarray | None = None,
    names: bool = True,
    wcs: fits.Header | None = None,
    zero: dict[str, object] | None = None,
) -> fits.HDUList:
    """One band: what is None is left out, except the image; named HDUs or by position."""
    primary = fits.PrimaryHDU()
    primary.header.update({"FLUXMAG0": 10 ** (0.4 * 27.0)} if zero is None else zero)
    image = pixels() if image is None else image
    hdus = [primary, fits.ImageHDU(image, wcs_header() if wcs is None else wcs)]
    for name, data in (("MASK", mask), ("VARIANCE", variance), ("PSF", psf)):
        if data is not None:
            hdus.append(fits.ImageHDU(data, name=name if names or name == "PSF" else None))
            if name == "MASK":
                hdus[-1].header.update(
                    {f"HIERARCH MP_{plane}": bit for plane, bit in PLANES.items()}
                )
    if names:
        hdus[1].name = "IMAGE"
    return fits.HDUList(hdus)


def complete(seed: int = 0, shape: tuple[int, int] = SHAPE, **changes: object) -> fits.HDUList:
    """One band with nothing missing."""
    parts: dict[str, object] = {
        "image": pixels(seed, shape),
        "mask": np.zeros(shape, np.int32),
        "variance": np.full(shape, 4.0, np.float32),
        "psf": np.pad(np.ones((3, 3)), 4),
    }
    return planes(**{**parts, **changes})


def write(folder: Path, name: str, hdus: fits.HDUList) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    hdus.writeto(path)
    return str(path)
