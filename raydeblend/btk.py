"""Our deblenders inside BlendingToolkit (Mendoza et al. 2025), for its `DeblendGenerator`.

BlendingToolkit is no dependency of this package; importing this module needs it installed
(docs/btk.md says how).
"""

from __future__ import annotations

from typing import Any

import galsim
import numpy as np
from astropy.table import Table
from btk.blend_batch import BlendBatch, DeblendBatch, DeblendExample
from btk.deblend import Deblender as BtkDeblender
from numpy.typing import NDArray
from surveycodex.utilities import mean_sky_level

import raydeblend
from raydeblend.tile import Deblender, FloatArray

PSF_SIZE = 41
"""Pixels on a side of the PSF stamps, odd."""


class RayDeblendDeblender(BtkDeblender):  # type: ignore[misc]
    """One of our deblenders as a BlendingToolkit deblender.

    Parameters
    ----------
    max_n_sources
        Most sources returned of a blend; of more, the brightest are kept.
    deblender
        A name that `raydeblend.load` knows, or a deblender.
    device
        A torch device; by default the GPU where there is one.

    Notes
    -----
    The catalogs have ``ra``, ``dec`` (arcsec, as BlendingToolkit's), ``x_peak``, ``y_peak``
    (pixels) and ``quality``; the images hold all bands of the survey.
    """

    def __init__(
        self,
        max_n_sources: int,
        deblender: str | Deblender = "joint",
        device: str | None = None,
    ) -> None:
        super().__init__(max_n_sources)
        loaded = raydeblend.load(deblender, device) if isinstance(deblender, str) else deblender
        self.deblender = loaded

    def deblend(self, ii: int, blend_batch: BlendBatch) -> DeblendExample:
        """Deblend one blend of a batch."""
        return self._examples(blend_batch, slice(ii, ii + 1))[0]

    def batch_call(self, blend_batch: BlendBatch, njobs: int = 1, **kwargs: Any) -> DeblendBatch:
        """Deblend a whole batch in one call; `njobs` is ignored, networks use batches better."""
        examples = self._examples(blend_batch, slice(None))
        return DeblendBatch(
            blend_batch.batch_size,
            self.max_n_sources,
            [example.catalog for example in examples],
            blend_batch.blend_images.shape[1],
            blend_batch.image_size,
            None,
            np.array([example.deblended_images for example in examples]),
            [example.extra_data for example in examples],
        )

    def __repr__(self) -> str:
        """Name under which `DeblendGenerator` files the results."""
        return f"{type(self).__name__}({self.deblender.name})"

    def _examples(self, batch: BlendBatch, part: slice) -> list[DeblendExample]:
        images = np.asarray(batch.blend_images[part], dtype=np.float32)
        result = self.deblender(
            images,
            variance=np.broadcast_to(sky_variance(batch), images.shape),
            psf=psf_stamps(batch),
            bands=tuple(batch.survey.available_filters),
            pixel_scale=float(batch.survey.pixel_scale.to_value("arcsec")),
        )
        rows = zip(result.models, result.xy, result.n_sources, result.quality, strict=True)
        return [self._example(batch, *row) for row in rows]

    def _example(
        self, batch: BlendBatch, models: FloatArray, xy: FloatArray, count: int, quality: str
    ) -> DeblendExample:
        k = min(int(count), self.max_n_sources)
        images = np.zeros((self.max_n_sources, *models.shape[1:]), dtype=np.float32)
        images[:k] = models[:k]
        n_bands, size = models.shape[1], batch.image_size
        table = catalog(batch, np.asarray(xy[:k], dtype=np.float64), str(quality))
        # As BlendingToolkit's own deblenders: no negative light.
        return DeblendExample(
            self.max_n_sources, table, n_bands, size, None, images.clip(0), {"n_found": int(count)}
        )


def catalog(batch: BlendBatch, xy: NDArray[np.float64], quality: str) -> Table:
    """Return the catalog of positions ``(k, 2)`` in pixels, in BlendingToolkit's columns."""
    ra, dec = batch.wcs.pixel_to_world_values(xy[:, 0], xy[:, 1])
    table = Table()
    # That WCS is in degrees from 0 to 360, BlendingToolkit's true catalogs in arcsec around 0.
    around = (np.asarray(ra) + 180) % 360 - 180
    table["ra"], table["dec"] = 3600 * around, 3600 * np.asarray(dec)
    table["x_peak"], table["y_peak"] = xy[:, 0], xy[:, 1]
    table["quality"] = np.full(len(xy), quality)
    return table


def sky_variance(batch: BlendBatch) -> NDArray[np.float32]:
    """Return the variance ``(bands, 1, 1)`` of the sky in counts²; that of sources is left out."""
    filters = (batch.survey.get_filter(band) for band in batch.survey.available_filters)
    level = [mean_sky_level(batch.survey, band).to_value("electron") for band in filters]
    return np.asarray(level, dtype=np.float32)[:, None, None]


def psf_stamps(batch: BlendBatch) -> NDArray[np.float32] | None:
    """Return the PSF ``(bands, py, px)``, normalized; None for a batch read from a file.

    BlendingToolkit saves PSFs on pixels that are not those of the images.
    """
    if not all(isinstance(psf, galsim.GSObject) for psf in batch.psf):
        return None
    scale = batch.survey.pixel_scale.to_value("arcsec")
    stamps = np.array(
        [psf.drawImage(nx=PSF_SIZE, ny=PSF_SIZE, scale=scale).array for psf in batch.psf]
    )
    return np.asarray(stamps / stamps.sum(axis=(1, 2), keepdims=True), dtype=np.float32)
