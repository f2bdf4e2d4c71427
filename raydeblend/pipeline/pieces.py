"""A footprint too large or too crowded for one array of models, deblended and measured in pieces.

Fields can be so crowded that thousands of sources share a footprint of a million pixels, where
models of its size would take tens of GB.  SExtractor's segments do not overlap, so the sources of
each square (`FootprintConfig.piece_side`) are cut out together; what belongs to others is unusable
there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.deblend.sep import Segments, classical_segments
from raydeblend.flags import Flag
from raydeblend.measure.point_sources import measure_points
from raydeblend.measure.seen import seen_part
from raydeblend.pipeline.answers import measurements_of, undivided
from raydeblend.pipeline.config import FOOTPRINTS
from raydeblend.pipeline.deblended import DeblendedParent, no_pixels_of
from raydeblend.pipeline.distinct import distinct_sources, peak_pixels
from raydeblend.psf import TilePsf
from raydeblend.tile import Blend, Box, FloatArray, Separated


def in_pieces(blend: Blend) -> list[tuple[Blend, DeblendedParent]]:
    """Return the sources of a footprint by pieces; each has the footprint's identifier and flags.

    All carry DEBLEND_LIMITED if there are several pieces.
    """
    found = _own_segments(blend)
    if not len(found.xy):
        failed = undivided(blend, "none", "sep")
        return [(blend, replace(failed, flags=int(Flag.DEBLEND_FAILED)))]
    boxes = [Box(y.start, x.start, y.stop, x.stop) for y, x in ndimage.find_objects(found.labels)]
    pieces = [_cut(blend, found, rows, boxes) for rows in _groups(found.xy, boxes)]
    if len(pieces) == 1:
        return pieces
    limited = int(Flag.DEBLEND_LIMITED)
    return [(piece, replace(part, flags=part.flags | limited)) for piece, part in pieces]


def separated_pieces(
    blend: Blend,
    found: Separated,
    deblender: str,
    psf: TilePsf | None,
    keep_models: bool = False,
) -> Iterator[tuple[Blend, DeblendedParent]]:
    """Yield the sources of a footprint that were separated as a whole, by pieces.

    The light of the sources of other pieces is taken out of the image of each.

    Parameters
    ----------
    psf
        By place in the tile, where models are to be left out of what the deblender measured itself,
        once it is known what its sources are as points.
    keep_models
        Leave them out later, since they are saved.
    """
    rest = residual(blend, found)
    kept, number = distinct_sources(blend, found.xy)
    members = [np.flatnonzero(number == i) for i in range(len(kept))]
    limited = int(Flag.DEBLEND_LIMITED) if found.limited else 0
    flags = limited | (int(Flag.LOW_QUALITY) if found.quality == "low" else 0)
    whole = replace(blend, flags=blend.flags & ~int(Flag.DEBLEND_FALLBACK))
    for rows in _groups(found.xy[kept], [found.boxes[i] for i in kept]):
        own = [members[row] for row in rows]
        piece, models = _piece(whole, rest, found, own)
        measured = measurements_of(piece, found.extra, kept[rows])
        share = points = covered = None
        if measured is not None and psf is not None:
            points = measure_points(piece, models, piece.xy, psf.each(piece.on_tile(piece.xy)))
            covered = seen_part(models, piece.unusable)
            share = found.blendedness[kept[rows]]
            models = models if keep_models else no_pixels_of(models)
        yield (
            piece,
            DeblendedParent(
                models,
                piece.xy,
                found.quality,
                deblender,
                flags=flags,
                measured=measured,
                blendedness=share,
                coverage=covered,
                points=points,
                of_footprint=len(kept),
            ),
        )


def residual(blend: Blend, found: Separated) -> NDArray[np.float64]:
    """Return the image ``(bands, y, x)`` of a footprint less the light of all sources."""
    rest = blend.image.astype(np.float64)
    for box, light in zip(found.boxes, found.lights, strict=True):
        rest[:, *box.slices] -= light
    return rest


def _piece(
    blend: Blend,
    rest: NDArray[np.float64],
    found: Separated,
    sources: Sequence[NDArray[np.intp]],
) -> tuple[Blend, FloatArray]:
    """Return the window of some sources, without the light of others, and their models.

    Of each those are added up that share its pixel, the first of which it is.
    """
    everyone = np.concatenate(sources)
    box = _window(blend, [found.boxes[i] for i in everyone])
    models = np.zeros((len(sources), len(blend.image), *box.shape), dtype=np.float32)
    for model, own in zip(models, sources, strict=True):
        for i in own:
            model[:, *found.boxes[i].shift(-box.y0, -box.x0).slices] += found.lights[i]
    window = (slice(None), *box.slices)
    piece = replace(
        blend,
        box=box.shift(blend.box.y0, blend.box.x0),
        image=(rest[window] + models.sum(0)).astype(np.float32),
        variance=blend.variance[window],
        unusable=blend.unusable[window],
        footprint=blend.footprint[box.slices],
        xy=found.xy[[own[0] for own in sources]] - np.array([box.x0, box.y0], dtype=np.float32),
    )
    return piece, models


def _own_segments(blend: Blend) -> Segments:
    """Return the segments of the footprint's sources, those in one pixel as one."""
    found = classical_segments(blend.image, blend.variance, blend.unusable)
    kept, number = distinct_sources(blend, found.xy)
    labels = np.concatenate([[0], number + 1]).astype(np.int32)[found.labels]
    return Segments(found.light, labels, found.xy[kept])


def _groups(xy: NDArray[np.floating], boxes: Sequence[Box]) -> Iterator[list[int]]:
    """Yield the sources of each square; those with segments that are larger, one by one."""
    side = FOOTPRINTS.piece_side
    squares: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, (pixel, box) in enumerate(zip(peak_pixels(xy).tolist(), boxes, strict=True)):
        alone = max(box.shape) > side
        squares[(i,) if alone else (pixel[0] // side, pixel[1] // side)].append(i)
    yield from squares.values()


def _cut(
    blend: Blend, found: Segments, rows: Sequence[int], boxes: Sequence[Box]
) -> tuple[Blend, DeblendedParent]:
    """Return the piece of some sources: the window of their segments with a margin."""
    box = _window(blend, [boxes[i] for i in rows])
    labels = found.labels[box.slices]
    own = labels == np.array(rows)[:, None, None] + 1
    others = (labels > 0) & ~own.any(axis=0)
    xy = found.xy[rows] - np.array([box.x0, box.y0], dtype=np.float32)
    window = (slice(None), *box.slices)
    piece = replace(
        blend,
        box=box.shift(blend.box.y0, blend.box.x0),
        image=blend.image[window],
        variance=blend.variance[window],
        unusable=blend.unusable[window] | others,
        footprint=blend.footprint[box.slices] & ~others,
        xy=xy,
    )
    models = np.where(own[:, None], found.light[window], np.float32(0))
    n = len(found.xy)
    part = DeblendedParent(models, xy, "medium" if n > 1 else "isolated", "sep", of_footprint=n)
    return piece, part


def _window(blend: Blend, boxes: Sequence[Box]) -> Box:
    """Return the box around several and a margin, within the stamp of their footprint."""
    edges = np.array([(box.y0, box.x0, box.y1, box.x1) for box in boxes])
    around = Box(*edges[:, :2].min(0).tolist(), *edges[:, 2:].max(0).tolist())
    return around.grow(FOOTPRINTS.piece_margin).clip(Box(0, 0, *blend.footprint.shape))
