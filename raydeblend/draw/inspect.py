"""One blend of a finished catalog, taken apart again by the stages that made it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydeblend import access
from raydeblend.detect.background import without_background
from raydeblend.detect.ids import pixels
from raydeblend.draw.finished import Finished, find_among, open_several, write_picture
from raydeblend.draw.saved import saved_part
from raydeblend.errors import ConfigError, TileError
from raydeblend.fits import read_tile
from raydeblend.pipeline.deblended import DeblendedCell, DeblendedParent
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.distinct import peak_pixels
from raydeblend.pipeline.stages import detect_cell, first_opinion
from raydeblend.survey import get_survey
from raydeblend.tile import Blend, Box, FloatArray, TileHeader

MARGIN = 16
"""Pixels shown around the footprint, where the neighbors are."""
FORMATS = ("png", "pdf", "svg")
SAME_PIXELS = 0.5
"""How far a recomputed source may be from its row before the two are called different."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inspected:
    """A blend with everything that is drawn of it.

    Attributes
    ----------
    header
        Its tile.
    blend, part
        The footprint and its sources as the stages give them.
    rows
        The catalog's rows of the footprint, in the order of ``part.models``; of sources that
        other cells own too.
    around
        ``(bands, y, x)`` the tile's pixels in `view`, background taken out.
    view
        What is shown, in tile pixels.
    neighbors
        ``(n, 2)`` tile positions of the other cataloged sources in view.
    source_id
        The source that was asked for.
    """

    header: TileHeader
    blend: Blend
    part: DeblendedParent
    rows: pa.Table
    around: FloatArray
    view: Box
    neighbors: NDArray[np.float64]
    source_id: int


@dataclass(frozen=True)
class Drawn:
    """What was drawn, and where to."""

    source_id: int
    n_sources: int
    picture: str


def inspect_source(outs: str | Sequence[str], target: str, picture: str | None = None) -> Drawn:
    """Draw the blend of one source as a file.

    Parameters
    ----------
    outs
        The catalog, local or on s3, or several parts of a survey; the input must still be there.
    target
        A source_id, or ``ra,dec`` in degrees.
    picture
        The file to write, of one of the `FORMATS`; by default ``blend_<source_id>.png`` here.

    Raises
    ------
    ConfigError
        If there is no such source, its tile can no longer be read, or `picture` is of no format
        that can be drawn.
    """
    from raydeblend.draw.blend_figure import blend_figure
    from raydeblend.evaluate.common.figures import to_format

    if picture is not None:
        _form(picture)
        access.check_file_writable(picture)
    several = open_several([outs] if isinstance(outs, str) else outs)
    seen = take_apart(*find_among(several, target))
    picture = f"blend_{seen.source_id}.png" if picture is None else picture
    write_picture(picture, to_format(blend_figure(seen), _form(picture)))
    return Drawn(seen.source_id, len(seen.rows), picture)


def _form(picture: str) -> str:
    """Return the format that a file's name says."""
    form = picture.rpartition(".")[2].lower()
    if form not in FORMATS:
        raise ConfigError(f"{picture} must end in one of .{', .'.join(FORMATS)}")
    return form


def take_apart(finished: Finished, row: pa.Table) -> Inspected:
    """Run detection and, without saved models, deblending again on the footprint of a source."""
    tile, cell = row["tile"][0].as_py(), row["cell"][0].as_py()
    task, parent = finished.task(tile, cell), row["parent_id"][0].as_py()
    try:
        detected = detect_cell(task, replace(finished.config, inject=0.0))
    except (TileError, OSError) as error:
        raise ConfigError(f"tile {tile} can no longer be read: {error}") from error
    blends = [blend for blend in detected.blends if blend.parent_id == parent]
    if not blends:
        raise ConfigError(
            f"the footprint of source {row['source_id'][0]} is not found in {tile} again: "
            "its pixels have changed, or it was made by another version"
        )
    nearby = pa.concat_tables(finished.tile_rows(tile))
    own = pc.equal(nearby["parent_id"], parent)
    found = saved_part(finished, blends[0], nearby.filter(own))
    if found is None:
        # Models that are saved are kept, also of a footprint that is measured as a whole.
        deblend = first_opinion(replace(finished.config, save=("models",)))
        found = deblend(Detected(task, (blends[0],), detected.psf))
    blend, part = _piece_with(found, row)
    if len(found.parts) > 1:
        own = pc.and_(own, pa.array(_distances(nearby, blend, part).min(axis=0) < SAME_PIXELS))
    view = _view(blend).clip(task.cell.outer)
    return Inspected(
        header=task.cell.tile,
        blend=blend,
        part=part,
        rows=_in_order(nearby.filter(own), blend, part),
        around=_pixels(finished, task.cell.tile, task.cell.outer, view),
        view=view,
        neighbors=_places(nearby.filter(pc.invert(own)), view),
        source_id=row["source_id"][0].as_py(),
    )


def _piece_with(found: DeblendedCell, row: pa.Table) -> tuple[Blend, DeblendedParent]:
    """Return the piece of a footprint that holds a source; most footprints are in one."""
    pieces = list(zip(found.detected.blends, found.parts, strict=True))
    return min(pieces, key=lambda piece: float(_distances(row, *piece).min()))


def _distances(rows: pa.Table, blend: Blend, part: DeblendedParent) -> NDArray[np.float64]:
    """Return how far sources ``(k,)`` of a piece are from rows ``(n,)``; ``(k, n)`` pixels.

    By the pixels that identify them: a fit may have moved the places of rows.
    """
    place = peak_pixels(part.xy + np.array([blend.box.x0, blend.box.y0]))
    y, x = pixels(rows["source_id"].to_numpy())
    return np.asarray(np.linalg.norm(place[:, None] - np.column_stack([x, y])[None], axis=2))


def _view(blend: Blend) -> Box:
    """Return a square of tile pixels around the footprint."""
    y, x = np.nonzero(blend.footprint)
    half = int(max(np.ptp(y), np.ptp(x))) // 2 + MARGIN
    row, column = (int(values.min() + values.max()) // 2 for values in (y, x))
    around = Box(row - half, column - half, row + half + 1, column + half + 1)
    return around.shift(blend.box.y0, blend.box.x0)


def _in_order(rows: pa.Table, blend: Blend, part: DeblendedParent) -> pa.Table:
    """Sort the rows as the models are, and say if they are not of the same sources."""
    apart = _distances(rows, blend, part)
    if apart.shape[0] != apart.shape[1] or apart.min(axis=1).max() > SAME_PIXELS:
        log.warning(
            "the deblender finds %d sources now, the catalog has %d: the weights or the code "
            "changed, or a cell of the tile failed",
            *apart.shape,
        )
    return rows.take(pa.array(np.argsort(apart.argmin(axis=0), kind="stable")))


def _pixels(finished: Finished, header: TileHeader, outer: Box, view: Box) -> FloatArray:
    config = finished.config
    tile = read_tile(header, outer, get_survey(config.survey), config.bad_planes)
    clean = without_background(tile, config.background)
    return clean.image[:, *view.shift(-outer.y0, -outer.x0).slices]


def _places(rows: pa.Table, view: Box) -> NDArray[np.float64]:
    xy = np.column_stack([rows["x"].to_numpy(), rows["y"].to_numpy()])
    inside = [view.contains(y, x) for x, y in xy]
    return np.asarray(xy[np.array(inside, dtype=bool)], dtype=np.float64)
