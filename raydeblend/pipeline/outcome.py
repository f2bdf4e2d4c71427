"""What is kept of a cell at its end: its shard and its ledger entry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raydeblend import catalog, storage
from raydeblend.pipeline.cell_state import CellState, run_stage_safely
from raydeblend.pipeline.checking import judge
from raydeblend.pipeline.entries import (
    DamagedEntryError,
    LedgerEntry,
    entry_path,
    read_entry,
    write_entry,
)
from raydeblend.pipeline.injection import count_injected, kept_rows, rows_of, write_injected
from raydeblend.pipeline.parents import count_parents
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.products import write_products
from raydeblend.pipeline.rows import Measured, counts
from raydeblend.pipeline.second_pass import standing, with_others
from raydeblend.pipeline.shards import cell_files, parents_path, shard_path


def write_cell(work: CellState, out: str, weights_hash: str, config_hash: str) -> LedgerEntry:
    """Write a cell's shard and then its ledger entry, which it returns.

    A cell that could not be written is failed; without a ledger entry, if need be.
    """
    work = run_stage_safely(work, "write", lambda measured: _write_shard(measured, out))
    return _record(work, out, weights_hash, config_hash)


def give_up(
    task: CellTask, out: str, reason: str, weights_hash: str, config_hash: str
) -> LedgerEntry:
    """Record a cell as failed, unless a worker got as far as its ledger entry before it died."""
    path = entry_path(out, task.cell.tile.name, task.cell.name)
    if storage.exists(path):
        try:
            entry = read_entry(path)
        except DamagedEntryError:
            entry = LedgerEntry("", "", "failed")
        if entry.done and (entry.weights_hash, entry.config_hash) == (weights_hash, config_hash):
            return entry
    return fail_cell(task, out, reason, weights_hash, config_hash)


def fail_cell(
    task: CellTask, out: str, reason: str, weights_hash: str, config_hash: str
) -> LedgerEntry:
    """Record a cell as failed, whatever the ledger says of it."""
    return _record(CellState(task, error=reason), out, weights_hash, config_hash)


def _record(work: CellState, out: str, weights_hash: str, config_hash: str) -> LedgerEntry:
    cell = work.task.cell
    content = work.content or standing(work.task)
    entry = LedgerEntry(
        tile=cell.tile.name,
        cell=cell.name,
        status="failed" if work.error and not content else "done",
        reason=work.error,
        seconds={name: round(seconds, 4) for name, seconds in work.seconds.items()},
        peak_memory_mb=round(work.peak_memory_mb, 1),
        bytes_read=work.bytes_read,
        weights_hash=weights_hash,
        config_hash=config_hash,
        **content,
    )
    try:
        if not entry.done:
            # An earlier attempt may have come as far as the shard.
            storage.remove_files(cell_files(out, *entry.key))
        write_entry(out, entry)
    except storage.READ_ERRORS as error:
        return replace(entry, status="failed", reason=f"ledger: {storage.explain(error)}")
    return entry


def _write_shard(measured: Measured, out: str) -> dict[str, Any]:
    measured, cell = with_others(measured), measured.task.cell
    key = cell.tile.name, cell.name
    write_products(out, cell, measured.products)
    shard, parents = catalog.to_bytes(measured.table), catalog.to_bytes(measured.parents)
    storage.write_bytes(shard_path(out, *key), shard)
    storage.write_bytes(parents_path(out, *key), parents)
    noise = {band: round(ratio, 4) for band, ratio in measured.noise.items()}
    counted = counts(measured.table, cell.inner) | count_parents(measured.parents)
    again = measured.work_factor > 1
    injected = kept_rows(out, cell) if again else rows_of(measured.injection)
    counted |= count_injected(injected, cell.tile.bands) | judge(measured.seen, injected)
    seen = {"noise_correlation": noise, "unusable": round(measured.unusable, 4)}
    written = {"bytes_written": len(shard) + len(parents)}
    return counted | seen | written | write_injected(measured.injection, out)
