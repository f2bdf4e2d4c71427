"""A finished run, opened to be looked at: its configuration, tiles, cells and sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from raydeblend import catalog, storage
from raydeblend.config import CatalogConfig
from raydeblend.detect.ids import PIXEL_BITS, source_id
from raydeblend.errors import ConfigError
from raydeblend.fits import find_tiles
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.ledger import Run, read_run
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.placed import place
from raydeblend.pipeline.plan import CellTask, plan_survey
from raydeblend.pipeline.runs import find_runs
from raydeblend.pipeline.shards import read_shard, shard_path
from raydeblend.pipeline.share import parse_share
from raydeblend.positions import SkyPositions
from raydeblend.templates import read_given
from raydeblend.tile import TileHeader

TILES_FILE = "tiles.parquet"
MATCH_ARCSEC = 3.0
"""How far from a given position a source may be; a little more than the worst seeing."""


@dataclass(frozen=True)
class Finished:
    """A finished or unfinished run in `out`; what the ledger has as done can be drawn."""

    out: str
    run: Run

    @cached_property
    def entries(self) -> tuple[LedgerEntry, ...]:
        """The ledger, without tiles that could not be planned."""
        return tuple(entry for entry in read_entries(self.out) if entry.cell)

    @cached_property
    def config(self) -> CatalogConfig:
        """The configuration that the catalog was made with."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.run.config.items()
        }
        try:
            return CatalogConfig(**plain)
        except (TypeError, ConfigError) as error:
            raise ConfigError(f"{self.out} was made by another version: {error}") from error

    @cached_property
    def headers(self) -> dict[str, TileHeader]:
        """The tiles by name; from the run's own manifest, so that no file is opened for it."""
        config, manifest = self.config, storage.join(self.out, TILES_FILE)
        kept = storage.exists(manifest)
        headers, _ = find_tiles(
            self.out if kept else self.run.input,
            config.bands,
            config.image_pattern,
            config.psf_pattern,
            manifest=manifest if kept else config.manifest,
            zeropoint=config.zeropoint,
            layout=config.layout,
        )
        return {header.name: header for header in headers}

    @cached_property
    def _cells(self) -> dict[str, dict[tuple[str, str], CellTask]]:
        """The cells of the tiles that were asked for."""
        return {}

    @cached_property
    def positions(self) -> SkyPositions | None:
        """The positions at which the run measured; None if it detected.

        Raises
        ------
        ConfigError
            If the table has gone or says something else by now.
        """
        read = read_given(self.config.positions, self.config.templates)
        if read is not None and read.sha256 != self.config.positions_hash:
            where = self.config.positions or self.config.templates
            raise ConfigError(f"the positions {where} have changed since the run")
        return read

    def task(self, tile: str, cell: str) -> CellTask:
        """Return a cell as the pipeline's stages take it.

        Neighboring tiles are left out, since they decide only which copy is primary.

        Raises
        ------
        ConfigError
            If the input has no such tile any more, or it is cut in another way.
        """
        if tile not in self.headers:
            raise ConfigError(f"tile {tile} is no longer in the input {self.run.input}")
        tasks = self._tasks(tile)
        if (tile, cell) not in tasks:
            raise ConfigError(f"tile {tile} no longer has cell {cell}: its size has changed")
        return tasks[tile, cell]

    def _tasks(self, tile: str) -> dict[tuple[str, str], CellTask]:
        if tile not in self._cells:
            header = self.headers[tile]
            plan = plan_survey([header], self.config.cell_size, self.config.border)
            if self.positions is not None:
                plan = replace(plan, positions=place([header], self.positions).tiles)
            self._cells[tile] = {key: plan.task(i) for i, key in enumerate(plan.keys())}
        return self._cells[tile]

    def cells_left(self) -> list[tuple[str, str]]:
        """Return the cells of the run's share that are not in its ledger, by tile and name."""
        known, share = {entry.key for entry in self.entries}, parse_share(self.run.part)
        planned = [key for tile in self.headers if share.has(tile) for key in self._tasks(tile)]
        return [key for key in planned if key not in known]

    def rows(self, tile: str, cell: str) -> pa.Table:
        """Read the shard of one cell.

        Raises
        ------
        ConfigError
            If it is missing or damaged.
        """
        path = shard_path(self.out, tile, cell)
        try:
            table = read_shard(path)
        except (pa.ArrowInvalid, *storage.READ_ERRORS) as error:
            raise ConfigError(f"{path} cannot be read: {storage.explain(error)}") from error
        missing = set(catalog.schema(self.run.bands).names) - set(table.column_names)
        if missing:
            raise ConfigError(f"{path} cannot be read: it has no column {min(missing)}")
        return table

    def tile_rows(self, tile: str) -> Iterator[pa.Table]:
        """Read the shards of a tile's finished cells."""
        for entry in self.entries:
            if entry.tile == tile and entry.done:
                yield self.rows(tile, entry.cell)


def open_finished(out: str) -> Finished:
    """Open a run.

    Raises
    ------
    ConfigError
        If `out` holds no catalog, or none of its cells is done.
    """
    finished = Finished(out, read_run(out))
    if not any(entry.done for entry in finished.entries):
        raise ConfigError(f"{out} holds no catalog yet: no cell is done")
    return finished


def open_several(outs: Sequence[str]) -> list[Finished]:
    """Open runs that share a survey, by their names or patterns.

    Raises
    ------
    ConfigError
        See `open_finished`; or if two have other bands.
    """
    several = [open_finished(out) for out in find_runs(outs)]
    for other in several[1:]:
        if other.run.bands != several[0].run.bands:
            raise ConfigError(f"{several[0].out} and {other.out} are not of the same bands")
    return several


def find_among(several: Sequence[Finished], target: str) -> tuple[Finished, pa.Table]:
    """Return the run that has a source, and its row: that of the owner, if there is one.

    Raises
    ------
    ConfigError
        See `find_source`; if no run has it.
    """
    found, missing = [], []
    for finished in several:
        try:
            found.append((finished, find_source(finished, target)))
        except ConfigError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return max(found, key=lambda pair: bool(pair[1]["is_primary"][0].as_py()))


def find_source(finished: Finished, target: str) -> pa.Table:
    """Return the row of one source.

    Parameters
    ----------
    target
        A source_id, or a position ``ra,dec`` in degrees (ICRS): then the nearest source within
        `MATCH_ARCSEC`, in a tile that owns it if there is one.

    Raises
    ------
    ConfigError
        If `target` is neither, or there is no such source.
    """
    if target.strip().lstrip("-").isdigit():
        return _by_id(finished, int(target))
    try:
        ra, dec = (float(value) for value in target.split(","))
        position = SkyCoord(ra, dec, unit="deg")
    except ValueError as error:
        raise ConfigError(
            f"{target!r} is neither a source_id nor a position; write 123456 or 150.1,2.2 (degrees)"
        ) from error
    return _by_position(finished, position)


def _by_id(finished: Finished, identifier: int) -> pa.Table:
    """Look in the shards of the tiles whose name gave the identifier its upper bits."""
    tiles = {entry.tile for entry in finished.entries}
    bits = 2 * PIXEL_BITS
    for tile in sorted(
        name for name in tiles if source_id(name, 0, 0) >> bits == identifier >> bits
    ):
        for rows in finished.tile_rows(tile):
            row = rows.filter(pc.equal(rows["source_id"], identifier))
            if row.num_rows:
                return row
    raise ConfigError(f"{finished.out} has no source {identifier}")


def _by_position(finished: Finished, position: SkyCoord) -> pa.Table:
    tiles = [name for name, header in finished.headers.items() if _contains(header, position)]
    shards = [rows for tile in tiles for rows in finished.tile_rows(tile) if rows.num_rows]
    where = f"at {position.ra.deg:.5f},{position.dec.deg:.5f}"
    if not shards:
        raise ConfigError(f"{finished.out} has no source {where}: no finished tile reaches there")
    rows = pa.concat_tables(shards)
    places = SkyCoord(rows["ra"].to_numpy(), rows["dec"].to_numpy(), unit="deg")
    apart = places.separation(position).arcsec
    if apart.min() > MATCH_ARCSEC:
        raise ConfigError(
            f"{finished.out} has no source {where} within {MATCH_ARCSEC:g} arcsec; "
            f"the nearest is {apart.min():.1f} arcsec away"
        )
    copy = ~rows["is_primary"].to_numpy(zero_copy_only=False)
    return rows.slice(int(np.lexsort((apart, copy | (apart > MATCH_ARCSEC)))[0]), 1)


def _contains(header: TileHeader, position: SkyCoord) -> bool:
    x, y = tile_wcs(header).world_to_pixel(position)
    rows, columns = header.shape
    return bool(-0.5 <= x < columns - 0.5 and -0.5 <= y < rows - 0.5)


def tile_wcs(header: TileHeader) -> WCS:
    """Return the WCS of a tile."""
    return WCS(fits.Header.fromstring(header.wcs))


def write_picture(path: str, png: bytes) -> None:
    """Write a picture, local or on s3.

    Raises
    ------
    ConfigError
        If it cannot be written.
    """
    try:
        storage.write_bytes(path, png)
    except storage.READ_ERRORS as error:
        raise ConfigError(f"cannot write {path}: {error}") from error
