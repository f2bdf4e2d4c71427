"""The sources of a footprint from the models that its run saved."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from raydeblend.detect.ids import pixels
from raydeblend.draw.finished import Finished
from raydeblend.flags import Flag
from raydeblend.models import SourceModel
from raydeblend.pipeline.deblended import DeblendedCell, DeblendedParent
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.plan import CellTask
from raydeblend.products import read_models
from raydeblend.psf import TilePsf
from raydeblend.tile import Blend, Box, FloatArray


def saved_part(finished: Finished, blend: Blend, rows: pa.Table) -> DeblendedCell | None:
    """Return a footprint as it was deblended, or None where that was not saved.

    Parameters
    ----------
    rows
        Those of the catalog with its sources, of all cells.
    """
    # One too large for a stamp was deblended in pieces, of which one is drawn.
    if "models" not in finished.config.save or blend.flags & Flag.DEBLEND_FALLBACK:
        return None
    task = finished.task(*_cells(rows)[0])
    models = _models(finished, rows)
    y, x = pixels(rows["source_id"].to_numpy())
    part = DeblendedParent(
        models=np.stack([_on_stamp(model, blend.box) for model in models]),
        xy=np.column_stack([x - blend.box.x0, y - blend.box.y0]).astype(np.float32),
        quality=rows["quality"][0].as_py(),
        deblender=rows["deblender"][0].as_py(),
    )
    return _cell(task, blend, part)


def _cell(task: CellTask, blend: Blend, part: DeblendedParent) -> DeblendedCell:
    return DeblendedCell(Detected(task, (blend,), TilePsf(())), (part,))


def _cells(rows: pa.Table) -> list[tuple[str, str]]:
    return list(zip(rows["tile"].to_pylist(), rows["cell"].to_pylist(), strict=True))


def _models(finished: Finished, rows: pa.Table) -> list[SourceModel]:
    """Return the model of each row."""
    cells = _cells(rows)
    of_cell = {key: read_models(finished.out, *key) for key in dict.fromkeys(cells)}
    sources = rows["source_id"].to_pylist()
    return [of_cell[key][source] for key, source in zip(cells, sources, strict=True)]


def _on_stamp(model: SourceModel, stamp: Box) -> FloatArray:
    """Return a model on the pixels of a stamp; 0 where it was not kept."""
    image = np.zeros((len(model.light), *stamp.shape), dtype=np.float32)
    common = model.box.clip(stamp)
    if common.y1 > common.y0 and common.x1 > common.x0:
        part = model.light[:, *common.shift(-model.box.y0, -model.box.x0).slices]
        image[:, *common.shift(-stamp.y0, -stamp.x0).slices] = part
    return image
