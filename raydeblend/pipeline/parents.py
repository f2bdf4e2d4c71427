"""The footprints of a cell as a table: from accounts to ``OUT/parents``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend.detect.ids import pixels
from raydeblend.parents import Shortfall, Unpublished, to_table
from raydeblend.pipeline.accounts import Account
from raydeblend.pipeline.ownership import Coverage, is_primary, to_sky
from raydeblend.pipeline.plan import CellTask
from raydeblend.tile import BoolArray, Box

Row = dict[str, Any]


def parents_table(
    task: CellTask,
    accounts: Sequence[Account],
    covered: Coverage,
    noise: Sequence[float] = (),
    work_factor: float = 1.0,
) -> pa.Table:
    """Return the footprints of which a cell owns a peak or a source.

    Parameters
    ----------
    covered
        How well a tile covers a place, see `pipeline.ownership`.
    noise, work_factor
        See `pipeline.detected.Detected`.
    """
    inner = task.cell.inner
    rows = [
        _shared(account, task, noise) | counted | {"work_factor": work_factor}
        for account in accounts
        if (counted := count_peaks(account, inner))
    ]
    if not rows:
        return to_table([])
    xy = np.array([(row["x"], row["y"]) for row in rows])
    sky = to_sky(task.cell.tile, xy)
    owned = is_primary(task.cell.tile, task.neighbors, xy, covered)
    for row, ra, dec, primary in zip(rows, sky.ra.deg, sky.dec.deg, owned, strict=True):
        row |= {"ra": ra, "dec": dec, "is_primary": primary}
    return to_table(rows)


def count_peaks(account: Account, inner: Box) -> Row:
    """Return how many peaks and rows of a footprint a cell has, and why others are none.

    Empty if it has neither.
    """
    peaks, sources = _inside(account.peaks, inner), _inside(account.outcome.xy, inner)
    if not (peaks.any() or sources.any()):
        return {}
    matched = account.source[peaks]
    here = sources[matched] & (matched >= 0) if len(sources) else matched >= 0
    reasons = Counter(
        reason or Unpublished.OTHER_CELL
        for reason, is_row in zip(np.array(account.reasons)[peaks], here, strict=True)
        if not is_row
    )
    return {
        "n_peaks": int(peaks.sum()),
        "n_sources": int(sources.sum()),
        "n_added": int(sources.sum() - here.sum()),
        **{f"n_{reason}": reasons[reason] for reason in Unpublished},
    }


def _inside(xy: NDArray[np.float64], inner: Box) -> BoolArray:
    """Tell which positions ``(n, 2)`` have their pixel in a box, as `pipeline.rows.owned`."""
    return np.array([inner.contains(y, x) for x, y in xy], dtype=bool)


def _shared(account: Account, task: CellTask, noise: Sequence[float]) -> Row:
    """Return what a footprint's row says in every cell."""
    outcome, box = account.outcome, account.box
    y, x = pixels(account.parent_id)
    return {
        "parent_id": account.parent_id,
        "tile": task.cell.tile.name,
        "cell": task.cell.name,
        "is_owner": task.cell.inner.contains(float(y), float(x)),
        "x": float(account.peaks[0, 0]),
        "y": float(account.peaks[0, 1]),
        "x0": box.x0,
        "y0": box.y0,
        "x1": box.x1,
        "y1": box.y1,
        "area": account.area,
        "n_blended": len(outcome.xy),
        "shortfall": str(outcome.shortfall),
        "deblender": outcome.deblender,
        "quality": outcome.quality,
        "chi2": np.nan if outcome.residual is None else outcome.residual.reduced(noise),
        "work": outcome.work,
        "flags": account.flags,
    }


def count_parents(table: pa.Table) -> Row:
    """Return what the ledger says of a cell's footprints."""
    totals = {r: int(np.sum(table[f"n_{r}"].to_numpy())) for r in Unpublished}
    short = Counter(table["shortfall"].to_pylist())
    return {
        "peaks": int(np.sum(table["n_peaks"].to_numpy())),
        "unpublished": {str(reason): n for reason, n in totals.items() if n},
        "shortfalls": {str(reason): short[reason] for reason in Shortfall if short[reason]},
        "retried": int(np.sum(table["work_factor"].to_numpy() > 1)),
    }
