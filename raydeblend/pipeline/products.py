"""What a cell saves besides its rows: models, the residual, and which pixel is whose."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend import catalog, models, storage
from raydeblend.detect.ids import source_id
from raydeblend.models import SourceModel
from raydeblend.pipeline.deblended import DeblendedCell, DeblendedParent
from raydeblend.pipeline.detected import CellPixels
from raydeblend.pipeline.distinct import peak_pixels
from raydeblend.pipeline.shards import product_path
from raydeblend.tile import Blend, BoolArray, Box, Cell, FloatArray, Tile

FAINTEST = 0.01
"""Of a pixel's noise: what lies beyond the pixels that a model lights so much is not saved."""


@dataclass(frozen=True)
class Products:
    """What is to be written; None for what was not asked for.

    Attributes
    ----------
    residual
        ``(bands, y, x)`` of the cell's inner region in nJy, all models taken out; NaN where
        unusable.
    labels
        ``(y, x)`` 1 for the first of `parents`, 0 for none.
    parents
        The footprints that reach into the inner region, whose sources are taken out of `residual`.
    """

    models: pa.Table | None = None
    residual: FloatArray | None = None
    labels: NDArray[np.int32] | None = None
    parents: tuple[int, ...] = ()


def cell_pixels(cell: Cell, tile: Tile, blends: Sequence[Blend]) -> CellPixels:
    """Return the pixels of a cell's inner region, and which footprint they belong to."""
    inside = tile.crop(cell.inner)
    labels = np.zeros(cell.inner.shape, dtype=np.int32)
    for number, blend in enumerate(blends, start=1):
        here, there = _common(cell.inner, blend.box)
        labels[here.slices][blend.footprint[there.slices]] = number
    image = np.where(inside.unusable, np.float32(np.nan), inside.image)
    return CellPixels(image, labels, tuple(blend.parent_id for blend in blends))


def no_pixels(cell: Cell) -> CellPixels:
    """Return the pixels of a cell without data."""
    image = np.full((len(cell.tile.bands), *cell.inner.shape), np.nan, dtype=np.float32)
    return CellPixels(image, np.zeros(cell.inner.shape, dtype=np.int32), ())


def with_products(deblended: DeblendedCell, save: Sequence[str]) -> DeblendedCell:
    """Return a cell with what is saved of it, which takes its models while they are there."""
    if not save:
        return deblended
    cell, pixels = deblended.detected.task.cell, deblended.detected.pixels
    pairs = list(zip(deblended.detected.blends, deblended.parts, strict=True))
    table = residual = labels = None
    if "models" in save:
        own = [model for pair in pairs for model in _models(cell, *pair)]
        table = models.to_table(own, cell.tile.bands)
    if pixels is not None and "residual" in save:
        residual = _residual(cell.inner, pixels.image, pairs)
    if pixels is not None and "segmentation" in save:
        labels = pixels.labels
    parents = () if pixels is None else pixels.parents
    detected = replace(deblended.detected, pixels=None)
    return replace(
        deblended, detected=detected, products=Products(table, residual, labels, parents)
    )


def _models(cell: Cell, blend: Blend, part: DeblendedParent) -> Iterator[SourceModel]:
    """Yield the models of the sources that a cell owns."""
    faint = FAINTEST * np.sqrt(np.median(blend.variance, axis=(1, 2)))[:, None, None]
    for (x, y), light in zip(
        peak_pixels(blend.on_tile(part.xy)).tolist(), part.models, strict=True
    ):
        if cell.inner.contains(y, x):
            box = _lit(np.abs(light) > faint, y - blend.box.y0, x - blend.box.x0)
            yield SourceModel(
                source_id(cell.tile.name, y, x),
                blend.parent_id,
                box.shift(blend.box.y0, blend.box.x0),
                light[:, *box.slices],
            )


def _lit(lit: BoolArray, y: int, x: int) -> Box:
    """Return the box of the lit pixels ``(bands, y, x)``, or else that of one pixel."""
    rows, columns = np.nonzero(lit.any(axis=0))
    if not len(rows):
        return Box(y, x, y + 1, x + 1)
    return Box(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)


def _residual(
    inner: Box, image: FloatArray, pairs: Sequence[tuple[Blend, DeblendedParent]]
) -> FloatArray:
    rest = image.copy()
    for blend, part in pairs:
        here, there = _common(inner, blend.box)
        rest[:, *here.slices] -= part.models[:, :, *there.slices].sum(axis=0)
    return rest


def _common(inner: Box, stamp: Box) -> tuple[Box, Box]:
    """Return the pixels that two boxes share, as those of the first and of the second."""
    box = inner.clip(stamp)
    # Boxes that share nothing would have slices that count from the end.
    box = Box(box.y0, box.x0, max(box.y0, box.y1), max(box.x0, box.x1))
    return box.shift(-inner.y0, -inner.x0), box.shift(-stamp.y0, -stamp.x0)


def write_products(out: str, cell: Cell, products: Products | None) -> None:
    """Write what a cell saves, each file whole or not at all."""
    if products is None:
        return
    key = cell.tile.name, cell.name
    if products.models is not None:
        storage.write_bytes(product_path(out, "models", *key), catalog.to_bytes(products.models))
    if products.residual is not None:
        hdus = [
            _image(cell, image, band)
            for band, image in zip(cell.tile.bands, products.residual, strict=True)
        ]
        _write_fits(product_path(out, "residual", *key), hdus, products.parents)
    if products.labels is not None:
        hdu = fits.CompImageHDU(products.labels, _header(cell), name="SEGMENTATION")
        _write_fits(product_path(out, "segmentation", *key), [hdu], products.parents)


def _image(cell: Cell, image: FloatArray, band: str) -> fits.ImageHDU:
    hdu = fits.ImageHDU(image, _header(cell), name=band)
    hdu.header["BUNIT"] = "nJy"
    return hdu


def _header(cell: Cell) -> fits.Header:
    """Return the WCS of a cell's inner region."""
    header = fits.Header.fromstring(cell.tile.wcs)
    header["CRPIX1"] -= cell.inner.x0
    header["CRPIX2"] -= cell.inner.y0
    return header


def _write_fits(path: str, hdus: Sequence[fits.ImageHDU], parents: Sequence[int]) -> None:
    number = fits.Column("number", "J", array=np.arange(1, len(parents) + 1))
    parent = fits.Column("parent_id", "K", array=np.array(parents, dtype=np.int64))
    table = fits.BinTableHDU.from_columns([number, parent], name="PARENTS")
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *hdus, table]).writeto(buffer)
    storage.write_bytes(path, buffer.getvalue())
