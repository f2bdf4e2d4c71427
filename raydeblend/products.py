"""Read what a run saved with its catalog: models, residuals, stamps without neighbors.

    products = open_products("out")
    stamp = products.stamp(source_id, 48)      # (bands, 48, 48) nJy: the residual and its own model

A catalog of ``raydeblend catalog … --save models,residual`` has what this needs.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend import catalog, storage
from raydeblend.detect.ids import PIXEL_BITS, pixels, source_id
from raydeblend.errors import ConfigError
from raydeblend.models import SourceModel, from_table
from raydeblend.pipeline.ledger import Run, keys, read_plan, read_run
from raydeblend.pipeline.plan import BOX
from raydeblend.pipeline.shards import product_path
from raydeblend.tile import Box, FloatArray

KEPT_CELLS = 4
"""Cells whose files are kept in memory: those about a corner."""

Key = tuple[str, str]


@dataclass(frozen=True)
class Stamp:
    """A source without its neighbors.

    Attributes
    ----------
    box
        Its pixels of the tile.
    image
        ``(bands, y, x)`` in nJy; NaN where unusable, or of a cell that is not done.
    """

    source_id: int
    box: Box
    image: FloatArray


@dataclass(frozen=True)
class CellImage:
    """An image of a cell's inner region, and the footprints that it knows of."""

    image: NDArray[Any]
    parents: frozenset[int]


def read_models(out: str, tile: str, cell: str) -> dict[int, SourceModel]:
    """Return the models of a cell's sources by their identifiers.

    Raises
    ------
    ConfigError
        If the run saved none, or that cell is not done.
    """
    data = _read(out, "models", (tile, cell))
    bands = read_run(out).bands
    return {model.source_id: model for model in from_table(catalog.from_bytes(data), bands)}


def open_products(out: str) -> Products:
    """Open what a run saved.

    Raises
    ------
    ConfigError
        If `out` is no catalog.
    """
    return Products(out, read_run(out))


@dataclass(frozen=True, eq=False)
class Products:
    """The products of a run; what was read of a few cells is kept."""

    out: str
    run: Run

    @cached_property
    def cells(self) -> dict[Key, Box]:
        """The inner regions of all cells."""
        plan = read_plan(self.out)
        edges = zip(*(plan[name].to_pylist() for name in BOX), strict=True)
        return {key: Box(*box) for key, box in zip(keys(plan), edges, strict=True)}

    @cached_property
    def _models(self) -> Callable[[str, str], dict[int, SourceModel]]:
        return lru_cache(KEPT_CELLS)(partial(read_models, self.out))

    @cached_property
    def _residual(self) -> Callable[[str, str], CellImage]:
        return lru_cache(KEPT_CELLS)(partial(read_residual, self.out))

    def cell_of(self, source: int) -> Key:
        """Return tile and cell of a source.

        Raises
        ------
        ConfigError
            If no cell of the run has its pixel.
        """
        (y,), (x,) = (each.tolist() for each in pixels([source]))
        bits = 2 * PIXEL_BITS
        for (tile, cell), box in self.cells.items():
            if source_id(tile, 0, 0) >> bits == source >> bits and box.contains(y, x):
                return tile, cell
        raise ConfigError(f"{self.out} has no cell with source {source}")

    def model(self, source: int) -> SourceModel:
        """Return the model of a source.

        Raises
        ------
        ConfigError
            If there is none.
        """
        key = self.cell_of(source)
        found = self._models(*key)
        if source not in found:
            raise ConfigError(f"{self.out} has no model of source {source}")
        return found[source]

    def stamp(self, source: int, size: int) -> Stamp:
        """Return a square of `size` pixels about a source, its neighbors taken out.

        Raises
        ------
        ConfigError
            If there is no such source, or models or residuals were not saved.
        """
        (y,), (x,) = (each.tolist() for each in pixels([source]))
        tile, _ = self.cell_of(source)
        model = self.model(source)
        box = Box(y - size // 2, x - size // 2, y - size // 2 + size, x - size // 2 + size)
        image = np.full((len(self.run.bands), size, size), np.nan, dtype=np.float32)
        for (name, cell), inner in self.cells.items():
            common = inner.clip(box)
            if name == tile and common.y1 > common.y0 and common.x1 > common.x0:
                image[:, *common.shift(-box.y0, -box.x0).slices] = self._part(
                    (name, cell), common, model
                )
        return Stamp(source, box, image)

    def _part(self, key: Key, box: Box, model: SourceModel) -> FloatArray:
        """Return the residual in a box of one cell, and the model if it was taken out there."""
        inner, found = self.cells[key], self._residual(*key)
        part: FloatArray = found.image[:, *box.shift(-inner.y0, -inner.x0).slices].copy()
        common = box.clip(model.box)
        lit = common.y1 > common.y0 and common.x1 > common.x0
        if lit and model.parent_id in found.parents:
            own = common.shift(-model.box.y0, -model.box.x0).slices
            part[:, *common.shift(-box.y0, -box.x0).slices] += model.light[:, *own]
        return part


def read_residual(out: str, tile: str, cell: str) -> CellImage:
    """Return the residual ``(bands, y, x)`` of a cell's inner region in nJy, all models taken out.

    Its `parents` are the footprints whose sources were taken out.

    Raises
    ------
    ConfigError
        If the run saved none, or that cell is not done.
    """
    with fits.open(io.BytesIO(_read(out, "residual", (tile, cell)))) as hdus:
        image = np.stack([np.asarray(hdus[band].data, np.float32) for band in read_run(out).bands])
        return CellImage(image, frozenset(hdus["PARENTS"].data["parent_id"].tolist()))


def read_segmentation(out: str, tile: str, cell: str) -> NDArray[np.int64]:
    """Return the footprint ``(y, x)`` of each pixel of a cell's inner region; 0 for none.

    Raises
    ------
    ConfigError
        If the run saved none, or that cell is not done.
    """
    with fits.open(io.BytesIO(_read(out, "segmentation", (tile, cell)))) as hdus:
        parents = np.concatenate([[0], hdus["PARENTS"].data["parent_id"]]).astype(np.int64)
        return np.asarray(parents[hdus["SEGMENTATION"].data])


def _read(out: str, product: str, key: Key) -> bytes:
    path = product_path(out, product, *key)
    try:
        return storage.read_bytes(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{out} has no {product} of cell {key[1]} of tile {key[0]}: the cell is not done, or "
            f"the catalog was made without --save {product}"
        ) from None
