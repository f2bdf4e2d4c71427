"""Compressed images: tiles of gzip are unpacked here, all others by astropy.

For an image in small tiles, as the PSFs of LSST's cells are, astropy needs many times what
unpacking takes.  The format is that of the FITS standard, section 10.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

GZIP = ("GZIP_1", "GZIP_2")
"""Bytes as they are, and those of one significance after another."""
KINDS = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
"""Of pixels, by BITPIX."""
DESCRIPTORS = {"P": ">i4", "Q": ">i8"}
"""Of a tile: how many bytes it has in the heap, and where they begin."""
SCALING = ("BSCALE", "BZERO", "BLANK", "ZSCALE", "ZZERO", "ZBLANK")
GZIP_HEADER = 16 + zlib.MAX_WBITS


def is_image(hdu: Any) -> bool:
    """Tell whether an HDU is an image, compressed or not."""
    return isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU) or _is_compressed(hdu)


def as_image(hdu: Any) -> Any:
    """Return an image with ``shape``, ``header``, ``section`` and ``data``.

    Of one compressed by gzip the header is that of the table it lies in: see `image_header`.
    """
    if not _is_compressed(hdu):
        return hdu
    return GzippedImage(hdu) if _is_gzipped(hdu.header) else fits.CompImageHDU(bintable=hdu)


def image_shape(hdu: Any) -> tuple[int, ...]:
    """Return the shape of an image; empty if it has no pixels."""
    return _sizes(hdu.header, "ZNAXIS") if _is_compressed(hdu) else tuple(hdu.shape)


def image_header(image: Any) -> fits.Header:
    """Return the header of an image as if it were not compressed."""
    return image.image.header if isinstance(image, GzippedImage) else image.header


def bits_of_pixel(image: Any) -> int:
    """Return BITPIX of an image: negative for floating-point numbers."""
    return int(image.header["ZBITPIX" if isinstance(image, GzippedImage) else "BITPIX"])


def _is_compressed(hdu: Any) -> bool:
    return isinstance(hdu, fits.BinTableHDU) and hdu.header.get("ZIMAGE") is True


def _is_gzipped(header: fits.Header) -> bool:
    """Tell whether every tile is its bytes packed by gzip, and nothing else."""
    return (
        header["ZCMPTYPE"] in GZIP
        and header["TFIELDS"] == 1
        and header["TFORM1"].lstrip("1")[0] in DESCRIPTORS
        and not any(card in header for card in SCALING)
    )


def _sizes(header: fits.Header, card: str) -> tuple[int, ...]:
    """Return the values of numbered cards, last axis first as in numpy."""
    return tuple(int(header[f"{card}{n}"]) for n in range(int(header["ZNAXIS"]), 0, -1))


@dataclass(frozen=True)
class GzippedImage:
    """An image in tiles of gzip; `table` is the HDU as read."""

    table: fits.BinTableHDU

    @property
    def header(self) -> fits.Header:
        """Of the table."""
        return self.table.header

    @cached_property
    def image(self) -> fits.CompImageHDU:
        """What astropy makes of it."""
        return fits.CompImageHDU(bintable=self.table)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of the pixels."""
        return image_shape(self.table)

    @property
    def section(self) -> GzippedImage:
        """Itself: slices of it read only the tiles that they need."""
        return self

    @property
    def data(self) -> NDArray[np.generic]:
        """All pixels."""
        return self[:]

    def __getitem__(self, key: slice | tuple[slice, ...]) -> NDArray[np.generic]:
        """Return the pixels of a slice of whole steps along each axis."""
        slices = key if isinstance(key, tuple) else (key,)
        slices += (slice(None),) * (len(self.shape) - len(slices))
        ranges = [s.indices(n)[:2] for s, n in zip(slices, self.shape, strict=True)]
        pixels = np.empty([b - a for a, b in ranges], self._kind.newbyteorder("="))
        for box, tile in self._tiles(ranges):
            low = [max(a, start) for (a, _), (start, _) in zip(ranges, box, strict=True)]
            high = [min(b, stop) for (_, b), (_, stop) in zip(ranges, box, strict=True)]
            there = tuple(
                slice(x - a, y - a) for x, y, (a, _) in zip(low, high, ranges, strict=True)
            )
            here = tuple(slice(x - s, y - s) for x, y, (s, _) in zip(low, high, box, strict=True))
            pixels[there] = tile[here]
        return pixels

    @cached_property
    def _kind(self) -> np.dtype[Any]:
        return np.dtype(KINDS[self.header["ZBITPIX"]])

    @cached_property
    def _is_shuffled(self) -> bool:
        return bool(self.header["ZCMPTYPE"] == GZIP[1])

    def _tiles(
        self, ranges: list[tuple[int, int]]
    ) -> Iterator[tuple[list[tuple[int, int]], NDArray[np.generic]]]:
        """Yield the tiles that ranges of pixels touch: where each lies, and its pixels."""
        sides = _sizes(self.header, "ZTILE")
        grid = [-(-n // side) for n, side in zip(self.shape, sides, strict=True)]
        touched = product(
            *(range(a // side, -(-b // side)) for (a, b), side in zip(ranges, sides, strict=True))
        )
        places = list(touched)
        numbers = np.ravel_multi_index(np.array(places).T, grid) if places else np.array([], int)
        for place, content in zip(places, self._packed(numbers), strict=True):
            box = [
                (i * side, min((i + 1) * side, n))
                for i, side, n in zip(place, sides, self.shape, strict=True)
            ]
            yield box, self._unpacked(content, [stop - start for start, stop in box])

    def _packed(self, numbers: NDArray[np.int64]) -> Iterator[bytes]:
        """Yield the content of tiles, from one request for all that lies between them."""
        info, header = self.table.fileinfo(), self.header
        size = header["NAXIS1"] * header["NAXIS2"]
        file, start = info["file"], info["datLoc"]
        file.seek(start)
        kind = DESCRIPTORS[header["TFORM1"].lstrip("1")[0]]
        descriptors = np.frombuffer(file.read(size), kind).reshape(-1, 2)[numbers]
        if not len(descriptors):
            return
        lengths, offsets = descriptors.astype(np.int64).T.tolist()
        first, last = min(offsets), max(o + n for o, n in zip(offsets, lengths, strict=True))
        file.seek(start + header.get("THEAP", size) + first)
        heap = memoryview(file.read(last - first))
        for length, offset in zip(lengths, offsets, strict=True):
            yield bytes(heap[offset - first : offset - first + length])

    def _unpacked(self, content: bytes, shape: list[int]) -> NDArray[np.generic]:
        pixels = np.frombuffer(zlib.decompress(content, GZIP_HEADER), np.uint8)
        if self._is_shuffled:
            pixels = np.ascontiguousarray(pixels.reshape(self._kind.itemsize, prod(shape)).T)
        return pixels.reshape(-1).view(self._kind).reshape(shape)
