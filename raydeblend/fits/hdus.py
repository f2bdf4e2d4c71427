"""Opening FITS files: whole or not, and which HDU is which plane."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from astropy.io import fits

# astropy has no public name for what its decompressor raises; 7.0 and 8.0 have this one.
from astropy.io.fits.hdu.compressed._compression import CfitsioException

from raydeblend import storage
from raydeblend.errors import TileError

PLANES = ("IMAGE", "MASK", "VARIANCE")
PSF = "PSF"


@contextmanager
def open_hdus(path: str) -> Iterator[fits.HDUList]:
    """Open a FITS file, check that it is whole; what fails while it is open is a TileError."""
    try:
        with storage.open_file(path) as file, fits.open(file) as hdus:
            _check_whole(path, hdus, file)
            yield hdus
    except TileError:
        raise
    except FileNotFoundError as error:
        raise TileError(f"there is no file {path}") from error
    except (*storage.READ_ERRORS, fits.VerifyError, ValueError, TypeError, KeyError) as error:
        raise TileError(f"{path} cannot be read as FITS: {error}") from error
    except (CfitsioException, zlib.error, EOFError) as error:
        raise TileError(f"{path} is damaged: {error}") from error


def _check_whole(path: str, hdus: fits.HDUList, file: IO[bytes]) -> None:
    """Compare the file's size with what the headers promise; neither more nor less is right."""
    last = hdus[len(hdus) - 1]  # by number, so that every header has been read
    if path.endswith(".gz"):
        return  # its size is that of the compressed file, and gzip checks itself
    size = file.seek(0, io.SEEK_END)
    end = last.fileinfo()["datLoc"] + last.fileinfo()["datSpan"]
    if size < end:
        raise TileError(f"{path} is truncated: {size} of {end} bytes")
    if size > end:
        raise TileError(f"{path} is damaged: no HDU can be read after byte {end}")


def find_planes(path: str, hdus: fits.HDUList) -> dict[str, fits.ImageHDU]:
    """Find the HDUs of IMAGE, MASK, VARIANCE and PSF; all but the first may be absent."""
    found = {_name(hdu): hdu for hdu in reversed(hdus) if _is_image(hdu)}
    if "IMAGE" not in found:
        for name, hdu in zip(PLANES, hdus[1:4], strict=False):
            if _is_image(hdu) and _name(hdu) not in (*PLANES, PSF):
                found.setdefault(name, hdu)
    if "IMAGE" not in found and _is_image(hdus[0]):
        found["IMAGE"] = hdus[0]
    if "IMAGE" not in found:
        raise TileError(f"{path} holds no image")
    return found


def _is_image(hdu: object) -> bool:
    return isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU) and len(hdu.shape) == 2


def _name(hdu: fits.ImageHDU) -> str:
    # The HSC pipeline names its HDUs by EXTTYPE, LSST's and this package by EXTNAME.
    return str(hdu.header.get("EXTNAME") or hdu.header.get("EXTTYPE") or "").strip().upper()


def by(shape: tuple[int, ...]) -> str:
    """Write a shape as in "41×43"."""
    return "×".join(str(n) for n in shape)
