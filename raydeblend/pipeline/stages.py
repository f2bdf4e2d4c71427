"""What happens to one cell: detect, deblend, measure, write.  Plain callables, without Ray.

A `Work` item goes from stage to stage.  `advance` runs one stage on it, keeps the time and turns
what can be wrong with a cell into a failed item, which the later stages only pass on.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from raydeblend import catalog, storage
from raydeblend.config import CatalogConfig
from raydeblend.detect.background import subtract_background
from raydeblend.detect.footprints import DetectConfig, find_blends
from raydeblend.errors import TileError
from raydeblend.fits import read_tile
from raydeblend.measure.measure import choose_engine, measure_blends
from raydeblend.pipeline.ledger import LedgerEntry, shard_path, write_entry
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.rows import Measured, owned, parent_rows, to_measured
from raydeblend.pipeline.separate import JOINT, DeblendCell, Detected, Separated
from raydeblend.survey import get_survey
from raydeblend.tile import Blend, Box

__all__ = ["DeblendCell", "Work", "advance", "detect_cell", "measure_cell", "write_cell"]

# What bad pixels, files, disks and memory can raise.  Anything else is a mistake in the code
# and should end the run.
CELL_ERRORS = (
    TileError,
    ValueError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    *storage.READ_ERRORS,
)


MODELS = {"ngmix": "exp", "mixture": "bdf"}
"""The profile that each engine fits: ngmix's bulge + disk is five times slower than its disk, ours
is not and gives the better fluxes (docs/photometry.md)."""


@dataclass(frozen=True)
class Work:
    """A cell on its way through the stages.

    Attributes
    ----------
    task
        The cell.
    content
        What the last stage returned; None before the first and after a failure.
    error
        Why the cell failed, or empty.
    seconds
        Wall time by stage.
    peak_memory_mb
        Largest resident memory of the processes so far, in MiB.
    """

    task: CellTask
    content: Any = None
    error: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0


def advance(work: Work, name: str, stage: Callable[[Any], object]) -> Work:
    """Run one stage on the content of `work` (the first on its task) and note what it cost."""
    if work.error:
        return work
    content: object = None
    start, error = time.perf_counter(), ""
    try:
        content = stage(work.task if work.content is None else work.content)
    except CELL_ERRORS as problem:
        error = f"{name}: {problem or type(problem).__name__}"
    seconds = {**work.seconds, name: time.perf_counter() - start}
    peak = max(work.peak_memory_mb, _peak_memory_mb())
    return replace(work, content=content, error=error, seconds=seconds, peak_memory_mb=peak)


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def detect_cell(task: CellTask, config: CatalogConfig) -> Detected:
    """Read a cell's pixels and find the footprints that can hold sources of the cell.

    Raises
    ------
    TileError
        If the pixels cannot be used.
    OSError
        If they cannot be read.
    """
    cell = task.cell
    tile = read_tile(cell.tile, cell.outer, get_survey(config.survey), config.bad_planes)
    blends = find_blends(subtract_background(tile), detection(config))
    return Detected(task, tuple(b for b in blends if _reaches(b, cell.inner)), tile.psf)


def detection(config: CatalogConfig) -> DetectConfig:
    """Return the part of the configuration that the detection takes."""
    return DetectConfig(threshold=config.detect_threshold, min_area=config.detect_min_area)


def _reaches(blend: Blend, inner: Box) -> bool:
    """Tell whether a footprint has a pixel in a cell's inner region, where its sources may be."""
    part = inner.shift(-blend.box.y0, -blend.box.x0).clip(Box(0, 0, *blend.footprint.shape))
    return bool(part.y1 > part.y0 and part.x1 > part.x0 and blend.footprint[part.slices].any())


def choose_photometry(config: CatalogConfig) -> str:
    """Return the photometry to use: the configured one, or what ``auto`` means here.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    if config.photometry == "auto" and config.deblender == JOINT:
        return JOINT
    return config.photometry if config.photometry == JOINT else choose_engine(config.photometry)


def measure_cell(separated: Separated, config: CatalogConfig) -> Measured:
    """Measure the footprints of which the cell owns a source, and return its own rows.

    With photometry ``joint`` only those are fitted that the deblender has not measured itself.
    """
    detected = separated.detected
    task = detected.task
    pairs = zip(detected.blends, separated.parts, strict=True)
    mine = [(blend, part) for blend, part in pairs if owned(task, blend, part).any()]
    joint = config.photometry == JOINT
    done = [part.measured if joint else None for _, part in mine]
    engine = "mixture" if joint else config.photometry
    left = [pair for pair, measured in zip(mine, done, strict=True) if measured is None]
    fitted = iter(
        measure_blends(
            [blend for blend, _ in left],
            [part.models for _, part in left],
            [part.xy for _, part in left],
            detected.psf,
            task.cell.tile.pixel_scale,
            engine,
            config.seed,
            MODELS[engine],
        )
    )
    measured = [next(fitted) if own is None else own for own in done]
    parents = [parent_rows(task, *pair, m) for pair, m in zip(mine, measured, strict=True)]
    return to_measured(task, parents)


def write_cell(work: Work, out: str, weights_hash: str, config_hash: str) -> LedgerEntry:
    """Write a cell's shard and then its ledger entry, which it returns.

    A cell that could not be written is failed; without a ledger entry, if need be.
    """
    cell = work.task.cell
    work = advance(work, "write", lambda measured: _write_shard(measured, out))
    entry = LedgerEntry(
        tile=cell.tile.name,
        cell=cell.name,
        status="failed" if work.error else "done",
        reason=work.error,
        seconds={name: round(seconds, 4) for name, seconds in work.seconds.items()},
        peak_memory_mb=round(work.peak_memory_mb, 1),
        weights_hash=weights_hash,
        config_hash=config_hash,
        **(work.content or {}),
    )
    try:
        write_entry(out, entry)
    except storage.READ_ERRORS as error:
        return replace(entry, status="failed", reason=f"ledger: {error}")
    return entry


def _write_shard(measured: Measured, out: str) -> dict[str, int]:
    cell = measured.task.cell
    path = shard_path(out, cell.tile.name, cell.name)
    storage.write_bytes(path, catalog.to_bytes(measured.table))
    return catalog.counts(measured.table)
