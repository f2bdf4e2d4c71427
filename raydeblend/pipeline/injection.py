"""Injection: a copy of a cell with sources added goes through the same stages.

It comes after the clean footprints, sources and rows in each stage, and is a `CellState` of its
own, so that what goes wrong with it fails nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from raydeblend import catalog, storage
from raydeblend.config import CatalogConfig
from raydeblend.inject.config import INJECTION
from raydeblend.inject.drawing import inject
from raydeblend.inject.matching import recover
from raydeblend.inject.places import Ground, choose_region, usable_pixels
from raydeblend.inject.sources import (
    InjectedSources,
    cell_rng,
    draw_sources,
    expected_number,
    point_depth,
    reference_band,
    square_arcmin,
)
from raydeblend.inject.statistics import half_complete
from raydeblend.inject.table import injected_table
from raydeblend.pipeline.cell_state import CellState, run_stage_safely
from raydeblend.pipeline.detected import Detected, Injection
from raydeblend.pipeline.ownership import to_sky
from raydeblend.pipeline.shards import injected_path
from raydeblend.tile import Blend, Box, Cell, Tile

Detect = Callable[[Tile, Any], Detected]


def begin_injection(
    tile: Tile, detected: Detected, config: CatalogConfig, detect: Detect
) -> Injection | None:
    """Detect in a copy of a cell's pixels with sources in it; None where there are to be none.

    Parameters
    ----------
    tile
        As it was read, the sky not subtracted.
    detect
        From pixels and task to footprints.
    """
    cell = detected.task.cell
    rng = cell_rng(config.seed, cell.tile.name, cell.name)
    n = int(expected_number(config.inject, cell.tile, cell.inner) + rng.random())
    if not n:
        return None
    region = choose_region(cell.inner, n, INJECTION.room, rng)
    outer = region.grow(config.border).clip(cell.outer)
    task = replace(detected.task, cell=replace(cell, outer=outer))
    around = tile.crop(outer.grow(INJECTION.sky_reach))
    state = run_stage_safely(
        CellState(task), "inject", lambda _: _sources(around, detected, n, region, rng)
    )
    drawn: InjectedSources | None = state.content
    if drawn is None or not len(drawn):
        return Injection(state, drawn)

    def see(drawn: InjectedSources) -> Detected:
        seen = detect(inject(around, drawn, rng), task)
        return replace(seen, blends=tuple(b for b in seen.blends if _holds_any(b, drawn)))

    return Injection(run_stage_safely(state, "detect", see), drawn)


def _sources(
    tile: Tile, detected: Detected, n: int, region: Box, rng: np.random.Generator
) -> InjectedSources:
    cell, bands = detected.task.cell, detected.task.cell.tile.bands
    xy = [blend.on_tile(blend.xy) for blend in detected.blends]
    peaks = np.concatenate(xy) if xy else np.empty((0, 2))
    ground = Ground(
        usable_pixels(tile),
        (tile.box.y0, tile.box.x0),
        peaks,
        sum(cell.inner.contains(y, x) for x, y in peaks) / square_arcmin(cell.tile, cell.inner),
        cell.tile.pixel_scale,
    )
    depth = point_depth(tile, reference_band(bands))
    return draw_sources(n, region, depth, ground, tile.psf, bands, INJECTION, rng)


def _holds_any(blend: Blend, sources: InjectedSources) -> bool:
    """Tell whether an injected source lies in a footprint."""
    x, y = np.floor(sources.xy.T + 0.5).astype(int) - [[blend.box.x0], [blend.box.y0]]
    rows, columns = blend.footprint.shape
    there = (x >= 0) & (y >= 0) & (x < columns) & (y < rows)
    return bool(blend.footprint[y[there], x[there]].any())


def carry_on(
    injection: Injection | None, name: str, stage: Callable[[Any], object]
) -> Injection | None:
    """Run the next stage on the copy of a cell."""
    if injection is None or not injection.has_sources:
        return injection
    return replace(injection, state=run_stage_safely(injection.state, name, stage))


def conclude(injection: Injection | None, clean: pa.Table) -> Injection | None:
    """Match what was measured in the copy, of which the table of injected sources comes."""
    if injection is None or injection.sources is None:
        return injection
    match = partial(_match, sources=injection.sources, cell=injection.state.task.cell, clean=clean)
    return carry_on(injection, "match", match)


def _match(found: pa.Table, sources: InjectedSources, cell: Cell, clean: pa.Table) -> pa.Table:
    bands, scale = cell.tile.bands, cell.tile.pixel_scale
    band = reference_band(bands)
    radius = INJECTION.match_radius / scale
    recovery = recover(sources, found, clean, band, bands[band], radius)
    sky = to_sky(cell.tile, sources.xy)
    places = np.column_stack([sky.ra.deg, sky.dec.deg])
    key = (cell.tile.name, cell.name)
    return injected_table(sources, places, found, recovery, key, bands, scale)


def write_injected(injection: Injection | None, out: str) -> dict[str, Any]:
    """Write the table of injected sources, and return what the ledger says of the work for it."""
    if injection is None:
        return {}
    state, rows = injection.state, rows_of(injection)
    if rows is not None:
        cell = state.task.cell
        storage.write_bytes(injected_path(out, cell.tile.name, cell.name), catalog.to_bytes(rows))
    spent = round(sum(state.seconds.values()), 4)
    return {"injection_seconds": spent, "injection_failure": state.error}


def rows_of(injection: Injection | None) -> pa.Table | None:
    """Return the table of injected sources at the end; None if there is none."""
    if injection is None or injection.state.error or not injection.has_sources:
        return None
    return injection.state.content


def kept_rows(out: str, cell: Cell) -> pa.Table | None:
    """Return the table of what an earlier pass has injected; None if there is none."""
    path = injected_path(out, cell.tile.name, cell.name)
    return catalog.from_bytes(storage.read_bytes(path)) if storage.exists(path) else None


def count_injected(rows: pa.Table | None, bands: tuple[str, ...]) -> dict[str, Any]:
    """Return what the ledger says of injected sources."""
    if rows is None:
        return {}
    return {"injected": len(rows), "completeness_50": half_complete(rows, bands)}
