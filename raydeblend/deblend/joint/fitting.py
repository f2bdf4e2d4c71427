"""Fits of blends and the images of their sources, wherever they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from raydeblend.deblend.joint import batching, compiled
from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest, without_sources
from raydeblend.deblend.joint.blocks import around, blocks
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.tile import FloatArray


def fit_requests(requests: Sequence[FitRequest], settings: FitSettings) -> list[BlendFit]:
    """Fit all blends: on a CPU one after the other, compiled, else many together.

    The limit is for those of more than `max_joint_sources`; the others end in any case.
    """
    most = settings.config.blocks.max_joint_sources
    fits, small = {}, []
    for i, request in enumerate(requests):
        if not len(request.start):
            fits[i] = without_sources(request.stamp)
        elif len(request.start) > most:
            fits[i] = _fit_blocks(request, settings)
        else:
            small.append(i)
    if settings.compiled:
        fits.update((i, compiled.fit(requests[i], settings.priors)) for i in small)
    else:
        fits.update(batching.fit_batches(requests, small, settings))
    return [fits[i] for i in range(len(requests))]


def render(stamp: Stamp, fit: BlendFit, device: torch.device) -> FloatArray:
    """Return the sources' images ``(k, bands, y, x)``."""
    if not len(fit.theta):
        return np.zeros((0, *stamp.image.shape), dtype=np.float32)
    if device.type == "cpu":
        return compiled.render(stamp, fit)
    return batching.render(stamp, fit, device)


def _fit_blocks(request: FitRequest, settings: FitSettings) -> BlendFit:
    """Fit a blend of many sources by blocks of near ones, each on the image less the others."""
    stamp, config = request.stamp, settings.config.blocks
    if len(request.start) * stamp.image.size > settings.config.limits.most_values:
        return replace(without_sources(stamp), limited=True)
    fit = _first(request, settings)
    sweeps, work = config.sweeps if request.base is None else 1, 0.0
    models = render(stamp, fit, settings.device)
    for sweep in range(sweeps):
        for block in blocks(request.start, config.max_joint_sources, request.changed):
            part = around(stamp, models, request.start, block, config)
            base = fit.take(block) if sweep or request.base is not None else None
            own = FitRequest(part, request.start[block], request.compact[block], base)
            (done,) = fit_requests([own], settings)
            fit.put(block, done)
            models[block] = render(stamp, done, settings.device)
            work += done.work
            if settings.limit.reached(work):
                return replace(without_sources(stamp), work=work, limited=True)
    chi2 = stamp.chi2(stamp.image - models.sum(0)) + stamp.scatter
    return replace(fit, compact=request.compact, chi2=chi2, work=work)


def _first(request: FitRequest, settings: FitSettings) -> BlendFit:
    """Return what blocks are written to: a copy of the base, or usual galaxies without light."""
    if request.base is not None:
        return request.base.take(np.arange(len(request.start)))
    theta = settings.priors.usual(torch.from_numpy(request.start[None])).numpy()[0]
    return without_sources(request.stamp).add(theta, compact=False)
