"""Fluxes of sources whose profiles are as free as those of galaxies.

While sources are sought their profiles are held near exponential disks with bulges: a galaxy of any
profile takes the light of neighbors that are not found yet.  Once all are found, fluxes are those
of a last fit that lets the profiles go.  Sizes and shapes, which noise would bias, stay, and so do
the models: what they leave of the image tells of neighbors that were not recognized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raydeblend.deblend.joint.blend_fit import BlendFit, refit
from raydeblend.deblend.joint.find import Found
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp


def free_profiles(
    stamps: Sequence[Stamp], found: Sequence[Found], settings: FitSettings
) -> list[BlendFit]:
    """Return the fits of all stamps with free profiles.

    Those of crowds and of large bodies, whose sources are not fitted at once, stay as they are.
    """
    fits = [own.fit for own in found]
    chosen = [i for i, own in enumerate(found) if own.patches is None and len(own.fit.theta)]
    wide = replace(settings.priors, index_width=settings.config.photometry.index_width)
    requests = [refit(stamps[i], fits[i]) for i in chosen]
    for i, fit in zip(chosen, fit_requests(requests, replace(settings, priors=wide)), strict=True):
        if np.isfinite(fit.objective) and (fit.total.sum(0) > 0).all():
            fits[i] = replace(fit, work=fits[i].work + fit.work, limited=fits[i].limited)
    return fits


def with_fluxes(fit: BlendFit, other: BlendFit) -> BlendFit:
    """Return a fit with the fluxes of another one of the same sources, and their covariances.

    What part of the light is in the bulge stays, as the sizes do, where there is light.
    """
    lit = fit.total > 0
    ratio = other.total / np.where(lit, fit.total, 1)
    flux = np.where(lit[..., None], fit.flux * ratio[..., None], other.flux)
    return replace(fit, flux=flux, flux_cov=other.flux_cov, work=other.work)
