"""The nouns of the survey path: Box, Tile, Cell, Blend and Deblended.

Pixel centers are at whole numbers, 0-based.  Arrays are ``(bands, y, x)``, batches
``(n, bands, y, x)``; positions are ``(x, y)`` as in FITS and in the catalog.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend.psf import TilePsf
from raydeblend.wording import amount

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels, half open: rows ``y0 <= y < y1``, columns ``x0 <= x < x1``."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this box in an array that starts at pixel (0, 0)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def shift(self, dy: int, dx: int) -> Box:
        """Return the box moved by whole pixels."""
        return Box(self.y0 + dy, self.x0 + dx, self.y1 + dy, self.x1 + dx)

    def grow(self, border: int) -> Box:
        """Return the box widened by `border` pixels on every side."""
        return Box(self.y0 - border, self.x0 - border, self.y1 + border, self.x1 + border)

    def clip(self, other: Box) -> Box:
        """Return the part of the box that lies inside `other`."""
        return Box(
            max(self.y0, other.y0),
            max(self.x0, other.x0),
            min(self.y1, other.y1),
            min(self.x1, other.x1),
        )

    def contains(self, y: float, x: float) -> bool:
        """Tell whether the pixel whose square holds the position lies in the box."""
        row, column = np.floor(y + 0.5), np.floor(x + 0.5)
        return bool(self.y0 <= row < self.y1 and self.x0 <= column < self.x1)


@dataclass(frozen=True)
class BandFile:
    """Where one band of a tile lies, local or on s3, and its zero point (counts to nJy).

    Attributes
    ----------
    image, mask, noise, psf
        Paths; of `mask`, `noise` and `psf` only where they are not in the image's file.  Several
        PSFs, each of a place, stand on a line each.
    stamp
        What changes when a file does (`raydeblend.storage.stamp`), empty where not known.
    layout
        The key of how the files are read, see `raydeblend.fits.layouts`.
    """

    band: str
    image: str
    psf: str | None
    njy_per_count: float
    stamp: str = ""
    mask: str | None = None
    noise: str | None = None
    layout: str = "native"


@dataclass(frozen=True)
class TileHeader:
    """What the plan knows of a tile from its headers alone.

    Attributes
    ----------
    name
        The tile's name, as the file pattern or the manifest gives it.
    bands
        The bands asked for, in order.
    files
        One file per band; None where the tile lacks that band.
    shape
        Rows and columns.
    wcs
        The celestial WCS as a FITS header string.
    pixel_scale
        Arcsec per pixel.
    """

    name: str
    bands: tuple[str, ...]
    files: tuple[BandFile | None, ...]
    shape: tuple[int, int]
    wcs: str
    pixel_scale: float

    @property
    def box(self) -> Box:
        """The whole tile."""
        return Box(0, 0, *self.shape)


@dataclass(frozen=True)
class Cell:
    """The unit of work: the `inner` region owns sources by their peak pixel, `outer` is read."""

    name: str
    tile: TileHeader
    inner: Box
    outer: Box


@dataclass(frozen=True)
class Tile:
    """Pixels of one box of a tile.

    Attributes
    ----------
    box
        Which pixels of the tile these are.
    image
        ``(bands, y, x)`` in nJy; 0 where unusable or missing.
    variance
        ``(bands, y, x)`` in nJy², positive and finite; infinite weight never occurs.
    unusable
        ``(bands, y, x)``; true where a pixel must not be used (all true for a missing band).
    saturated
        ``(y, x)``; true where any band carries the SAT plane.
    psf
        Of each band, by place in pixels of the tile.
    flags
        Bits of `raydeblend.flags.Flag` that hold for every source of the tile.
    filled
        Of each band, the part of the pixels that were read that holds data, masked or not; empty
        where that is not known.
    """

    header: TileHeader
    box: Box
    image: FloatArray
    variance: FloatArray
    unusable: BoolArray
    saturated: BoolArray
    psf: TilePsf
    flags: int = 0
    filled: tuple[float, ...] = ()

    def crop(self, box: Box) -> Tile:
        """Return the part of the pixels that lies in `box`."""
        box = box.clip(self.box)
        part = (..., *box.shift(-self.box.y0, -self.box.x0).slices)
        return replace(
            self,
            box=box,
            image=self.image[part],
            variance=self.variance[part],
            unusable=self.unusable[part],
            saturated=self.saturated[part],
            psf=self.psf.within(box),
        )


@dataclass(frozen=True)
class Blend:
    """One footprint cut out for deblending and measurement, with other footprints taken out.

    Attributes
    ----------
    parent_id
        Identifies the footprint; deterministic from the tile and its brightest peak pixel.
    box
        The stamp in tile pixels; it may reach beyond the tile, where pixels are unusable.
    image
        ``(bands, y, x)`` in nJy.
    variance
        ``(bands, y, x)`` in nJy².
    unusable
        ``(bands, y, x)``: bad pixels, other footprints, and what lies off the tile.
    footprint
        ``(y, x)``: the detected pixels of this parent.
    xy
        ``(k, 2)`` detected peaks in stamp pixels (x, y), brightest first.
    flags
        Bits of `raydeblend.flags.Flag` that hold for the whole footprint.
    cores
        ``(bands, y, x)`` light of saturated stars that their masks hide, as their PSF continues it
        (0 elsewhere); it says where they are, and is no data.  None where there is no such star.
    """

    parent_id: int
    box: Box
    image: FloatArray
    variance: FloatArray
    unusable: BoolArray
    footprint: BoolArray
    xy: FloatArray
    flags: int = 0
    cores: FloatArray | None = None

    def on_tile(self, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return positions ``(n, 2)`` of the stamp in pixels of the tile."""
        return np.asarray(xy + np.array([self.box.x0, self.box.y0], dtype=np.float64))


@dataclass(frozen=True, repr=False)
class Deblended:
    """What a deblender returns for a batch of stamps.

    Attributes
    ----------
    models
        ``(n, k, bands, y, x)`` in the unit of the input, brightest first, zero where there is
        no k-th source.
    n_sources
        ``(n,)`` sources found.
    xy
        ``(n, k, 2)`` positions (x, y), 0-based; NaN where there is no k-th source.
    quality
        ``(n,)`` of ``high``, ``medium``, ``low``, ``none`` (Wang et al. 2022, section II.A).
    extra
        The deblender's own measurements by name, ``(n, ...)`` or ``(n, k, ...)``.
    """

    models: FloatArray
    n_sources: NDArray[np.int64]
    xy: FloatArray
    quality: NDArray[np.str_]
    extra: dict[str, NDArray[np.generic]] = field(default_factory=dict)

    def __repr__(self) -> str:
        n, _, *stamp = self.models.shape
        names, counts = np.unique(self.quality, return_counts=True)
        rated = ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))
        shape = " x ".join(map(str, stamp))
        sources = amount(int(self.n_sources.sum()), "source")
        return f"<Deblended: {sources} in {amount(n, 'stamp')} of {shape}; {rated}>"

    def table(self, bands: Sequence[str] | None = None) -> Table:
        """Return one row for each source.

        Parameters
        ----------
        bands
            Names for the columns of flux; by default 0, 1, 2.

        Returns
        -------
        An astropy table: ``stamp``, ``source`` (0 is the brightest), ``x``, ``y``, ``flux_<band>``
        (the sum of the model's pixels, in the unit of the input), ``quality``, and those entries
        of `extra` that have one number for each source.

        Raises
        ------
        ValueError
            If there are not as many names as bands.
        """
        from astropy.table import Table

        n_bands = self.models.shape[2]
        names = [str(i) for i in range(n_bands)] if bands is None else bands
        if len(names) != n_bands:
            raise ValueError(f"{len(names)} names were given for {n_bands} bands")
        rank = np.arange(self.models.shape[1])
        stamp, source = np.nonzero(rank < self.n_sources[:, None])
        flux = self.models.sum(axis=(3, 4))[stamp, source]
        columns: dict[str, NDArray[np.generic]] = {"stamp": stamp, "source": source}
        columns |= {"x": self.xy[stamp, source, 0], "y": self.xy[stamp, source, 1]}
        columns |= {f"flux_{name}": flux[:, i] for i, name in enumerate(names)}
        columns["quality"] = self.quality[stamp]
        of_source = {k: v for k, v in self.extra.items() if v.shape == self.models.shape[:2]}
        return Table(columns | {k: v[stamp, source] for k, v in of_source.items()})

    def plot(self, images: ArrayLike | None = None, most: int = 6) -> Figure:
        """Draw the first stamps: all models, each model and, given `images`, the residual.

        Parameters
        ----------
        images
            ``(n, bands, y, x)`` images that were deblended.
        most
            Largest number of stamps, and of models of each, to draw.

        Returns
        -------
        A matplotlib figure, which a notebook shows; ``figure.savefig("blends.pdf")`` saves it.

        Raises
        ------
        ValueError
            If `images` are not of the models' shape.
        """
        from raydeblend.pictures import models_figure

        shown = None if images is None else np.asarray(images)
        n, _, *stamp = self.models.shape
        if shown is not None and shown.shape != (n, *stamp):
            raise ValueError(f"images are {shown.shape}, the models want {(n, *stamp)}")
        titles = [
            f"{i}: {amount(number, 'source')}, {quality}"
            for i, (number, quality) in enumerate(zip(self.n_sources, self.quality, strict=True))
        ]
        first = slice(most)
        part = None if shown is None else shown[first]
        return models_figure(part, self.models[first], self.xy[first], titles[first], most)


@dataclass(frozen=True)
class Separated:
    """The k sources of one footprint of any size, each with its light on its own pixels.

    Attributes
    ----------
    xy
        ``(k, 2)`` positions (x, y), brightest first.
    boxes, lights
        For each source, the box of its pixels, and its light ``(bands, h, w)`` there, in the unit
        of the input.
    quality
        As in `Deblended`.
    limited
        Whether a work limit ended the search; if that happened early there are no sources.
    blendedness
        ``(k,)``, as the catalog's column.
    extra
        The deblender's own measurements, ``(k, ...)`` by name.
    work
        Amount of work, in a unit of the deblender's own that does not depend on the machine.
    parts_xy
        ``(m, 2)`` positions of sources that were merged into brighter ones.
    """

    xy: FloatArray
    boxes: tuple[Box, ...]
    lights: tuple[FloatArray, ...]
    quality: str
    limited: bool
    blendedness: NDArray[np.float64]
    extra: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    work: float = np.nan
    parts_xy: FloatArray = field(default_factory=lambda: np.empty((0, 2), np.float32))


class Deblender(Protocol):
    """Arrays in, `Deblended` out.

    ``images`` is ``(n, bands, y, x)`` in any linear unit, stamps of 24 to 256 pixels.
    ``variance`` has the same shape and the unit squared; ``psf`` is ``(bands, py, px)`` or
    ``(n, bands, py, px)``; `bands` names the bands (by default those of the network) and
    `pixel_scale` is in arcsec.  ``mask`` is true where unusable: ``(n, y, x)`` for all bands alike,
    or ``(n, bands, y, x)`` for each.  The catalog passes the latter to a deblender with a true
    attribute ``band_masks``, which all shipped ones have; others get the former, true where any
    band is unusable.

    A deblender with a true attribute ``takes_cores`` gets as ``cores`` the light
    ``(n, bands, y, x)`` of saturated stars that the mask hides, if a stamp of the call has any.

    A blend has the PSF at its brightest peak.  If a tile has several PSFs, a deblender with a true
    attribute ``psf_by_place`` instead gets as `psf` a `raydeblend.psf.TilePsf` for each stamp, in
    pixels of the stamp.
    """

    @property
    def name(self) -> str:
        """The name that the catalog's `deblender` column carries."""
        ...

    def __call__(
        self,
        images: ArrayLike,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        psf: ArrayLike | None = None,
        bands: tuple[str, ...] | None = None,
        pixel_scale: float | None = None,
    ) -> Deblended:
        """Deblend a batch."""
        ...
