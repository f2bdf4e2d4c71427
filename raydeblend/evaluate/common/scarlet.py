"""scarlet (Melchior et al. 2018, A&C 24, 129), where it is installed, given where the sources are.

scarlet 1.0 needs numpy below 2, so that it cannot live in this package's environment; in one that
has both, the protocols with given positions get its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import numpy as np

from raydeblend.deblend.sources import Sources
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.given import GivenBlend, GivenDeblender

NAME = "scarlet"
MODEL_SIGMA = 0.8
"""Pixels: the Gaussian PSF of its models, as in its documentation."""
COMPONENTS, MIN_SNR = 2, 50
"""As in its documentation: a second component where the source is bright enough."""
STEPS, RELATIVE_ERROR = 200, 1e-6
"""Until it converges: its documentation stops at 1e-4, 2 dB worse in a third of the time."""


def find_scarlet() -> ModuleType | None:
    """Return the package, or None where it is not installed; PyPI's `scarlet` is another one."""
    try:
        found = import_module(NAME)
    except ImportError:
        return None
    return found if hasattr(found, "Frame") and hasattr(found, "Observation") else None


@dataclass(frozen=True)
class ScarletDeblender(GivenDeblender):
    """scarlet 1.0, run to convergence, as a deblender that must be given positions."""

    scarlet: ModuleType
    name: str = NAME

    @classmethod
    def load(cls) -> ScarletDeblender:
        """Return the deblender.

        Raises
        ------
        ConfigError
            If scarlet is not installed.
        """
        found = find_scarlet()
        if found is None:
            raise ConfigError("scarlet is not installed here; it needs an environment of its own")
        return cls(found)

    def separate(
        self, blend: GivenBlend, bands: Sequence[str] | None, pixel_scale: float | None
    ) -> Sources:
        """Return the sources of one blend, brightest first."""
        image, _, weight, psf, xy = blend
        scarlet, channels = self.scarlet, list(range(len(image)))
        model_psf = scarlet.GaussianPSF(sigma=(MODEL_SIGMA,) * len(image))
        frame = scarlet.Frame(image.shape, psf=model_psf, channels=channels)
        # It normalizes the PSF it is given in place.
        psf_model = scarlet.ImagePSF(psf.copy())
        observation = scarlet.Observation(
            image, psf=psf_model, weights=weight, channels=channels
        ).match(frame)
        # Positions are (y, x) there.
        sources, skipped = scarlet.initialization.init_all_sources(
            frame,
            [(y, x) for x, y in xy],
            observation,
            max_components=COMPONENTS,
            min_snr=MIN_SNR,
            thresh=1,
            fallback=True,
            silent=True,
            set_spectra=True,
        )
        scarlet.Blend(sources, observation).fit(STEPS, e_rel=RELATIVE_ERROR)
        models = np.stack([observation.render(source.get_model(frame=frame)) for source in sources])
        kept = np.delete(xy, list(skipped), axis=0)
        order = np.argsort(-models.sum(axis=(1, 2, 3)), kind="stable")
        return Sources(models[order].astype(np.float32), kept[order].astype(np.float32), "medium")
