"""Classical deblending: SExtractor (Bertin & Arnouts 1996) through sep, with DES's settings.

The baseline of Wang et al. (2022), section III.C, and what a footprint too large for a network
falls back on.  A model is the image inside the object's segment, so it keeps the noise and
gives every pixel to one object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf

from raydeblend.deblend.holes import fill_from_bands
from raydeblend.deblend.sources import Sources, stack_sources
from raydeblend.detect.noise import difference_noise
from raydeblend.tile import BoolArray, Deblended, FloatArray


@dataclass(frozen=True)
class SepConfig:
    """SExtractor's settings: DES's, from github.com/esheldon/sxdes 0.3.1, which Wang et al. cite.

    Attributes
    ----------
    threshold
        Of detection, in sigma of a smoothed pixel.
    min_area
        Fewest pixels of an object.
    levels, contrast
        Thresholds of the multi-threshold deblending, and the least part of the light of an object
        that a branch must have.
    kernel_fwhm, kernel_size
        Of the Gaussian that smooths, and the side of its array, in pixels.
    model_bytes
        Largest size of the models of one image: 42 sources of a footprint that fills a cell of 1024
        pixels, in which 5,000 would take 63 GB; 680 of one of 256 pixels.
    """

    threshold: float = 0.8
    min_area: int = 4
    levels: int = 64
    contrast: float = 0.001
    kernel_fwhm: float = 3.0
    kernel_size: int = 7
    model_bytes: int = 1 << 29


SEP = SepConfig()


class SepDeblender:
    """SExtractor on the sum of the bands; see `raydeblend.tile.Deblender` for the arguments.

    `psf`, `bands` and `pixel_scale` are accepted and not used.  The quality is ``none`` where
    nothing was detected, else ``medium``, since SExtractor does not rate its deblends.
    """

    name = "sep"
    band_masks = True

    @classmethod
    def load(cls, device: str | None = None) -> SepDeblender:
        """Return the deblender, which has no weights and runs on a CPU whatever the `device`."""
        return cls()

    def __call__(
        self,
        images: ArrayLike,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        psf: ArrayLike | None = None,
        bands: tuple[str, ...] | None = None,
        pixel_scale: float | None = None,
    ) -> Deblended:
        """Deblend a batch ``(n, bands, y, x)``."""
        batch = np.asarray(images, dtype=np.float32)
        found = [
            classical_models(
                image,
                None if variance is None else np.asarray(variance)[i],
                None if mask is None else np.asarray(mask)[i],
            )
            for i, image in enumerate(batch)
        ]
        return stack_sources([Sources.unrated(*own) for own in found], batch.shape)


def classical_models(
    image: FloatArray,
    variance: FloatArray | None = None,
    mask: BoolArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Detect and deblend one image; see `classical_segments`.

    Returns
    -------
    models
        ``(k, bands, y, x)`` in the input's unit, brightest first; k may be 0.  Of a crowded field
        only the brightest, as many as fit into memory (`SepConfig`).
    xy
        ``(k, 2)`` isophotal barycenters in pixels.
    """
    found = classical_segments(image, variance, mask)
    k = min(len(found.xy), max(1, SEP.model_bytes // image.nbytes))
    inside = found.labels == np.arange(1, k + 1)[:, None, None]
    return np.where(inside[:, None], found.light, np.float32(0)), found.xy[:k]


@dataclass(frozen=True)
class Segments:
    """The objects of one image, none of which shares a pixel with another.

    Attributes
    ----------
    light
        ``(bands, y, x)`` the image; where it is unusable in some of the bands, as the others have
        it, and 0 where in all.
    labels
        ``(y, x)`` to which object a pixel belongs: 1 for the brightest, 0 for none.
    xy
        ``(k, 2)`` isophotal barycenters in pixels.
    """

    light: FloatArray
    labels: NDArray[np.int32]
    xy: FloatArray


def classical_segments(
    image: FloatArray,
    variance: FloatArray | None = None,
    mask: BoolArray | None = None,
) -> Segments:
    """Detect and deblend one image, whose models are not drawn.

    Parameters
    ----------
    image
        ``(bands, y, x)`` of any size, in any linear unit, background subtracted.
    variance
        Same shape, unit squared; estimated from the image when None.
    mask
        ``(y, x)`` or ``(bands, y, x)``, true where unusable.  A pixel that is usable in some
        bands is filled in the others, so that nothing looks like an edge.
    """
    bad = ~np.isfinite(image)
    if mask is not None:
        bad |= np.asarray(mask, dtype=bool)
    clean = fill_holes(np.where(bad, 0, image), variance, bad)
    detection = clean.sum(axis=0)
    noise = _noise(clean, variance, bad)
    objects, segments = _extract(detection, noise, np.all(bad, axis=0))
    flux = np.bincount(segments.ravel(), detection.ravel(), minlength=len(objects) + 1)[1:]
    order = np.argsort(-flux, kind="stable")
    number = np.zeros(len(order) + 1, dtype=np.int32)
    number[order + 1] = np.arange(1, len(order) + 1)
    xy = np.stack([objects["x"], objects["y"]], axis=-1)
    return Segments(clean, number[segments], xy[order].astype(np.float32))


def fill_holes(image: FloatArray, variance: FloatArray | None, bad: BoolArray) -> FloatArray:
    """Return ``(bands, y, x)`` filled from the other bands where only some are bad.

    See `raydeblend.deblend.holes.fill_from_bands`.
    """
    if not (bad.any(axis=0) & ~bad.all(axis=0)).any():
        return image
    sigma = _typical_noise(image, variance, bad)
    return np.asarray(fill_from_bands(image / sigma, bad) * sigma, dtype=image.dtype)


def _extract(
    image: NDArray[np.floating], noise: NDArray[np.floating], mask: BoolArray
) -> tuple[NDArray[np.void], NDArray[np.int32]]:
    # With room for an object in every `min_area` pixels sep cannot overflow, for which it would
    # raise a bare Exception and lose the whole image.
    sep.set_sub_object_limit(max(1024, image.size // SEP.min_area))
    sep.set_extract_pixstack(max(300_000, image.size))
    objects, segments = sep.extract(
        image.astype(np.float64),
        SEP.threshold,
        err=noise.astype(np.float64),
        mask=mask,
        minarea=SEP.min_area,
        filter_kernel=_kernel(),
        filter_type="conv",
        deblend_nthresh=SEP.levels,
        deblend_cont=SEP.contrast,
        segmentation_map=True,
    )
    return objects, segments


def _kernel() -> NDArray[np.float64]:
    """Return the smoothing Gaussian, integrated over each pixel; sep normalizes it."""
    edges = np.arange(SEP.kernel_size + 1) - SEP.kernel_size / 2
    profile = np.diff(erf(edges * np.sqrt(4 * np.log(2)) / SEP.kernel_fwhm))
    return np.outer(profile, profile)


def _noise(clean: FloatArray, variance: FloatArray | None, bad: BoolArray) -> FloatArray:
    """Noise ``(y, x)`` of the sum of the bands, what is filled having that of its band."""
    if variance is None:
        noise = float(difference_noise(clean.sum(axis=0))) or 1.0
        return np.full(clean.shape[1:], noise, dtype=np.float32)
    filled = bad & ~bad.all(axis=0) & ~bad.all(axis=(1, 2), keepdims=True)
    known = np.where(bad, 0, variance)
    if filled.any():
        known = np.where(filled, _typical_noise(clean, variance, bad) ** 2, known)
    return np.asarray(np.sqrt(known.sum(axis=0)), dtype=np.float32)


def _typical_noise(image: FloatArray, variance: FloatArray | None, bad: BoolArray) -> FloatArray:
    """Return the noise of a usable pixel of each band, ``(bands, 1, 1)``; 1 where there is none."""
    if variance is None:
        sigma = difference_noise(np.where(bad, np.nan, image))
    else:
        each = zip(np.asarray(variance), bad, strict=True)
        sigma = np.sqrt([np.median(own[~lost]) if not lost.all() else 1.0 for own, lost in each])
    return np.where(sigma > 0, sigma, 1.0).astype(np.float32)[:, None, None]
