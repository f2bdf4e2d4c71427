"""A catalog as HATS: partitioned by HEALPix pixel, with a margin cache, for LSDB and its kin.

Twice through the shards of the ledger's finished cells, nothing kept in between: first the rows are
counted by pixel, which gives the partitions (`partitions`), then each partition is read from the
shards that have rows for it or its margin, sorted and written (`partition_file`).  So the memory
is that of one partition for each worker, and of some bytes for each shard.  By default copies of a
source in overlapping tiles are left out, since a cross-match would count those twice.

The workers are processes of this machine, not Ray's: reading and writing a survey takes core-hours
where making it takes thousands of them, and a Ray that has to be started takes longer than a
million rows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from raydeblend import access, storage
from raydeblend.errors import ConfigError
from raydeblend.export.hats_catalog import finish_catalog, finish_collection, finish_margin
from raydeblend.export.mark import MARK, read_mark, remove_export, write_mark
from raydeblend.export.partition_file import (
    PartitionJob,
    PartitionWriter,
    ShardReader,
    partition_of,
    partition_path,
)
from raydeblend.export.partitions import (
    COUNTED,
    Counts,
    Partition,
    cut,
    empty_pixels,
    margin_pixels,
)
from raydeblend.export.source import Source, read_source
from raydeblend.paths import PATTERN

EXTRA = "raydeblend[hats]"
NEEDED = ("hats",)
MARGIN_ARCSEC, LARGEST_MARGIN = 10.0, 3600.0
"""Default width of the margin cache: cross-matches of up to this radius find every neighbor."""
ROWS_PER_PARTITION = 1_000_000
GROUP = 64
"""Number of shards counted together."""

Given = TypeVar("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class HatsConfig:
    """How a catalog is exported.

    Attributes
    ----------
    all_rows
        Whether rows with ``is_primary`` false are exported too.
    margin_arcsec
        Width of the margin cache.
    rows_per_partition
        Most rows of one HEALPix partition.
    """

    all_rows: bool = False
    margin_arcsec: float = MARGIN_ARCSEC
    rows_per_partition: int = ROWS_PER_PARTITION

    def __post_init__(self) -> None:
        if not 0 < self.margin_arcsec <= LARGEST_MARGIN:
            raise ConfigError(
                f"the margin must be above 0 and at most {LARGEST_MARGIN:g} arcsec, not "
                f"{self.margin_arcsec}"
            )
        if self.rows_per_partition < 1:
            raise ConfigError(
                f"a partition must have at least a row, not {self.rows_per_partition}"
            )


@dataclass(frozen=True)
class Exported:
    """What an export came to; `n_failed` cells of the catalog are not in it."""

    path: str
    n_rows: int
    n_partitions: int
    n_margin_rows: int
    n_failed: int
    seconds: float


def export_hats(
    outs: str | Sequence[str],
    target: str,
    config: HatsConfig | None = None,
    *,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Exported:
    """Write a catalog, or the parts of one, as a HATS collection.

    Parameters
    ----------
    outs, target
        The catalog, or several parts of a survey, and the directory of the collection, local or
        ``s3://bucket/prefix``.  A pattern such as ``s3://bucket/out/*`` names all parts.
    workers
        Processes on this machine; by default one for each CPU, at most eight.
    resume, overwrite
        What to do where an export began already: write the partitions that are not there, or begin
        again.

    Raises
    ------
    ConfigError
        If a package is missing, the catalog is empty or damaged, `target` is in use, or what
        is to be replaced there is no export's alone.
    """
    start = time.monotonic()
    config = config or HatsConfig()
    _check_installed()
    source = read_source(outs)
    target = storage.absolute(target)
    plan = _plan(source, target, config)
    _open_target(target, _state(source, config), resume, overwrite)
    with _pool(workers or min(os.cpu_count() or 1, 8)) as pool, _as_config_error(str(source)):
        run = _Workers(pool, progress)
        jobs, counts = _jobs(source, plan, config, run)
        run(plan.write, _left(jobs, plan), "partitions")
        n_rows, n_margin = _finish(source, plan, config, jobs, counts)
    write_mark(target, _state(source, config), storage.list_files(target))
    return Exported(
        path=target,
        n_rows=n_rows,
        n_partitions=sum(job.n_rows > 0 for job in jobs),
        n_margin_rows=n_margin,
        n_failed=source.n_failed,
        seconds=time.monotonic() - start,
    )


def _check_installed() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"export hats needs the package {missing[0]}; install it with pip install '{EXTRA}'"
        )


def _state(source: Source, config: HatsConfig) -> dict[str, object]:
    """Describe the export; only an export of the same description is resumed."""
    return {"catalogs": list(source.outs), "cells": source.digest, **vars(config)}


def _plan(source: Source, target: str, config: HatsConfig) -> PartitionWriter:
    from hats.pixel_math.healpix_shim import margin2order

    name = _name(target)
    return PartitionWriter(
        reader=ShardReader(source.run.bands, config.all_rows),
        catalog=storage.join(target, name),
        margin=storage.join(target, f"{name}_{_angle(config.margin_arcsec)}"),
        margin_order=int(margin2order(config.margin_arcsec / 60)),
    )


def _angle(arcsec: float) -> str:
    """Return an angle in the form used in the names of margin caches."""
    for unit, size in (("deg", 3600), ("arcmin", 60), ("arcs", 1)):
        if arcsec >= size:
            return f"{int(arcsec / size)}{unit}"
    return f"{int(arcsec * 1000)}msec"


def _name(target: str) -> str:
    """Return the name of the collection, which becomes that of the HATS catalog."""
    parent, _, name = target.rpartition("/")
    allowed = name.replace("-", "").replace("_", "").replace(".", "")
    if not (parent.rpartition(":")[2].strip("/") and allowed.isalnum() and allowed.isascii()):
        raise ConfigError(
            f"{target} cannot be a HATS catalog: its last part names it, "
            "and may hold letters, digits, '.', '_' and '-'"
        )
    if PATTERN.search(parent):
        raise ConfigError(
            f"{target} cannot be a HATS catalog: its readers treat * ? [ and ] as a pattern"
        )
    return name


def _open_target(target: str, state: dict[str, object], resume: bool, overwrite: bool) -> None:
    """Prepare the target, and record in it what is exported."""
    if resume and overwrite:
        raise ConfigError("resume and overwrite are mutually exclusive")
    access.check_writable(target)
    if overwrite:
        remove_export(target)
    mark = storage.join(target, MARK)
    begun = read_mark(mark) if storage.exists(mark) else None
    if begun is not None and not begun["files"]:
        if not resume:
            raise ConfigError(
                f"there is an unfinished export in {target}; give --resume to continue "
                "or --overwrite to replace it"
            )
        if any(begun.get(name) != value for name, value in state.items()):
            raise ConfigError(
                f"cannot resume {target}: it was begun from another catalog or with other options; "
                "give --overwrite to start over"
            )
    elif storage.list_files(target):
        raise ConfigError(
            f"{target} is not empty and holds no unfinished export; give --overwrite to replace it"
        )
    write_mark(target, state)


@contextmanager
def _pool(workers: int) -> Iterator[Executor | None]:
    """Start processes; a single worker is this process."""
    if workers == 1:
        yield None
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield pool


@dataclass(frozen=True)
class _Workers:
    """Calls a function on many things, in order, and shows the progress on a terminal."""

    pool: Executor | None
    progress: bool

    def __call__(
        self, function: Callable[[Given], Result], given: Sequence[Given], what: str
    ) -> list[Result]:
        calls: Iterable[Result] = (
            map(function, given) if self.pool is None else self.pool.map(function, given)
        )
        console = Console(stderr=True)
        show = self.progress and console.is_terminal
        return list(track(calls, what, len(given), console=console, disable=not show))


@contextmanager
def _as_config_error(source: str) -> Iterator[None]:
    """When files cannot be read or written, or workers die, say how to continue."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, BrokenProcessPool, *storage.READ_ERRORS) as error:
        raise ConfigError(
            f"the export of {source} stopped: {storage.explain(error)}; `raydeblend verify` says "
            "whether the catalog is complete; use --resume to continue"
        ) from error


def _jobs(
    source: Source, plan: PartitionWriter, config: HatsConfig, run: _Workers
) -> tuple[list[PartitionJob], Counts]:
    """Return the partitions to write, in order on the sky, and what was counted for them."""
    groups = [source.shards[i : i + GROUP] for i in range(0, len(source.shards), GROUP)]
    counted = run(plan.reader.count, groups, "counting")
    counts = Counts.join([of_shard for group in counted for of_shard in group])
    partitions = cut(*counts.histogram(), config.rows_per_partition)
    finest = max((p.order for p in partitions), default=0)
    if plan.margin_order <= finest:
        raise ConfigError(
            f"a margin of {config.margin_arcsec:g} arcsec is too wide for partitions of order "
            f"{finest}; give a smaller one, or --rows-per-partition above "
            f"{config.rows_per_partition}"
        )
    wanted = {**partitions, **dict.fromkeys(empty_pixels(partitions), 0)}
    jobs = [_job(p, n, counts, plan.margin_order, source.shards) for p, n in wanted.items()]
    some = [job for job in jobs if job.shards]
    return sorted(some, key=lambda job: job.partition.range), counts


def _job(
    partition: Partition, n_rows: int, counts: Counts, margin_order: int, shards: Sequence[str]
) -> PartitionJob:
    order = min(margin_order, COUNTED)
    around = counts.shards_in(order, margin_pixels(partition, order))
    own = counts.shards_in(partition.order, np.array([partition.pixel])) if n_rows else around[:0]
    return PartitionJob(
        partition, n_rows, tuple(shards[i] for i in np.union1d(own, around).tolist())
    )


def _left(jobs: Sequence[PartitionJob], plan: PartitionWriter) -> list[PartitionJob]:
    """Return the jobs that are not done; a partition that exists has its margin too."""
    there = set(storage.list_files(plan.catalog))
    return [job for job in jobs if partition_path(plan.catalog, job.partition) not in there]


def _finish(
    source: Source,
    plan: PartitionWriter,
    config: HatsConfig,
    jobs: Sequence[PartitionJob],
    counts: Counts,
) -> tuple[int, int]:
    """Write the metadata of the collection; return the rows of catalog and margin."""
    more = {
        "hats_cols_survey_id": "source_id",
        "obs_regime": "Optical",
        "raydeblend_config_hash": source.run.config_hash,
        "raydeblend_version": source.run.versions.get("raydeblend", ""),
    }
    main = [job.partition for job in jobs if job.n_rows]
    n_rows = finish_catalog(plan.catalog, main, counts, config.rows_per_partition, more)
    files = storage.list_files(storage.join(plan.margin, "dataset"), ".parquet")
    margin = sorted(map(partition_of, files), key=lambda p: p.range)
    n_margin = finish_margin(
        plan.margin, margin, plan.catalog, config.margin_arcsec, plan.reader, more
    )
    names = (plan.catalog.rpartition("/")[2], plan.margin.rpartition("/")[2])
    finish_collection(storage.parent(plan.catalog), *names, more)
    return n_rows, n_margin
