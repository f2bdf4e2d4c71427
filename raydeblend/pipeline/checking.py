"""The checks of a cell, run along with its stages: what its pixels show, and what is wrong."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from raydeblend.checks.config import CHECKS
from raydeblend.checks.faults import CellFacts, cell_facts, control_faults, find_faults
from raydeblend.detect.background import chosen_background
from raydeblend.pipeline.cell_state import CellState, run_stage_safely
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.findings import BETWEEN
from raydeblend.tile import Tile


def look_at(tile: Tile, detected: Detected, background: str) -> CellState:
    """Look at the pixels of a cell as they were read; what goes wrong fails nothing else.

    `background` is one of `config.BACKGROUNDS`.
    """
    inner = detected.task.cell.inner

    def see(_: object) -> CellFacts:
        keeps_sky = chosen_background(tile.header, background) == "none"
        return cell_facts(tile, inner, detected.blends, detected.psf, CHECKS, keeps_sky)

    return run_stage_safely(CellState(detected.task), "check", see)


def judge(seen: CellState | None, injected: pa.Table | None) -> dict[str, Any]:
    """Return what the ledger says of the checks of a cell, and of what was injected into it."""
    if seen is None:
        return {}
    facts: CellFacts | None = seen.content
    if facts is None:
        return {"check_failure": seen.error}
    faults = list(find_faults(facts, CHECKS))
    if injected is not None:
        faults += control_faults(injected, facts.bands, CHECKS)
    return {"suspect": BETWEEN.join(faults)}
