"""What a catalog is like over the sky, cell by cell: depth, density, failures, blending."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend import access, storage, tables
from raydeblend.draw.finished import Finished, open_several, tile_wcs, write_picture
from raydeblend.errors import ConfigError
from raydeblend.flags import Flag
from raydeblend.outputs import files_in, refuse_earlier
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.survey import NJY_ZERO_POINT
from raydeblend.tile import Box

FAINT_SNR = 20.0
"""Sources below it tell the depth: their errors are the sky's, not their own light's."""
DETECTION = 5.0
FAILED = Flag.NOT_ATTEMPTED | Flag.FIT_FAILED | Flag.DEBLEND_FAILED
THREADS = 16
CELLS = "cells.parquet"
CATALOG_MAPS = ("depth", "density", "failures", "blended")
INJECTED_MAPS = ("completeness", "bias", "pulls")
"""Of a run with injected sources."""
FILES = (*(f"{name}.png" for name in (*CATALOG_MAPS, *INJECTED_MAPS)), CELLS)
"""What is written."""

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class InjectedStatistics:
    """What the injected sources of one cell say, by band; NaN where too few say it.

    Attributes
    ----------
    completeness_50
        AB magnitude at which half are found.
    flux_bias
        Median of F / F_true - 1 of what is found, controls included.
    pull_width
        Robust standard deviation of the pulls.
    """

    completeness_50: tuple[float, ...]
    flux_bias: tuple[float, ...]
    pull_width: tuple[float, ...]


@dataclass(frozen=True)
class CellStatistics:
    """What the rows of one cell say; NaN where there is nothing to say it from.

    Attributes
    ----------
    corners
        ``(4, 2)`` of the cell's inner region: ra, dec in degrees.
    area
        Of that region in square arcminutes.
    sources
        Number of rows.
    density
        Rows per square arcminute.
    depth
        Per band the AB magnitude of a source of five sigma: from the median flux error of
        sources with a total signal to noise below `FAINT_SNR`.
    failed
        Fraction of rows that were not measured (`FAILED`); 1 for a cell that failed as a whole, NaN
        for one that was not done yet.
    blended
        Fraction of rows that share their footprint with another.
    injected
        What its injected sources say, where there are any.
    """

    tile: str
    cell: str
    corners: Float64Array
    area: float
    sources: int
    density: float
    depth: tuple[float, ...]
    failed: float
    blended: float
    injected: InjectedStatistics | None = None


def map_catalog(
    outs: str | Sequence[str],
    folder: str | None = None,
    overwrite: bool = False,
    what: Sequence[str] = (),
) -> list[str]:
    """Draw the sky maps of a catalog, or of the parts of one, and return what was written.

    Parameters
    ----------
    outs
        The catalog, local or on s3, or several parts of a survey; a pattern such as ``out/*`` names
        all of them.
    folder
        Where ``depth.png``, ``density.png``, ``failures.png``, ``blended.png`` and their numbers,
        ``cells.parquet``, go; by default ``OUT/maps`` of the one.
    overwrite
        Whether maps that are there are replaced.
    what
        Which of `CATALOG_MAPS` and `INJECTED_MAPS` to draw; by default all that there can be.

    Raises
    ------
    ConfigError
        If one of `outs` holds no catalog, their bands differ, or `folder` is missing, cannot be
        written or holds maps; if a map is unknown or needs injected sources that a run does not
        have.
    """
    from raydeblend.draw.injected_maps import injected_statistics
    from raydeblend.draw.map_figures import map_figures

    _check_names(what)
    several = open_several([outs] if isinstance(outs, str) else outs)
    if folder is None and len(several) > 1:
        raise ConfigError("maps of several catalogs need a folder of their own: give --out")
    folder = storage.join(several[0].out, "maps") if folder is None else folder
    access.check_writable(folder)
    drawn = [path for path in files_in(folder) if path.rpartition("/")[2] in FILES]
    refuse_earlier(folder, drawn, overwrite)
    bands = several[0].config.bands
    needed = bool({*what} & {*INJECTED_MAPS})
    cells = []
    for finished in several:
        injected = injected_statistics(finished.out, bands, needed=needed)
        cells += [
            replace(c, injected=injected.get((c.tile, c.cell))) for c in cell_statistics(finished)
        ]
    paths = []
    for name, png in map_figures(cells, bands, what).items():
        paths.append(storage.join(folder, f"{name}.png"))
        write_picture(paths[-1], png)
    paths.append(storage.join(folder, CELLS))
    write_picture(paths[-1], _to_parquet(cells, bands))
    return paths


def _check_names(what: Sequence[str]) -> None:
    known = (*CATALOG_MAPS, *INJECTED_MAPS)
    for name in what:
        if name not in known:
            raise ConfigError(f"unknown map {name!r}; known: {', '.join(known)}")


def cell_statistics(finished: Finished) -> list[CellStatistics]:
    """Return the statistics of every cell in the ledger, in its order, then of those left to do."""
    left = [_left(finished, *key) for key in finished.cells_left()]
    return [statistics for statistics, _ in read_cells(finished)] + left


def _left(finished: Finished, tile: str, cell: str) -> CellStatistics:
    nothing = (np.nan,) * len(finished.config.bands)
    place = _outline(finished, tile, cell)
    return CellStatistics(tile, cell, *place, 0, np.nan, nothing, np.nan, np.nan)


def read_cells(finished: Finished) -> Iterator[tuple[CellStatistics, pa.Table | None]]:
    """Yield every cell in the ledger with its rows, None of one that failed; few in memory."""
    entries = [entry for entry in finished.entries if entry.tile in finished.headers]
    bands = finished.config.bands
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(entries), THREADS):
            some = entries[start : start + THREADS]
            # Reading shards on s3 is waiting, not work.
            rows = pool.map(lambda e: finished.rows(*e.key) if e.done else None, some)
            for entry, table in zip(some, rows, strict=True):
                yield _statistics(entry, *_outline(finished, *entry.key), table, bands), table


def _outline(finished: Finished, tile: str, cell: str) -> tuple[Float64Array, float]:
    header = finished.headers[tile]
    inner: Box = finished.task(tile, cell).cell.inner
    # The outer edges of the pixels at the corners.
    x = np.array([inner.x0, inner.x1, inner.x1, inner.x0]) - 0.5
    y = np.array([inner.y0, inner.y0, inner.y1, inner.y1]) - 0.5
    sky = tile_wcs(header).pixel_to_world(x, y).icrs
    rows, columns = inner.shape
    area = rows * columns * (header.pixel_scale / 60) ** 2
    return np.column_stack([sky.ra.deg, sky.dec.deg]), area


def _statistics(
    entry: LedgerEntry,
    corners: Float64Array,
    area: float,
    rows: pa.Table | None,
    bands: Sequence[str],
) -> CellStatistics:
    nothing = (np.nan,) * len(bands)
    if rows is None:
        return CellStatistics(*entry.key, corners, area, 0, np.nan, nothing, 1.0, np.nan)
    n = rows.num_rows
    flags = rows["flags"].to_numpy()
    return CellStatistics(
        *entry.key,
        corners=corners,
        area=area,
        sources=n,
        density=n / area,
        depth=tuple(depth(rows, band) for band in bands) if n else nothing,
        failed=float(np.mean((flags & int(FAILED)) != 0)) if n else np.nan,
        blended=float(np.mean(rows["n_blended"].to_numpy() > 1)) if n else np.nan,
    )


def depth(rows: pa.Table, band: str) -> float:
    """Return the magnitude of a source of five sigma in one band; NaN without a flux error."""
    error = rows[f"flux_err_{band}"].to_numpy().astype(np.float64)
    snr = rows["snr"].to_numpy()
    known = np.isfinite(error) & (error > 0)
    with np.errstate(invalid="ignore"):
        faint = known & (snr < FAINT_SNR)
    chosen = error[faint if faint.any() else known]
    if not len(chosen):
        return float("nan")
    return float(NJY_ZERO_POINT - 2.5 * np.log10(DETECTION * np.median(chosen)))


def _to_parquet(cells: Sequence[CellStatistics], bands: Sequence[str]) -> bytes:
    middle = [_middle(cell.corners) for cell in cells]
    columns: dict[str, Sequence[object]] = {
        "tile": [cell.tile for cell in cells],
        "cell": [cell.cell for cell in cells],
        "ra": [ra for ra, _ in middle],
        "dec": [dec for _, dec in middle],
        "sources": [cell.sources for cell in cells],
        "density": [cell.density for cell in cells],
        "failed": [cell.failed for cell in cells],
        "blended": [cell.blended for cell in cells],
    }
    for i, band in enumerate(bands):
        columns[f"depth_{band}"] = [cell.depth[i] for cell in cells]
        for name in ("completeness_50", "flux_bias", "pull_width"):
            values = [getattr(c.injected, name)[i] if c.injected else np.nan for c in cells]
            columns[f"{name}_{band}"] = values
    return tables.to_parquet(pa.table(columns))


def _middle(corners: Float64Array) -> tuple[float, float]:
    """Return the middle of corners ``(n, 2)`` on the sphere, where a pole is like any place."""
    middle = unit_vectors(corners).mean(axis=0)
    ra = np.degrees(np.arctan2(middle[1], middle[0]))
    return float(ra % 360), float(np.degrees(np.arctan2(middle[2], np.hypot(*middle[:2]))))


def unit_vectors(sky: Float64Array) -> Float64Array:
    """Return ``(..., 3)`` of positions ``(..., 2)``: ra, dec in degrees."""
    ra, dec = np.moveaxis(np.radians(sky), -1, 0)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def whole_turn(ra: Float64Array) -> Float64Array:
    """Shift right ascensions ``(...)`` in degrees by whole turns: a field becomes one piece."""
    turn = np.radians(ra)
    middle = np.degrees(np.arctan2(np.sin(turn).mean(), np.cos(turn).mean()))
    return np.asarray((ra - middle + 180) % 360 - 180 + middle)


def east_scale(dec: Float64Array) -> float:
    """Return how long a degree of right ascension is in the middle of declinations, in degrees."""
    return float(np.cos(np.radians((dec.min() + dec.max()) / 2)))
