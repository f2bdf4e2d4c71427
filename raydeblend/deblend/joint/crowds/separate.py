"""A crowd from its peaks, or from given positions, to its sources."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit, without_sources
from raydeblend.deblend.joint.crowds.crowd import Crowd, Trial
from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.deblend.joint.crowds.prune import drop_sources
from raydeblend.deblend.joint.crowds.search import add_sources
from raydeblend.deblend.joint.crowds.sweeps import fit_peaks, settle
from raydeblend.deblend.joint.crowds.widths import bound_widths
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp

Array = NDArray[np.float64]
Separated = tuple[BlendFit, list[Patch]]
"""The sources of a crowd, and the light of each."""


def find_sources(stamp: Stamp, peaks: Array, settings: FitSettings) -> Separated:
    """Fit a source at each peak ``(k, 2)``, then search for more and drop those that are none.

    Where the work ended before all peaks were fitted, there are no sources.
    """
    crowd = Crowd(stamp, _enough_for(len(peaks), settings))
    fit_peaks(crowd, peaks)
    if crowd.limited:
        return replace(without_sources(stamp), work=crowd.work, limited=True), []
    unsettled = settle(crowd, crowd.config.rough)
    return _search(crowd, len(peaks), set(unsettled.tolist()))


def grow(stamp: Stamp, fit: BlendFit, peaks: int, settings: FitSettings) -> Separated:
    """Search for more sources in a fit of few peaks, then drop as above."""
    crowd = Crowd(stamp, _enough_for(peaks, settings))
    nobody = np.zeros(0, dtype=np.intp)
    crowd.accept(Trial(nobody, stamp, fit.xy.copy(), np.inf, fit))
    crowd.work = fit.work
    return _search(crowd, peaks, set())


def fit_positions(stamp: Stamp, xy: Array, settings: FitSettings, drop: bool) -> Separated:
    """Fit a source at each of some positions ``(k, 2)``; drop those that are none if asked to."""
    crowd = Crowd(stamp, _enough_for(len(xy), settings))
    fit_peaks(crowd, xy)
    if crowd.limited:
        return replace(without_sources(stamp), work=crowd.work, limited=True), []
    settle(crowd, crowd.config)
    if drop:
        settle(crowd, crowd.config, _indices(drop_sources(crowd)))
    return crowd.result()


def _search(crowd: Crowd, peaks: int, changed: set[int]) -> Separated:
    """Search, bound and drop, then fit again what that or the sweeps before it changed last."""
    changed = changed | add_sources(crowd, peaks)
    changed |= bound_widths(crowd)
    changed |= drop_sources(crowd)
    settle(crowd, crowd.config, _indices(changed & set(crowd.members)))
    return crowd.result()


def _indices(numbers: set[int]) -> NDArray[np.intp]:
    return np.array(sorted(numbers), dtype=np.intp)


def _enough_for(sources: int, settings: FitSettings) -> FitSettings:
    """Return the settings with a limit of work that grows with the sources."""
    limit, config = settings.limit, settings.config.limits
    work = max(limit.work, config.work_per_source * sources)
    return replace(settings, limit=replace(limit, work=work))
