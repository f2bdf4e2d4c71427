"""Where the residual shows another source: its peaks, each fitted alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import FitRequest
from raydeblend.deblend.joint.config import SearchConfig
from raydeblend.deblend.joint.evidence import least_gains
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.detect.footprints import matched_filters
from raydeblend.detect.peaks import find_peaks, refine_peaks
from raydeblend.detect.smoothing import smoothed_stamp
from raydeblend.fit.parameters import PARAMETERS, POSITION
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]


def find_candidates(
    stamps: Sequence[Stamp], models: Sequence[FloatArray], settings: FitSettings
) -> list[Array]:
    """Return of each stamp theta ``(m, 9)`` of the candidates that gain enough, best first.

    Each is fitted alone to the residual about its position.
    """
    config = settings.config.search
    requests: list[FitRequest] = []
    owner: list[int] = []
    for i, (stamp, light) in enumerate(zip(stamps, models, strict=True)):
        own = _alone(stamp, light, config)
        requests += own
        owner += [i] * len(own)
    fits = fit_requests(requests, settings)
    empty = [0.5 * r.stamp.chi2_of_sky for r in requests]
    gain = np.array(empty) - [fit.objective for fit in fits]
    theta = np.array([fit.theta[0] for fit in fits]).reshape(-1, PARAMETERS)
    belongs = np.array(owner, dtype=np.intp)
    least = np.zeros(len(owner))
    for i in set(owner):
        own = theta[belongs == i][:, POSITION]
        least[belongs == i] = least_gains(stamps[i], models[i], own, config)
    parts = gain / np.maximum(least, config.min_gain)
    return [
        theta[belongs == i][_promising(parts[belongs == i], config.rescue_fraction)]
        for i in range(len(stamps))
    ]


def _alone(stamp: Stamp, models: FloatArray, config: SearchConfig) -> list[FitRequest]:
    """Return fits of single sources to the residual at its peaks."""
    total = models.sum(0)
    rest = stamp.showing(stamp.image - total)
    radius = config.candidate_radius * stamp.width
    requests = []
    for xy in residual_peaks(stamp, total, config):
        near = rest.keep(np.hypot(*(rest.centers.T - xy).T) < radius)
        if len(near.starts):
            requests.append(FitRequest(near, xy[None], np.ones(1, dtype=bool)))
    return requests


def residual_peaks(stamp: Stamp, total: FloatArray, config: SearchConfig) -> Array:
    """Return the positions ``(m, 2)`` of significant peaks of the residual, well apart.

    The light of the models counts as noise too: in each pixel by the part of it that may be
    wrong there, and in the sum over the filter by what does not average out.  They are `total`
    ``(bands, y, x)`` together.
    """
    weight = stamp.weight / (1 + stamp.weight * (config.model_error * total) ** 2)
    light, rest = matched_filters([total, stamp.image - total], weight, stamp.width, smoothed_stamp)
    noise = np.sqrt(1 + (config.smooth_error * light) ** 2)
    image = np.asarray(rest / noise, dtype=np.float32)
    least = config.min_significance
    return refine_peaks(image, find_peaks(image, image > least, least, 0.0))


def _promising(gain: Array, rescue_fraction: float) -> NDArray[np.intp]:
    """Return which gains, as parts of the least, are enough, the best first.

    Only the best of those that gain less is let through to the joint fit, in which others may
    make way for it.
    """
    order = np.argsort(-gain, kind="stable")
    chosen = order[gain[order] > 1]
    return chosen if len(chosen) else order[:1][gain[order[:1]] > rescue_fraction]
