"""What the injected sources say of each cell, for maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raydeblend.draw.maps import InjectedStatistics
from raydeblend.errors import ConfigError
from raydeblend.inject.read import read_injected
from raydeblend.inject.statistics import flux_errors, half_complete, middle, spread

FEWEST = 4
"""Found sources from which a width says anything."""


def injected_statistics(
    out: str, bands: Sequence[str], needed: bool
) -> dict[tuple[str, str], InjectedStatistics]:
    """Return the statistics of every cell with injected sources, by tile and cell.

    Raises
    ------
    ConfigError
        If `needed` and there are no injected sources.
    """
    try:
        rows = read_injected(out)
    except ConfigError:
        if needed:
            raise
        return {}
    keys = np.array([f"{t}\n{c}" for t, c in zip(*_names(rows), strict=True)])
    cells = {key: rows.filter(pa.array(keys == key)) for key in np.unique(keys).tolist()}
    return {_key(key): cell_of(part, bands) for key, part in cells.items()}


def _names(rows: pa.Table) -> tuple[list[str], list[str]]:
    return rows["tile"].to_pylist(), rows["cell"].to_pylist()


def _key(text: str) -> tuple[str, str]:
    tile, _, cell = text.rpartition("\n")
    return tile, cell


def cell_of(rows: pa.Table, bands: Sequence[str]) -> InjectedStatistics:
    """Return what the sources of one cell say."""
    limits = half_complete(rows, bands)
    errors = [flux_errors(rows, band) for band in bands]
    return InjectedStatistics(
        tuple(limits.get(band, float("nan")) for band in bands),
        tuple(middle(error) for error, _ in errors),
        tuple(
            spread(pull) if np.isfinite(pull).sum() >= FEWEST else float("nan")
            for _, pull in errors
        ),
    )
