"""The stars of a tile in one band: single bright sources on the ridge of smallest size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.detect.footprints import DetectConfig, find_blends
from raydeblend.flags import Flag
from raydeblend.stellar_psf.config import StellarPsfConfig
from raydeblend.stellar_psf.polynomial import Polynomial, order_for
from raydeblend.tile import Blend, BoolArray, FloatArray, Tile

Array = NDArray[np.float64]

UNFIT = Flag.EDGE | Flag.MASKED | Flag.SATURATED


@dataclass(frozen=True)
class Candidates:
    """n sources that may be stars.

    Attributes
    ----------
    image, weight
        ``(n, side, side)`` and its inverse variance, 0 where unusable.
    xy, offset
        ``(n, 2)`` centers (x, y) in pixels of the tile, and from the middle of the image.
    size
        ``(n,)`` standard deviation in pixels of the Gaussian that matches best.
    shear
        ``(n, 2)`` its reduced shear.
    """

    image: Array
    weight: Array
    xy: Array
    offset: Array
    size: Array
    shear: Array

    def take(self, index: NDArray[np.intp] | BoolArray) -> Candidates:
        """Return some of them."""
        return Candidates(*(values[index] for values in vars(self).values()))

    def __len__(self) -> int:
        return len(self.size)


def find_candidates(tile: Tile, config: StellarPsfConfig) -> Candidates:
    """Return the bright single sources of a tile of one band, its sky taken off."""
    margin = config.side // 2 + 2
    detect = DetectConfig(threshold=config.least_snr, margin=margin)
    blends = [b for b in find_blends(tile, detect) if len(b.xy) == 1 and not b.flags & UNFIT]
    found = [one for blend in blends if (one := _candidate(blend, config)) is not None]
    side = config.side
    image, weight, xy, offset, size, shear = zip(*found, strict=True) if found else ([],) * 6
    return Candidates(
        np.array(image, dtype=np.float64).reshape(-1, side, side),
        np.array(weight, dtype=np.float64).reshape(-1, side, side),
        np.array(xy, dtype=np.float64).reshape(-1, 2),
        np.array(offset, dtype=np.float64).reshape(-1, 2),
        np.array(size, dtype=np.float64),
        np.array(shear, dtype=np.float64).reshape(-1, 2),
    )


def _candidate(
    blend: Blend, config: StellarPsfConfig
) -> tuple[FloatArray, FloatArray, Array, Array, float, tuple[float, float]] | None:
    """Cut out a source; None where pixels near it are unusable or it has no Gaussian shape."""
    half = config.side // 2
    x, y = np.floor(blend.xy[0] + 0.5).astype(int)
    window = np.s_[0, y - half : y + half + 1, x - half : x + half + 1]
    weight = np.where(blend.unusable[window], 0, 1 / blend.variance[window])
    image = np.where(weight > 0, blend.image[window], np.float32(0))
    rows, columns = np.indices(image.shape) - half
    if (
        image.shape != (config.side,) * 2
        or (weight[np.hypot(rows, columns) < config.clear_radius] == 0).any()
    ):
        return None
    shape = moments(image)
    if shape is None:
        return None
    center, size, shear = shape
    offset = center - half
    return image, weight, blend.on_tile(np.array([[x, y]]))[0] + offset, offset, size, shear


def moments(image: NDArray[np.floating]) -> tuple[Array, float, tuple[float, float]] | None:
    """Return center (x, y), size and shear of the Gaussian that matches best; None if none does."""
    found = galsim.hsm.FindAdaptiveMom(
        galsim.Image(np.ascontiguousarray(image, dtype=np.float64), xmin=0, ymin=0), strict=False
    )
    if found.error_message:
        return None
    center = np.array([found.moments_centroid.x, found.moments_centroid.y])
    return center, found.moments_sigma, (found.observed_shape.g1, found.observed_shape.g2)


def choose_stars(found: Candidates, shape: Sequence[int], config: StellarPsfConfig) -> Candidates:
    """Return the candidates whose size is that of the smallest, as it changes over the tile.

    Parameters
    ----------
    shape
        Rows and columns of the tile.
    """
    if len(found) < config.least_stars:
        return found.take(np.zeros(0, dtype=np.intp))
    log_size, scatter = np.log(found.size), np.inf
    chosen = np.abs(log_size - _ridge(log_size, config)) < config.first_width
    for _ in range(config.rounds):
        n = int(chosen.sum())
        if n < config.least_stars:
            break
        terms = Polynomial(order_for(n, config), (shape[0], shape[1]))
        basis = terms.basis(found.xy)
        slopes = np.linalg.lstsq(basis[chosen], log_size[chosen], rcond=None)[0]
        off = log_size - basis @ slopes
        scatter = max(1.4826 * float(np.median(np.abs(off[chosen]))), config.least_scatter)
        chosen = np.abs(off) < config.clip * scatter
    # Galaxies scatter, and alone they have no ridge.
    return found.take(chosen & (scatter < config.most_scatter))


def _ridge(log_size: Array, config: StellarPsfConfig) -> float:
    """Return the first peak of the density in ln size: galaxies are larger than stars."""
    width = config.density_width
    grid = np.arange(log_size.min() - 3 * width, log_size.max() + 3 * width, width / 5)
    density = np.exp(-0.5 * ((grid[:, None] - log_size) / width) ** 2).sum(1)
    is_peak = (density[1:-1] >= density[:-2]) & (density[1:-1] > density[2:])
    high = density[1:-1] >= config.ridge * density.max()
    return float(grid[1:-1][is_peak & high][0])
