"""The numbers of the protocol `singles`, by class and magnitude."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from raydeblend.evaluate.common import metrics
from raydeblend.evaluate.common.rows import Row, fixed_first, flux_columns, fraction, measured
from raydeblend.evaluate.common.sky import between
from raydeblend.evaluate.singles.scores import SingleTable

PROTOCOL = "singles"
CLASS, CLASS_MAGNITUDE, MAGNITUDE = "class", "class and magnitude", "magnitude"
EDGES = (16.5, 18.5, 19.5, 20.5, 21.5, 22.5, 23.5)
ALL = "all"
FAR = 5.0
"""Stated errors from which a flux is far off."""


def make_rows(deblender: str, grid: str, table: SingleTable, seconds: float) -> list[Row]:
    """Return the rows of one deblender and one grid; `seconds` are wall time per source."""
    return [
        fixed_first(
            {
                "protocol": PROTOCOL,
                "deblender": deblender,
                "n_galaxies": by,
                "galaxy": name,
                "grid": grid,
                "n": int(rows.sum()),
                "psnr_mean": np.nan,
                "psnr_median": np.nan,
                "ssim_mean": np.nan,
                "ssim_median": np.nan,
                **single_columns(table, rows),
                "seconds_per_blend": seconds,
            }
        )
        for by, name, rows in _cases(table)
        if rows.any()
    ]


def _cases(table: SingleTable) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    classes = ordered(table.cls)
    everything = np.ones(len(table.cls), dtype=bool)
    for name in classes:
        yield CLASS, name, table.cls == name
    yield CLASS, ALL, everything
    for low, high in pairwise(EDGES):
        yield MAGNITUDE, f"i {low:g}–{high:g}", between(table.magnitude, low, high)
    for name in classes:
        for low, high in pairwise(EDGES):
            rows = (table.cls == name) & between(table.magnitude, low, high)
            yield CLASS_MAGNITUDE, f"{name}, i {low:g}–{high:g}", rows


def ordered(names: Sequence[str] | NDArray[np.str_]) -> list[str]:
    """Return the different classes, Sérsic indices first and by value."""
    return sorted(set(names), key=lambda name: (not _is_number(name), _value(name), name))


def _is_number(name: str) -> bool:
    return name.replace(".", "", 1).isdigit()


def _value(name: str) -> float:
    return float(name) if _is_number(name) else 0.0


def single_columns(table: SingleTable, rows: NDArray[np.bool_]) -> Row:
    """Return what became of the chosen galaxies."""
    pull = table.pull[rows]
    known = pull[np.isfinite(pull)]
    columns = flux_columns(table.error[rows])
    columns |= fraction("found", table.found[rows])
    columns |= fraction("missed", ~table.found[rows])
    columns |= fraction("split", table.split[rows])
    columns |= fraction("absurd", table.absurd[rows])
    columns |= measured("pull_nmad", pull, metrics.found_nmad)
    columns |= measured("pull_bias", pull, metrics.found_median)
    far = np.abs(known) > FAR
    nothing = {f"beyond_5_sigma{end}": np.nan for end in ("", "_low", "_high")}
    return columns | (fraction("beyond_5_sigma", far) if len(far) else nothing)
