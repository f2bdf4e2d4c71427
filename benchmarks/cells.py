"""Cells cataloged in this process, with and without injected sources in a copy."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from raydeblend.config import CatalogConfig
from raydeblend.pipeline.detected import Detected, Injection
from raydeblend.pipeline.injection import carry_on, conclude, rows_of
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.stages import (
    choose_photometry,
    copy_cell,
    detect_cell,
    measure_cell,
    read_cell,
    stages_of,
)
from raydeblend.tile import Tile


class CellCataloger:
    """The stages of a catalog, with the deblender loaded once."""

    def __init__(self, config: CatalogConfig) -> None:
        self.config = replace(config, photometry=choose_photometry(config))
        self.deblend = stages_of(replace(self.config, inject=0)).deblend()

    def detect(self, task: CellTask) -> Detected:
        """Find the footprints of a cell, without a copy of it."""
        return detect_cell(task, replace(self.config, inject=0))

    def read(self, task: CellTask) -> Tile:
        """Read the pixels of a cell."""
        return read_cell(task, self.config)

    def catalog(self, detected: Detected) -> pa.Table:
        """Return the rows of a cell or of a copy."""
        return measure_cell(self.deblend(detected), self.config).table

    def copy(self, tile: Tile, detected: Detected, seed: int) -> Injection | None:
        """Find the footprints of a copy of a cell, of which `tile` are the pixels, with sources."""
        return copy_cell(tile, detected, replace(self.config, seed=seed))

    def recover(self, copy: Injection | None, clean: pa.Table) -> pa.Table:
        """Return the table of what was injected into a copy of a cell with the rows `clean`.

        Raises
        ------
        RuntimeError
            If there is none.
        """
        rows = rows_of(conclude(carry_on(copy, "catalog", self.catalog), clean))
        if rows is None:
            raise RuntimeError(f"nothing became of {copy}")
        return rows
