"""What a run would do: `raydeblend catalog --dry-run` finds the tiles, plans, and stops."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa

from raydeblend.config import CatalogConfig
from raydeblend.pipeline.plan import Plan
from raydeblend.pipeline.preparation import RunRequest, connect_once, prepare
from raydeblend.session import cluster_address
from raydeblend.wording import amount

CPU_SECONDS: Mapping[str, float] = {"joint": 0.59}
"""Of one square arcminute in one band at HSC's full depth, by `benchmarks.sizing`; see
docs/howto/cluster.md."""
PIXEL_BYTES = 12
"""Of image, mask and variance, not compressed."""
AT_WORK = 0.8
"""Part of their time that CPUs are at work."""


@dataclass(frozen=True)
class Forecast:
    """What a run would do.

    Attributes
    ----------
    n_tiles, n_unusable
        Tiles that can be planned, and that cannot.
    n_cells, n_left
        Cells of the run, and those that are not done yet.
    arcmin2, read_bytes
        Of those left: their area, and the pixels that are read for them with their borders.
    cpu_seconds, basis
        What those left take, and how that is known; None where it is not.
    cpus
        Of this machine; 0 for a cluster, which is not asked.
    """

    n_tiles: int
    n_unusable: int
    n_cells: int
    n_left: int
    arcmin2: float
    read_bytes: float
    cpu_seconds: float | None
    basis: str
    cpus: int


def forecast_catalog(
    input: str,
    out: str,
    config: CatalogConfig,
    request: RunRequest | None = None,
    address: str | None = None,
) -> Forecast:
    """Return what `raydeblend.pipeline.survey.run_catalog` would do; nothing is written.

    Raises
    ------
    ConfigError
        As that does before any work, but that `out` is not tried.
    """
    with ExitStack() as session:
        connect = connect_once(session, address)
        prepared = prepare(input, out, config, request or RunRequest(), connect)
    config, plan, todo = prepared.config, prepared.plan, prepared.choice.now
    arcmin2, pixels = _extent(plan, todo)
    seconds, basis = _cpu_seconds(config, prepared.done, len(todo), arcmin2)
    return Forecast(
        n_tiles=len(prepared.headers),
        n_unusable=len(prepared.unusable),
        n_cells=len(plan),
        n_left=len(todo),
        arcmin2=arcmin2,
        read_bytes=float(pixels * PIXEL_BYTES * len(config.bands)),
        cpu_seconds=seconds,
        basis=basis,
        cpus=0 if cluster_address(address) else os.cpu_count() or 1,
    )


def _extent(plan: Plan, cells: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[float, int]:
    """Return the area of cells in square arcminutes, and how many pixels are read for them."""
    area, pixels = 0.0, 0
    headers = {int(tile): plan.header(int(tile)) for tile in np.unique(plan.tile[cells])}
    for i in cells.tolist():
        header, inner = headers[int(plan.tile[i])], plan.box(i)
        area += np.prod(inner.shape) * (header.pixel_scale / 60) ** 2
        pixels += int(np.prod(inner.grow(plan.border).clip(header.box).shape))
    return float(area), pixels


def _cpu_seconds(
    config: CatalogConfig, done: pa.Table, n_left: int, arcmin2: float
) -> tuple[float | None, str]:
    """Return what cells take: as those did that are done, else as measured elsewhere."""
    if len(done):
        spent = sum(second for cell in done["seconds"].to_pylist() for _, second in cell)
        return spent / len(done) * n_left, f"as in the {amount(len(done), 'cell')} done before"
    if config.deblender not in CPU_SECONDS:
        return None, f"not known for {config.deblender}: do some cells, and ask with --resume"
    rate = CPU_SECONDS[config.deblender] * len(config.bands)
    return rate * arcmin2, f"{rate:.1f} CPU s per arcmin², as measured on fields of HSC's depth"


def forecast_lines(forecast: Forecast) -> Iterator[str]:
    """Yield the lines that a user reads."""
    unusable = f", {forecast.n_unusable} that cannot be used" if forecast.n_unusable else ""
    tiles, cells = amount(forecast.n_tiles, "tile"), amount(forecast.n_cells, "cell")
    yield f"{tiles}{unusable}; {cells}, {forecast.n_left} to do"
    if forecast.n_left:
        yield from _work_lines(forecast)
    yield "nothing was written"


def _work_lines(forecast: Forecast) -> Iterator[str]:
    yield f"{forecast.arcmin2:,.2f} arcmin², {_size(forecast.read_bytes)} of pixels to read"
    seconds = forecast.cpu_seconds
    if seconds is None:
        yield f"time: {forecast.basis}"
        return
    spent = f"{seconds / 3600:,.1f} CPU hours" if seconds >= 3600 else f"{seconds:.0f} CPU seconds"
    yield f"{spent} ({forecast.basis})"
    if forecast.cpus:
        wall = timedelta(seconds=round(seconds / forecast.cpus / AT_WORK))
        yield f"about {wall} on the {amount(forecast.cpus, 'CPU')} of this machine, once started"


def _size(n_bytes: float) -> str:
    known = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"))
    unit, name = next((each for each in known if n_bytes >= each[0]), known[-1])
    return f"{n_bytes / unit:.1f} {name}"
