"""A catalog as HATS: partitioned by HEALPix pixel, with a margin cache, for LSDB and its kin.

The merging is hats-import's, which partitions surveys of 10⁹ rows for a living: it counts rows
per pixel, splits the shards, writes each partition, and begins where it was stopped.  What is ours
is what goes in: the shards of the ledger's finished cells, by default without the copies of a
source in overlapping tiles, since a cross-match would count those twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydeblend import catalog, storage, tables
from raydeblend.errors import ConfigError
from raydeblend.export.mark import remove_export, write_mark
from raydeblend.paths import PATTERN
from raydeblend.pipeline.entries import LedgerEntry, read_entries, shard_path
from raydeblend.pipeline.ledger import Run, read_run

if TYPE_CHECKING:
    from distributed import Client
    from upath import UPath

EXTRA = "raydeblend[hats]"
NEEDED = ("hats_import", "lsdb")
MARGIN_ARCSEC, LARGEST_MARGIN = 10.0, 3600.0
"""Default width of the margin cache: cross-matches of up to this radius find every neighbor."""
ROWS_PER_PARTITION = 1_000_000
GROUP = 64
"""Shards that one task reads; fixed, so that an export goes on with another number of workers."""
STATE = "export.json"

log = logging.getLogger(__name__)


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
            raise ConfigError(f"a partition must hold a row, not {self.rows_per_partition}")


@dataclass(frozen=True)
class Exported:
    """What an export came to; `n_failed` cells of the catalog are not in it."""

    path: str
    n_rows: int
    n_partitions: int
    n_margin_rows: int
    n_failed: int
    seconds: float


@dataclass(frozen=True)
class _Source:
    """The catalog to export."""

    out: str
    run: Run
    done: tuple[LedgerEntry, ...]
    n_failed: int

    @property
    def shards(self) -> list[str]:
        """Paths of the shards, in order."""
        root = storage.absolute(self.out)
        return [shard_path(root, *entry.key) for entry in self.done]

    def state(self, config: HatsConfig) -> dict[str, object]:
        """Say what is exported; an export goes on only with the same."""
        cells = [[*entry.key, entry.sources] for entry in self.done]
        digest = hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:16]
        return {"catalog": storage.absolute(self.out), "cells": digest, **vars(config)}


def export_hats(
    out: str,
    target: str,
    config: HatsConfig | None = None,
    *,
    workers: int | None = None,
    scratch: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Exported:
    """Write the catalog in `out` as a HATS collection.

    Parameters
    ----------
    out, target
        The catalog and the directory of the collection, local or ``s3://bucket/prefix``.
    workers
        Processes on this machine; by default one for each CPU, at most eight.
    scratch
        A local directory for a folder of intermediate files, about as large as the catalog; by
        default beside `target`, for one on s3 the system's directory for temporary files.
    resume, overwrite
        What to do where an export began already: go on, or begin again.

    Raises
    ------
    ConfigError
        If the packages are missing, the catalog is empty or damaged, `target` is in use, or what
        is to be replaced there is no export's alone.
    """
    start = time.monotonic()
    config = config or HatsConfig()
    _check_installed()
    source = _read_source(out)
    target, state = storage.absolute(target), source.state(config)
    folder = Path(_scratch(target, scratch))
    _open_target(target, folder, state, resume, overwrite)
    with _client(workers or min(os.cpu_count() or 1, 8)) as client, _as_config_error(out):
        _run(source, target, config, folder, client, progress)
    write_mark(target, state, storage.list_files(target))
    storage.remove_tree(str(folder))
    return _summary(target, source, time.monotonic() - start)


def _check_installed() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"export hats needs the package {missing[0].replace('_', '-')}; "
            f"install it with pip install '{EXTRA}'"
        )


def _read_source(out: str) -> _Source:
    run, entries = read_run(out), read_entries(out)
    done = tuple(sorted((e for e in entries if e.done), key=lambda e: e.key))
    if not sum(entry.sources for entry in done):
        raise ConfigError(f"{out} has no source to export; its ledger has {len(done)} cells done")
    return _Source(out, run, done, len(entries) - len(done))


def _scratch(target: str, within: str | None) -> str:
    """Return a folder of this export's own; it is removed when the export is finished."""
    parent, name = _split(target)
    if within is None and storage.is_local(target):
        return storage.join(parent, f".{name}.partial")
    server = os.environ.get("AWS_ENDPOINT_URL", "")
    digest = hashlib.sha256(f"{server} {target}".encode()).hexdigest()[:12]
    folder = storage.absolute(tempfile.gettempdir() if within is None else within)
    if not storage.is_local(folder):
        raise ConfigError(f"the scratch directory must be a local one, not {within}")
    return storage.join(folder, f"raydeblend-hats-{digest}")


def _split(target: str) -> tuple[str, str]:
    """Return parent and name of the collection; its name becomes that of the HATS catalog."""
    parent, _, name = storage.absolute(target).rpartition("/")
    allowed = name.replace("-", "").replace("_", "").replace(".", "")
    if not (parent.rpartition(":")[2].strip("/") and allowed.isalnum() and allowed.isascii()):
        raise ConfigError(
            f"{target} cannot be a HATS catalog: its last part names it, "
            "and may hold letters, digits, '.', '_' and '-'"
        )
    if PATTERN.search(parent):
        raise ConfigError(
            f"{target} cannot be a HATS catalog: its readers take * ? [ and ] for a pattern"
        )
    return parent, name


def _open_target(
    target: str, scratch: Path, state: dict[str, object], resume: bool, overwrite: bool
) -> None:
    """Make target and scratch ready, and remember in both what is exported."""
    if resume and overwrite:
        raise ConfigError("resume and overwrite exclude each other")
    storage.check_writable(target)
    begun = scratch / STATE
    if not begun.exists() and storage.list_files(str(scratch)):
        raise ConfigError(f"{scratch} is needed for intermediate files and holds others")
    if overwrite:
        remove_export(target)
        storage.remove_tree(str(scratch))
    if resume and begun.exists():
        if json.loads(begun.read_text()) != state:
            raise ConfigError(
                f"cannot resume {target}: it was begun from another catalog or with other options; "
                "give --overwrite to begin again"
            )
    elif begun.exists():
        raise ConfigError(
            f"an export to {target} was begun; give --resume to go on or --overwrite to replace it"
        )
    elif storage.list_files(target):
        raise ConfigError(
            f"{target} is not empty and no unfinished export to it is known in {scratch}; "
            "give --overwrite to replace it"
        )
    write_mark(target, state)
    storage.write_bytes(str(begun), json.dumps(state).encode())


@contextmanager
def _client(workers: int) -> Iterator[Client]:
    """Start dask on this machine, its status page off and all its ports on loopback."""
    from distributed import Client, LocalCluster

    # It would tell of each of its workers' connections.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=workers > 1,
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def _as_config_error(out: str) -> Iterator[None]:
    """hats-import prints what failed in a worker and raises its own summary."""
    try:
        yield
    except (RuntimeError, ValueError, *storage.READ_ERRORS) as error:
        raise ConfigError(
            f"the export of {out} stopped: {error} `raydeblend verify {out}` tells whether the "
            "catalog is whole; --resume goes on"
        ) from error


def _run(
    source: _Source,
    target: str,
    config: HatsConfig,
    scratch: Path,
    client: Client,
    progress: bool,
) -> None:
    from hats_import.collection.arguments import CollectionArguments
    from hats_import.pipeline import pipeline_with_client

    parent, name = _split(target)
    arguments = CollectionArguments(
        output_path=_path(parent),
        output_artifact_name=name,
        tmp_dir=scratch,
        # On a terminal alone: a log would get each step of the bar.
        progress_bar=progress and sys.stderr.isatty(),
        simple_progress_bar=True,
        addl_hats_properties=_properties(source.run),
    )
    arguments.catalog(**_catalog_arguments(source, config, scratch))
    arguments.add_margin(margin_threshold=config.margin_arcsec, is_default=True)
    pipeline_with_client(arguments, client)


def _path(path: str) -> UPath:
    """Return a path as hats takes it; left to itself, hats would go to s3 without credentials."""
    from upath import UPath

    return UPath(path, anon=False) if storage.is_s3(path) else UPath(path)


def _properties(run: Run) -> dict[str, object]:
    return {
        "hats_cols_survey_id": "source_id",
        "obs_regime": "Optical",
        "raydeblend_config_hash": run.config_hash,
        "raydeblend_version": run.versions.get("raydeblend", ""),
    }


def _catalog_arguments(source: _Source, config: HatsConfig, scratch: Path) -> dict[str, Any]:
    from raydeblend.export.shards import ShardReader

    schema = scratch / "schema.parquet"
    schema.write_bytes(tables.schema_to_parquet(catalog.schema(source.run.bands)))
    return {
        "input_file_list": _write_groups(source.shards, scratch),
        "file_reader": ShardReader(source.run.bands, config.all_rows),
        "ra_column": "ra",
        "dec_column": "dec",
        "sort_columns": "source_id",
        "use_schema_file": str(schema),
        "pixel_threshold": config.rows_per_partition,
        "expected_total_rows": sum(e.sources for e in source.done) if config.all_rows else 0,
    }


def _write_groups(shards: Sequence[str], scratch: Path) -> list[str]:
    """Write which shards each task reads."""
    folder = scratch / "groups"
    folder.mkdir(exist_ok=True)
    paths = []
    for i, start in enumerate(range(0, len(shards), GROUP)):
        path = folder / f"{i:06d}.txt"
        path.write_text("\n".join(shards[start : start + GROUP]))
        paths.append(str(path))
    return paths


def _summary(target: str, source: _Source, seconds: float) -> Exported:
    from hats import read_hats

    collection = read_hats(_path(storage.absolute(target)))
    margin = read_hats(collection.collection_path / collection.default_margin)
    return Exported(
        path=target,
        n_rows=collection.main_catalog.catalog_info.total_rows,
        n_partitions=len(collection.main_catalog.get_healpix_pixels()),
        n_margin_rows=margin.catalog_info.total_rows,
        n_failed=source.n_failed,
        seconds=seconds,
    )
