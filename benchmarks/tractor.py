"""Tractor, parametric galaxies fitted to pixels, where it is installed and given positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.sources import Sources
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.baselines import TRACTOR
from raydeblend.evaluate.common.given import GivenBlend, GivenDeblender
from raydeblend.tile import FloatArray

FIRST_RADIUS, FIRST_INDEX = 0.3, 1.0
"""Start of every galaxy, round: half-light radius in arcsec and Sérsic index."""
MAX_STEPS, LEAST_GAIN = 50, 0.01
"""Optimized until ln L gains less."""
CORE = 3
"""Pixels about a position whose sum is the first flux."""


@dataclass(frozen=True)
class TractorSersic(GivenDeblender):
    """Tractor with a Sérsic galaxy at each given position, all bands at once."""

    tractor: ModuleType
    sersic: ModuleType
    optimizer: ModuleType
    name: str = TRACTOR

    @classmethod
    def find(cls) -> TractorSersic | None:
        """Return the deblender, or None where the package does not import."""
        names = ("tractor", "tractor.sersic", "tractor.constrained_optimizer")
        try:
            tractor, sersic, optimizer = (import_module(name) for name in names)
        except ImportError:
            return None
        return cls(tractor, sersic, optimizer)

    def separate(
        self, blend: GivenBlend, bands: Sequence[str] | None, pixel_scale: float | None
    ) -> Sources:
        """Return the sources of one blend, brightest first.

        Raises
        ------
        ConfigError
            If bands or pixel scale are missing.
        """
        if bands is None or pixel_scale is None:
            raise ConfigError(f"{self.name} must be given bands and pixel scale")
        return self._fitted(self._views(blend, bands, pixel_scale), blend.xy)

    def _views(self, blend: GivenBlend, bands: Sequence[str], pixel_scale: float) -> list[Any]:
        """Return an image of Tractor's for each band."""
        module = self.tractor
        return [
            module.Image(
                data=data,
                invvar=own,
                psf=module.PixelizedPSF(stamp),
                wcs=module.NullWCS(pixscale=pixel_scale),
                photocal=module.FluxesPhotoCal(band),
                sky=module.ConstantSky(0.0),
            )
            for data, own, stamp, band in zip(
                blend.image, blend.weight, blend.psf, bands, strict=True
            )
        ]

    def _fitted(self, views: list[Any], xy: NDArray[np.float64]) -> Sources:
        """Return the sources that fit some views."""
        galaxies = [self._galaxy(views, x, y) for x, y in xy]
        fit = self.tractor.Tractor(views, galaxies, optimizer=self.optimizer.ConstrainedOptimizer())
        fit.freezeParam("images")
        fit.optimize_loop(dchisq=LEAST_GAIN, steps=MAX_STEPS, shared_params=False, priors=True)
        models = np.stack([self._seen(fit, galaxy) for galaxy in galaxies])
        places = np.array([[galaxy.pos.x, galaxy.pos.y] for galaxy in galaxies], np.float32)
        order = np.argsort(-models.sum(axis=(1, 2, 3)), kind="stable")
        return Sources(models[order], places[order], "medium")

    def _galaxy(self, views: list[Any], x: float, y: float) -> Any:
        module = self.tractor
        row, column = (int(np.floor(c + 0.5)) for c in (y, x))
        core = np.s_[max(row - CORE, 0) : row + CORE + 1, max(column - CORE, 0) : column + CORE + 1]
        fluxes = {view.photocal.band: max(float(view.data[core].sum()), 1.0) for view in views}
        return self.sersic.SersicGalaxy(
            module.PixPos(x, y),
            module.Fluxes(order=list(fluxes), **fluxes),
            module.EllipseESoft(np.log(FIRST_RADIUS), 0.0, 0.0),
            self.sersic.SersicIndex(FIRST_INDEX),
        )

    def _seen(self, fit: Any, galaxy: Any) -> FloatArray:
        """Return a source's model ``(bands, y, x)``."""
        images = [fit.getModelImage(view, srcs=[galaxy], sky=False) for view in fit.images]
        return np.stack(images).astype(np.float32)
