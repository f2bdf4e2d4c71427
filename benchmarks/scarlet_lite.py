"""scarlet_lite, what Rubin's pipeline deblends with, where it is installed and given positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from raydeblend.deblend.sources import Sources
from raydeblend.evaluate.common.baselines import SCARLET_LITE
from raydeblend.evaluate.common.given import GivenBlend, GivenDeblender
from raydeblend.tile import FloatArray

# The settings of Rubin's pipeline (meas_extensions_scarlet).
MODEL_SIGMA = 0.8
"""Pixels: the Gaussian PSF of its models."""
MIN_SNR = 50
"""Of each component; below it a source is the PSF."""
MIN_STEPS, MAX_STEPS, RELATIVE_ERROR = 15, 300, 1e-2
LARGEST_SHAPE = (101, 101)
"""Pixels of the largest monotonic shape."""


@dataclass(frozen=True)
class ScarletLite(GivenDeblender):
    """scarlet_lite as a deblender that must be given positions."""

    lite: ModuleType
    name: str = SCARLET_LITE

    @classmethod
    def find(cls) -> ScarletLite | None:
        """Return the deblender, or None where the package does not import."""
        try:
            return cls(import_module("lsst.scarlet.lite"))
        except ImportError:
            return None

    def separate(
        self, blend: GivenBlend, bands: Sequence[str] | None, pixel_scale: float | None
    ) -> Sources:
        """Return the sources of one blend, brightest first."""
        image, variance, weight, psf, xy = blend
        lite = self.lite
        model_psf = lite.utils.integrated_circular_gaussian(sigma=MODEL_SIGMA)
        observation = lite.Observation(
            image,
            variance,
            weight,
            psf,
            model_psf[None].astype(np.float32),
            bands=tuple(range(len(image))),
        )
        # Its centers are whole pixels, (y, x).
        centers = [(int(y), int(x)) for x, y in np.floor(xy + 0.5)]
        monotonicity = lite.operators.Monotonicity(LARGEST_SHAPE)
        start = lite.initialization.FactorizedInitialization(
            observation, centers, min_snr=MIN_SNR, monotonicity=monotonicity
        )
        fit = lite.Blend(start.sources, observation).fit_spectra()
        fit.parameterize(lite.component.default_adaprox_parameterization)
        fit.fit(MAX_STEPS, e_rel=RELATIVE_ERROR, min_iter=MIN_STEPS)
        kept = [k for k, source in enumerate(fit.sources) if not source.is_null]
        models = np.stack([self._seen(fit.sources[k], observation) for k in kept])
        order = np.argsort(-models.sum(axis=(1, 2, 3)), kind="stable")
        return Sources(models[order], xy[kept][order].astype(np.float32), "medium")

    def _seen(self, source: Any, observation: Any) -> FloatArray:
        """Return a source's model ``(bands, y, x)`` behind the PSF of the image."""
        whole = self.lite.Image.from_box(
            observation.bbox, bands=observation.bands, dtype=np.float32
        )
        whole.insert(source.get_model())
        return np.asarray(observation.convolve(whole).data, dtype=np.float32)
