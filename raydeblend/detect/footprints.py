"""Detection: one significance image from all bands, its footprints, and a Blend for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.detect.cores import CoreConfig, with_cores
from raydeblend.detect.cutouts import cut_blend
from raydeblend.detect.peaks import find_peaks, refine_peaks, sharpened
from raydeblend.detect.smoothing import Smoothing, smoothed
from raydeblend.errors import ConfigError
from raydeblend.tile import Blend, BoolArray, FloatArray, Tile

__all__ = ["DetectConfig", "detection_image", "find_blends"]

_TOUCHING = np.ones((3, 3), dtype=int)
# Widths of the kernel from which a side of an image holds half of it at each end.
_WIDE = 4.0


@dataclass(frozen=True)
class DetectConfig:
    """What counts as a source.

    Attributes
    ----------
    threshold
        Least significance of a source's peak: the signal to noise of a point source in all bands
        together.  At 5, the HSC pipeline's value (Bosch et al. 2018, section 4.7), noise alone
        gives 10⁻³ sources per arcmin².
    isophote
        Significance down to which pixels belong to a footprint; at most `threshold`.
    min_area
        Fewest pixels of a footprint.
    prominence
        Least height of a peak, of the sharpened image, above the saddle to a higher one, in
        standard deviations.
    contrast
        The same as a fraction of the peak.
    margin
        Pixels between a footprint and the edge of its stamp.
    mean_width
        Width of the local mean that the image is sharpened by, in those of the PSF.
    min_coverage
        Least part of the squared kernel on usable pixels; with less, nothing is detected.
    cores
        How the cores of saturated stars are seen.

    Raises
    ------
    ConfigError
        On construction, if a value is not valid.
    """

    threshold: float = 5.0
    isophote: float = 3.0
    min_area: int = 5
    prominence: float = 4.0
    contrast: float = 0.05
    margin: int = 12
    mean_width: float = 2.0
    min_coverage: float = 0.1
    cores: CoreConfig = field(default_factory=CoreConfig)

    def __post_init__(self) -> None:
        if not 0 < self.threshold < np.inf:
            raise ConfigError(f"the detection threshold must be above 0, not {self.threshold}")
        if not self.isophote > 0:
            raise ConfigError(f"the footprints' isophote must be above 0, not {self.isophote}")
        if not 0 <= self.contrast < 1 or not self.prominence >= 0:
            raise ConfigError(
                "a peak's contrast must be within 0 and 1, its prominence not negative"
            )
        if self.min_area < 1 or self.margin < 0:
            raise ConfigError("a footprint needs at least one pixel and a margin not negative")

    @property
    def outline(self) -> float:
        """Significance at which footprints end; never above that of a peak."""
        return min(self.isophote, self.threshold)


def find_blends(tile: Tile, config: DetectConfig) -> list[Blend]:
    """Return one Blend per footprint, in the order of their brightest peaks.

    Parameters
    ----------
    tile
        Background-subtracted.
    """
    tile, cores = with_cores(tile, config.cores)
    significance = detection_image(tile, cores, config.min_coverage)
    peaks, xy = significant_peaks(significance, psf_width(tile), config)
    labels = label_footprints(significance > config.outline, peaks, config.min_area)
    owner = labels[tuple(peaks.T)]
    peaks, xy, owner = peaks[owner > 0], xy[owner > 0], owner[owner > 0]
    return [
        cut_blend(tile, cores, labels, label, box, peaks[own], xy[own], config.margin)
        for label, box in enumerate(ndimage.find_objects(labels), start=1)
        for own in [owner == label]
    ]


def significant_peaks(
    significance: FloatArray, width: float, config: DetectConfig
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the peaks of a significance image ``(y, x)``, the highest first.

    Parameters
    ----------
    width
        Standard deviation in pixels of a Gaussian that stands for the PSF.

    Returns
    -------
    pixels, xy
        ``(k, 2)`` as (y, x), and sub-pixel positions (x, y).
    """
    sharp = sharpened(significance, config.mean_width * width)
    peaks = find_peaks(sharp, significance > config.outline, config.prominence, config.contrast)
    height = significance[tuple(peaks.T)]
    peaks = peaks[np.argsort(-height, kind="stable")][: np.sum(height >= config.threshold)]
    return peaks, refine_peaks(sharp, peaks)


def detection_image(
    tile: Tile,
    cores: FloatArray | None = None,
    min_coverage: float = DetectConfig.min_coverage,
) -> FloatArray:
    """Return the significance ``(y, x)`` of a point source at each pixel, all bands together.

    The matched filter for a source of equal flux density in every band and a Gaussian PSF k,
    Σ_b k∗(image_b / var_b) / (Σ_b k²∗(1 / var_b))^½: of unit variance in empty sky, with bad
    pixels and missing bands simply without weight, so that narrow gaps are bridged.  How large the
    variance is says nothing about coverage: in the core of a bright star most of it is the star's
    own photon noise.  Where no band has data over more than a PSF there is nothing to detect.

    Parameters
    ----------
    cores
        Light of saturated stars that their masks hide, see `cores`, which counts as data.
    min_coverage
        See `DetectConfig`.
    """
    hidden = np.float32(0) if cores is None else cores
    inverse = np.where(tile.unusable & (hidden == 0), 0.0, 1.0 / tile.variance)
    width = psf_width(tile)
    image = np.where(tile.unusable, hidden, tile.image)
    found = matched_filter(image, inverse, width, min_coverage=min_coverage)
    found[_is_hole(tile, width)] = 0
    return found


def _is_hole(tile: Tile, width: float) -> BoolArray:
    """Tell which pixels ``(y, x)`` lie in squares without data in any band, wider than the PSF."""
    blind = tile.unusable.all(axis=0) & ~tile.saturated
    side = 2 * int(np.ceil(width)) + 1
    # What lies beyond the pixels is not known to be data.
    square = ndimage.minimum_filter(blind, size=side, mode="nearest")
    return np.asarray(ndimage.maximum_filter(square, size=side, mode="nearest"), dtype=bool)


def matched_filter(
    image: NDArray[np.floating],
    inverse: NDArray[np.floating],
    sigma: float,
    smooth: Smoothing = smoothed,
    min_coverage: float = DetectConfig.min_coverage,
) -> FloatArray:
    """Return the significance ``(y, x)`` of `detection_image`.

    Parameters
    ----------
    image, inverse
        ``(bands, y, x)`` and its inverse variance, 0 where unusable.
    sigma
        Standard deviation in pixels of the Gaussian that stands for the PSF.
    smooth
        How images are smoothed: see `smoothing`.
    min_coverage
        See `DetectConfig`.
    """
    return matched_filters([image], inverse, sigma, smooth, min_coverage)[0]


def matched_filters(
    images: Sequence[NDArray[np.floating]],
    inverse: NDArray[np.floating],
    sigma: float,
    smooth: Smoothing = smoothed,
    min_coverage: float = DetectConfig.min_coverage,
) -> list[FloatArray]:
    """Return `matched_filter` of several images of the same variance."""
    weight = inverse.sum(0)
    # The square of a Gaussian kernel is a Gaussian narrower by √2, times 1 / (4πσ²).
    square = smooth(weight, sigma / np.sqrt(2)) / (4 * np.pi * sigma**2)
    enough = _covered(weight > 0, sigma, min_coverage) & (square > 0)
    root = np.sqrt(np.where(enough, square, 1.0))
    signals = ((image * inverse).sum(0) for image in images)
    tops = (smooth(signal, sigma) for signal in signals)
    return [np.where(enough, top / root, 0.0).astype(np.float32) for top in tops]


def _covered(usable: NDArray[np.bool_], sigma: float, least: float) -> NDArray[np.bool_]:
    """Tell where such a part of the squared kernel falls on pixels that are usable in any band."""
    if usable.all() and min(usable.shape) > _WIDE * sigma:
        # A quarter of the kernel falls on the image even at its corners.
        return usable
    part = ndimage.gaussian_filter(usable.astype(np.float32), sigma / np.sqrt(2), mode="constant")
    return np.asarray(part > least)


def psf_width(tile: Tile) -> float:
    """Return the standard deviation in pixels of a Gaussian as high as the bands' mean PSF.

    The mean over the whole tile, so that it does not depend on how the tile is cut: a filter too
    wide or too narrow by a tenth costs half a per cent of the signal to noise.
    """
    bands = tile.psf.bands
    present = [band.height for band, bad in zip(bands, tile.unusable, strict=True) if not bad.all()]
    return _width(present or [band.height for band in bands])


def gaussian_width(psf: Sequence[NDArray[np.floating[Any]]]) -> float:
    """Return the standard deviation in pixels of a Gaussian as high as the stamps' mean."""
    return _width([float(stamp.max() / stamp.sum()) for stamp in psf])


def _width(heights: Sequence[float]) -> float:
    return float(np.clip(1 / np.sqrt(2 * np.pi * np.mean(heights)), 0.7, 10.0))


def label_footprints(
    detected: NDArray[np.bool_], peaks: NDArray[np.intp], min_area: int
) -> NDArray[np.int32]:
    """Return the connected regions that hold a peak, numbered in the order of the peaks."""
    labels, n = ndimage.label(detected, structure=_TOUCHING)
    large = np.bincount(labels.ravel(), minlength=n + 1) >= min_area
    found = labels[tuple(peaks.T)]
    _, first = np.unique(found, return_index=True)
    kept = [label for label in found[np.sort(first)] if large[label]]
    number = np.zeros(n + 1, dtype=np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    return np.asarray(number[labels])
