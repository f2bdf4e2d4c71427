"""Pieces of one galaxy that a network took for several, put together again.

A network that meets a galaxy unlike those of its training draws one of the usual kind, and then
takes what is left of it for more of them.  Sources that share a peak of the image are therefore
fitted together with profiles of any concentration (`raydeblend.deblend.joint`).  The brightest
stays, since it was detected; each other one must gain there as much as one that the joint fit
itself would add, or its light goes back to the source that has most light under it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from raydeblend.deblend.base import Call
from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest, better_of, refit
from raydeblend.deblend.joint.deblender import JointDeblender, one_thread
from raydeblend.deblend.joint.evidence import least_gain
from raydeblend.deblend.joint.find import fit_together
from raydeblend.deblend.joint.fitting import fit_requests, render
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.deblend.sources import positions_of
from raydeblend.tile import BoolArray, FloatArray

Found = tuple[FloatArray, FloatArray]
"""Models ``(k, bands, y, x)`` and positions ``(k, 2)`` of one stamp, the brightest first."""
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Doubt:
    """Sources that share a peak, some of which may be pieces of another.

    Attributes
    ----------
    stamp
        Their blend without the light of all others.
    fit
        Of the sources that are left.
    left
        ``(k,)`` which these are, the brightest of all being 0.
    doubtful
        ``(k,)`` those that are not confirmed.
    """

    stamp: Stamp
    fit: BlendFit
    left: Indices
    doubtful: BoolArray

    @property
    def weakest(self) -> int:
        """The least significant of the doubtful."""
        return int(np.argmin(np.where(self.doubtful, self.fit.snr, np.inf)))

    def without_weakest(self, settings: FitSettings) -> FitRequest:
        """Return the fit without it, whose goal is the objective at which it is a piece."""
        rest = self.fit.without(self.weakest)
        others = render(self.stamp, rest, settings.device)
        at = self.fit.xy[self.weakest]
        least = least_gain(self.stamp, others, at, settings.config.search)
        return refit(self.stamp, rest, self.fit.objective + least)

    def decided(self, request: FitRequest, trial: BlendFit, settings: FitSettings) -> Doubt:
        """Return what is left when the weakest is confirmed or, as the trial has it, gone."""
        apart = np.hypot(*(self.fit.xy - self.fit.xy[self.weakest]).T)
        nearest = np.delete(apart, self.weakest).min()
        least = settings.config.prune.min_separation * self.stamp.width
        is_piece = bool(nearest < least) or trial.objective < request.goal
        fit = better_of(self.fit, trial, is_piece)
        doubtful = self.doubtful.copy()
        doubtful[self.weakest] = False
        here = np.ones(len(doubtful), dtype=bool)
        here[self.weakest] = not is_piece
        return Doubt(self.stamp, fit, self.left[here], doubtful[here])


def join_pieces(
    call: Call,
    found: Sequence[Found],
    peaks: Sequence[NDArray[np.float64]],
    device: torch.device,
) -> list[Found]:
    """Return the sources of each stamp, pieces being part of the models of their galaxies.

    Without a PSF nothing can tell them from galaxies, and all stay.

    Parameters
    ----------
    call
        Of the stamps.
    found
        Models in noise units.
    peaks
        ``(m, 2)`` of each stamp.
    """
    pairs = zip(found, peaks, strict=True)
    shared = [(i, group) for i, (own, near) in enumerate(pairs) for group in sharing(own[1], near)]
    if call.psf is None or not shared:
        return list(found)
    rows, number = np.unique([i for i, _ in shared], return_inverse=True)
    some, fitter = call.take(rows), fitter_on(device)
    stamps, _ = fitter.make_stamps(
        some.images, some.variance, some.mask, some.psf, some.pixel_scale
    )
    blends = [
        _without_others(stamps[n], found[i][0], group)
        for n, (i, group) in zip(number, shared, strict=True)
    ]
    with one_thread():
        left = confirmed(blends, [found[i][1][group] for i, group in shared], fitter.settings)
    homes = {i: np.arange(len(found[i][1])) for i in rows.tolist()}
    for (i, group), own in zip(shared, left, strict=True):
        homes[i][group] = group[_homes(found[i][0][group], own)]
    return [_joined(*own, homes[i]) if i in homes else own for i, own in enumerate(found)]


def fitter_on(device: torch.device) -> JointDeblender:
    """Return the joint fit that tells pieces from galaxies."""
    return JointDeblender(device)


def sharing(xy: FloatArray, peaks: NDArray[np.float64]) -> Iterator[Indices]:
    """Yield sources ``(k, 2)`` to which the same one of the peaks ``(m, 2)`` is the nearest.

    Each time two or more, in the order given.
    """
    nearest = cdist(xy, peaks).argmin(axis=1) if len(peaks) else np.zeros(len(xy), dtype=np.intp)
    for peak in np.unique(nearest):
        group = np.flatnonzero(nearest == peak)
        if len(group) > 1:
            yield group


def confirmed(
    stamps: Sequence[Stamp], xy: Sequence[FloatArray], settings: FitSettings
) -> list[Indices]:
    """Return which of the sources at positions ``(k, 2)`` of each stamp are no pieces.

    The first of each stamp is none.
    """
    fits = fit_together(stamps, [np.asarray(each, dtype=np.float64) for each in xy], settings)
    doubts = [
        Doubt(stamp, fit, np.arange(len(fit.theta)), np.arange(len(fit.theta)) > 0)
        for stamp, fit in zip(stamps, fits, strict=True)
    ]
    while going := [i for i, doubt in enumerate(doubts) if doubt.doubtful.any()]:
        requests = [doubts[i].without_weakest(settings) for i in going]
        trials = fit_requests(requests, settings)
        for i, request, trial in zip(going, requests, trials, strict=True):
            doubts[i] = doubts[i].decided(request, trial, settings)
    return [doubt.left for doubt in doubts]


def _without_others(stamp: Stamp, models: FloatArray, group: Indices) -> Stamp:
    """Return the stamp without the light of sources that are not in the group."""
    return stamp.showing(stamp.image - np.delete(models, group, axis=0).sum(axis=0))


def _homes(models: FloatArray, left: Indices) -> Indices:
    """Return for each of the models the one that it is a part of, of those that are `left`."""
    light = np.einsum("kbyx,lbyx->kl", models, models[left], optimize=True)
    homes: Indices = left[light.argmax(axis=1)]
    homes[left] = left
    return homes


def _joined(models: FloatArray, xy: FloatArray, homes: Indices) -> Found:
    """Return the models at their homes, the brightest first, and their positions."""
    kept = np.flatnonzero(homes == np.arange(len(homes)))
    if len(kept) == len(homes):
        return models, xy
    whole = np.zeros_like(models)
    np.add.at(whole, homes, models)
    order = kept[np.argsort(-whole[kept].sum(axis=(1, 2, 3)), kind="stable")]
    return whole[order], positions_of(whole[order])
