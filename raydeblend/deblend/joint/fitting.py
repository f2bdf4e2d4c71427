"""Fits of blends and the images of their sources, wherever they are computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from raydeblend.deblend.joint import batching, compiled
from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest, without_sources
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.tile import FloatArray


def fit_requests(requests: Sequence[FitRequest], settings: FitSettings) -> list[BlendFit]:
    """Fit all blends: on a CPU one after the other, compiled, else many together."""
    fits: dict[int, BlendFit] = {}
    some = [i for i, request in enumerate(requests) if len(request.start)]
    fits.update(
        (i, without_sources(request.stamp))
        for i, request in enumerate(requests)
        if not len(request.start)
    )
    if settings.compiled:
        fits.update((i, compiled.fit(requests[i], settings.priors)) for i in some)
    else:
        fits.update(batching.fit_batches(requests, some, settings))
    return [fits[i] for i in range(len(requests))]


def render(stamp: Stamp, fit: BlendFit, device: torch.device) -> FloatArray:
    """Return the sources' images ``(k, bands, y, x)``; the search asks for the last ones again."""
    if not len(fit.theta):
        return np.zeros((0, *stamp.image.shape), dtype=np.float32)
    drawn = stamp.drawn
    if drawn.get("theta") is not fit.theta or drawn.get("flux") is not fit.flux:
        compute = device.type == "cpu"
        images = compiled.render(stamp, fit) if compute else batching.render(stamp, fit, device)
        drawn.update(theta=fit.theta, flux=fit.flux, images=images)
    return np.asarray(drawn["images"], dtype=np.float32)
