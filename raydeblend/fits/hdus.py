"""Opening FITS files: whole or not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import IO, Any

from astropy.io import fits

# astropy has no public name for what its decompressor raises; 7.0 and 8.0 have this one.
from astropy.io.fits.hdu.compressed._compression import CfitsioException

from raydeblend import storage
from raydeblend.errors import TileError

PACKED: Mapping[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
"""By the first bytes what astropy unpacks, whatever the file is called, and says nothing of an end
that is missing."""
CHUNK = 1 << 22


@contextmanager
def open_hdus(path: str, whole: bool = True) -> Iterator[fits.HDUList]:
    """Open a FITS file, check that it is whole; what fails while it is open is a TileError.

    Compressed images are tables until `raydeblend.fits.tiled.as_image` makes images of those that
    are wanted, since astropy takes its time to translate the header of each.  Without `whole` no
    HDU is read but those asked for.
    """
    try:
        with (
            storage.open_file(path) as file,
            fits.open(file, disable_image_compression=True) as hdus,
        ):
            if whole:
                _check_whole(path, hdus, file)
            yield hdus
    except TileError:
        raise
    except FileNotFoundError as error:
        raise TileError(f"there is no file {path}") from error
    except (*storage.READ_ERRORS, fits.VerifyError, ValueError, TypeError, KeyError) as error:
        raise TileError(f"{path} cannot be read as FITS: {error}") from error
    except (CfitsioException, zlib.error, lzma.LZMAError, EOFError) as error:
        raise TileError(f"{path} is damaged: {error}") from error


def _check_whole(path: str, hdus: fits.HDUList, file: IO[bytes]) -> None:
    """Compare the file's size with what the headers promise; neither more nor less is right."""
    last = hdus[len(hdus) - 1]  # by number, so that every header has been read
    size = _size(file)
    end = last.fileinfo()["datLoc"] + last.fileinfo()["datSpan"]
    if size < end:
        raise TileError(f"{path} is truncated: {size} of {end} bytes")
    if size > end:
        raise TileError(f"{path} is damaged: no HDU can be read after byte {end}")


def _size(file: IO[bytes]) -> int:
    """Return the bytes of a file once it is unpacked."""
    file.seek(0)
    first = file.read(8)
    for magic, unpack in PACKED.items():
        if first.startswith(magic):
            file.seek(0)
            with unpack(file) as content:
                return sum(map(len, iter(partial(content.read, CHUNK), b"")))
    return file.seek(0, io.SEEK_END)


def by(shape: tuple[int, ...]) -> str:
    """Write a shape as in "41×43"."""
    return "×".join(str(n) for n in shape)
