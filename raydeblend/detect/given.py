"""Footprints of sources at given positions, seen or not, in place of detection's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from raydeblend.detect.cores import with_cores
from raydeblend.detect.cutouts import cut_blend
from raydeblend.detect.footprints import (
    DetectConfig,
    detection_image,
    label_footprints,
    psf_width,
    significant_peaks,
)
from raydeblend.detect.ids import source_id
from raydeblend.flags import Flag
from raydeblend.tile import Blend, BoolArray, Box, Tile, TileHeader


@dataclass(frozen=True)
class GivenConfig:
    """What belongs to a position that is given.

    Attributes
    ----------
    radius
        Of its disk of pixels, whether anything shows there or not; in widths (standard deviations)
        of the PSF.
    listed
        Within which a detected peak is that of a given position, in the same unit.
    template_peak
        Sigma of a pixel for which a template is drawn at least, since so it is known how far out.
    work_factor
        By how much the limits of work are larger than usual: there is no other method to go on
        with.
    """

    radius: float = 2.0
    listed: float = 2.5
    template_peak: float = 5.0
    work_factor: float = 100.0


GIVEN = GivenConfig()


def find_given(
    tile: Tile,
    xy: NDArray[np.float64],
    config: DetectConfig,
    given: GivenConfig = GIVEN,
) -> list[Blend]:
    """Return one Blend per footprint that holds a given position.

    A footprint is a connected region of detected pixels and of disks about the positions.  Detected
    footprints without a position are taken out of the others' stamps, as usual; one with a detected
    peak that no position stands for carries UNLISTED_PEAK.

    Parameters
    ----------
    tile
        Background-subtracted.
    xy
        ``(n, 2)`` in pixels of the whole tile, each on a pixel of `tile` of its own.
    """
    if not len(xy):
        return []
    tile, cores = with_cores(tile, config.cores)
    significance = detection_image(tile, cores, config.min_coverage)
    width = psf_width(tile)
    own = xy - np.array([tile.box.x0, tile.box.y0])
    pixels = np.floor(own[:, ::-1] + 0.5).astype(np.intp)
    order = np.argsort(-significance[tuple(pixels.T)], kind="stable")
    own, pixels = own[order], pixels[order]
    peaks, peaks_xy = significant_peaks(significance, width, config)
    detected = (significance > config.outline) | _disks(significance.shape, pixels, given, width)
    labels = label_footprints(detected, np.concatenate([pixels, peaks]), config.min_area)
    owner, of_peak = labels[tuple(pixels.T)], labels[tuple(peaks.T)]
    away = KDTree(own).query(peaks_xy)[0] > given.listed * width
    unlisted = set(of_peak[away].tolist())
    boxes = ndimage.find_objects(labels)
    blends = []
    for label in range(1, int(owner.max()) + 1):
        mine = owner == label
        blend = cut_blend(
            tile, cores, labels, label, boxes[label - 1], pixels[mine], own[mine], config.margin
        )
        more = int(Flag.UNLISTED_PEAK) if label in unlisted else 0
        blends.append(replace(blend, flags=blend.flags | more))
    return blends


def unmeasurable(header: TileHeader, xy: NDArray[np.float64], flags: Flag) -> list[Blend]:
    """Return a Blend without a usable pixel for each position: its source has a row, but no values.

    Parameters
    ----------
    xy
        ``(n, 2)`` in pixels of the tile, each on a pixel of its own.
    flags
        That say why.
    """
    return [_blind(header, x, y, int(flags)) for x, y in xy.tolist()]


def _blind(header: TileHeader, x: float, y: float, flags: int) -> Blend:
    column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    nothing = np.zeros((len(header.bands), 1, 1), dtype=np.float32)
    return Blend(
        parent_id=source_id(header.name, row, column),
        box=Box(row, column, row + 1, column + 1),
        image=nothing,
        variance=nothing + 1,
        unusable=np.ones(nothing.shape, dtype=bool),
        footprint=np.ones((1, 1), dtype=bool),
        xy=np.array([[x - column, y - row]], dtype=np.float32),
        flags=flags,
    )


def _disks(
    shape: tuple[int, ...], pixels: NDArray[np.intp], given: GivenConfig, width: float
) -> BoolArray:
    """Return the pixels ``(y, x)`` within a radius of some."""
    far = np.ones(shape, dtype=bool)
    far[tuple(pixels.T)] = False
    return np.asarray(ndimage.distance_transform_edt(far) <= max(given.radius * width, 1.5))
