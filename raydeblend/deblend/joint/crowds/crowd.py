"""The sources of a large blend, each with its own light, and the residual of all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest, join, without_sources
from raydeblend.deblend.joint.crowds.patches import Patch, draw
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.tile import BoolArray, Box, FloatArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

UNREACHED = sys.float_info.max
"""What no fit gains."""


@dataclass(frozen=True)
class Member:
    """A source of a crowd: its fit, its expected position ``(2,)`` and its light."""

    fit: BlendFit
    start: Array
    patch: Patch


@dataclass(frozen=True)
class Trial:
    """What some sources were fitted to be instead, the others' light held.

    Attributes
    ----------
    group
        Numbers of the sources that it replaces.
    part
        The samples on which it was fitted, with all light but the others'.
    start
        ``(m, 2)`` expected positions of what it puts in their place.
    before
        Objective of the sources as they were, on the same samples.
    """

    group: Indices
    part: Stamp
    start: Array
    before: float
    fit: BlendFit

    @property
    def gain(self) -> float:
        """By how much the objective falls; −∞ where there is no fit."""
        gain = self.before - self.fit.objective
        return gain if np.isfinite(gain) and not self.fit.limited else -np.inf


class Crowd:
    """A blend of many sources, which are changed a few at a time.

    No step costs more for sources that are far away: a group is fitted on the samples that it
    lights, to the image less the others' light, which is at hand as the residual.

    Parameters
    ----------
    stamp
        The whole blend.
    """

    def __init__(self, stamp: Stamp, settings: FitSettings) -> None:
        self.stamp, self.settings = stamp, settings
        self.config = settings.config.blocks
        self.rest = stamp.image.astype(np.float64)
        self.members: dict[int, Member] = {}
        self.work, self.limited = 0.0, False
        self.fresh: BoolArray = np.ones(stamp.image.shape[1:], dtype=bool)
        """Pixels ``(y, x)`` about sources that changed since they were looked at last."""
        self._places = np.full((64, 2), np.inf)
        self._born = 0
        self._sample = np.full(stamp.image.shape[1:], -1, dtype=np.int32)
        self._sample.flat[stamp.pixels] = np.repeat(np.arange(len(stamp.starts)), stamp.sizes)
        self._core = _disc(self.config.core_radius * stamp.width)

    @property
    def numbers(self) -> Indices:
        """Of all its sources, in the order in which they came."""
        return np.array(sorted(self.members), dtype=np.intp)

    @property
    def shape(self) -> tuple[int, int]:
        """Of its images, ``(y, x)``."""
        return self.stamp.image.shape[1], self.stamp.image.shape[2]

    def at_limit(self) -> bool:
        """Tell whether the work must end, and remember it."""
        self.limited = self.limited or self.settings.limit.reached(self.work)
        return self.limited

    def near(self, xy: Array, most: int, but: Iterable[int] = ()) -> Indices:
        """Return up to `most` sources, those nearest to a position ``(2,)``, but some."""
        squared = ((self._places[: self._born] - xy) ** 2).sum(1)
        squared[list(but)] = np.inf
        some = np.argpartition(squared, most)[:most] if most < len(squared) else slice(None)
        order = np.arange(len(squared))[some]
        order = order[np.lexsort((order, squared[order]))]
        return np.asarray(order[np.isfinite(squared[order])])

    def fits(self, group: Indices) -> BlendFit:
        """Return the fit of some of its sources."""
        if not len(group):
            return without_sources(self.stamp)
        return join([self.members[number].fit for number in group.tolist()])

    def positions(self, group: Indices) -> Array:
        """Return where some of its sources are, ``(k, 2)``."""
        return self._places[group]

    def starts(self, group: Indices) -> Array:
        """Return the expected positions ``(k, 2)`` of some of its sources."""
        return np.array([self.members[n].start for n in group.tolist()]).reshape(-1, 2)

    def try_fit(
        self,
        group: Indices,
        base: BlendFit,
        start: Array,
        must_gain: float = -np.inf,
        also: Array | None = None,
    ) -> Trial:
        """Fit other sources in place of a group, from `base`, without changing the crowd.

        Parameters
        ----------
        start
            ``(m, 2)`` expected positions of those of `base`.
        must_gain
            Decrease of the objective to reach; a fit that is unlikely to is stopped.  `UNREACHED`
            ends it after the steps of a trial.
        also
            ``(n, 2)`` positions around which pixels count too.
        """
        places = base.xy if also is None else np.concatenate([base.xy, also])
        part = self.part(self.samples_of(group, places), group)
        before = 0.5 * (self._chi2(part) + part.scatter)
        before += sum(float(self.members[number].fit.prior[0]) for number in group.tolist())
        request = FitRequest(part, start, base.compact, base, before - must_gain)
        return Trial(group, part, start, before, self._fitted(request))

    def fit_first(self, samples: Indices, start: Array) -> None:
        """Fit new sources at their expected positions ``(k, 2)`` on some samples, hastily."""
        part = self.part(samples, np.zeros(0, dtype=np.intp))
        request = FitRequest(part, start, np.zeros(len(start), dtype=bool), goal=-UNREACHED)
        nobody = np.zeros(0, dtype=np.intp)
        self.accept(Trial(nobody, part, start, np.inf, self._fitted(request)))

    def accept(self, trial: Trial) -> Indices:
        """Put the sources of a trial in the place of its group; return their numbers.

        They keep the numbers of the group as far as these go.
        """
        old, count = trial.group.tolist(), len(trial.fit.theta)
        for number in old:
            patch = self.members.pop(number).patch
            patch.add_to(self.rest)
            self.fresh[patch.box.slices] |= patch.lit
            self._places[number] = np.inf
        numbers = old[:count] + [self._born + i for i in range(count - len(old))]
        self._born += max(count - len(old), 0)
        for source, number in enumerate(numbers):
            self._place(number, trial, source)
        return np.array(numbers, dtype=np.intp)

    def samples_of(self, group: Indices, places: Array) -> Indices:
        """Return the samples that a group lights, and those about positions ``(n, 2)``."""
        patches = [self.members[number].patch for number in group.tolist()]
        disc = np.ones(self._core.shape, dtype=bool)
        half = len(disc) // 2
        corners = [np.floor(xy[::-1] + 0.5).astype(int) - half for xy in places]
        boxes = [Box(y, x, y + len(disc), x + len(disc)) for y, x in corners]
        boxes += [patch.box for patch in patches]
        masks = [self._core] * len(corners) + [patch.lit for patch in patches]
        around = _hull(boxes).clip(Box(0, 0, *self.shape))
        if around.y1 <= around.y0 or around.x1 <= around.x0:
            return np.zeros(0, dtype=np.intp)
        chosen = np.zeros(around.shape, dtype=bool)
        for box, mask in zip(boxes, masks, strict=True):
            common = box.clip(around)
            if common.y1 > common.y0 and common.x1 > common.x0:
                own = mask[common.shift(-box.y0, -box.x0).slices]
                chosen[common.shift(-around.y0, -around.x0).slices] |= own
        found = np.unique(self._sample[around.slices][chosen])
        return found[found >= 0].astype(np.intp)

    def part(self, samples: Indices, group: Indices) -> Stamp:
        """Return some samples of the image less all sources but a group."""
        stamp = self.stamp
        pixels, sizes = _runs(stamp, samples)
        y, x = np.divmod(pixels, self.shape[1])
        box = Box(y.min(), x.min(), y.max() + 1, x.max() + 1) if len(y) else Box(0, 0, 1, 1)
        window = (slice(None), *box.slices)
        image = self.rest[window].copy()
        for number in group.tolist():
            self.members[number].patch.add_to(image, (box.y0, box.x0))
        part = replace(
            stamp,
            image=image.astype(np.float32),
            weight=stamp.weight[window],
            pixels=(y - box.y0) * box.shape[1] + x - box.x0,
            starts=np.cumsum(sizes) - sizes,
            origin=(int(box.y0), int(box.x0)),
        )
        part.remember(mixture=stamp.mixture)
        return part

    def about(self, xy: Array, radius: float) -> Stamp:
        """Return the residual's samples within PSF widths of a position ``(2,)``."""
        half = int(np.ceil(radius * self.stamp.width)) + 1
        y, x = (int(v) for v in np.floor(np.clip(xy[::-1], -1e6, 1e6) + 0.5))
        box = Box(y, x, y + 1, x + 1).grow(half).clip(Box(0, 0, *self.shape))
        samples = np.unique(self._sample[box.slices])
        part = self.part(samples[samples >= 0].astype(np.intp), np.zeros(0, dtype=np.intp))
        return part.keep(np.hypot(*(part.centers.T - xy).T) < radius * self.stamp.width)

    def light(self, part: Stamp, trial: Trial | None = None, but: int = -1) -> FloatArray:
        """Return the light ``(bands, h, w)`` of all sources in the window of a part.

        With a trial, of those that it puts in the place of its group, but one.
        """
        (y0, x0), (height, width) = part.origin, part.image.shape[1:]
        window = (slice(None), *Box(y0, x0, y0 + height, x0 + width).slices)
        light = self.stamp.image[window] - self.rest[window]
        if trial is None:
            return light.astype(np.float32)
        own = np.zeros_like(light)
        for number in trial.group.tolist():
            self.members[number].patch.add_to(own, part.origin)
        light -= own
        for source in range(len(trial.fit.theta)):
            if source != but:
                draw(self.stamp, trial.fit, source, self.config).add_to(light, part.origin)
        return light.astype(np.float32)

    def result(self) -> tuple[BlendFit, list[Patch]]:
        """Return all sources as one fit, and their light."""
        numbers = self.numbers
        chi2 = self.stamp.chi2(self.rest.astype(np.float32)) + self.stamp.scatter
        fit = replace(self.fits(numbers), chi2=chi2, work=self.work, limited=self.limited)
        return fit, [self.members[number].patch for number in numbers.tolist()]

    def _place(self, number: int, trial: Trial, source: int) -> None:
        own = trial.fit.take(np.array([source]))
        patch = draw(self.stamp, own, 0, self.config)
        patch.take_from(self.rest)
        self.fresh[patch.box.slices] |= patch.lit
        while number >= len(self._places):
            self._places = np.concatenate([self._places, np.full_like(self._places, np.inf)])
        self._places[number] = own.xy[0]
        self.members[number] = Member(own, trial.start[source], patch)

    def _fitted(self, request: FitRequest) -> BlendFit:
        (fit,) = fit_requests([request], self.settings)
        self.work += fit.work
        return fit

    def _chi2(self, part: Stamp) -> float:
        """Return χ² of the residual at the samples of a part."""
        (y0, x0), (height, width) = part.origin, part.image.shape[1:]
        return part.chi2(self.rest[:, y0 : y0 + height, x0 : x0 + width].astype(np.float32))


def _disc(radius: float) -> BoolArray:
    """Return a square mask of the pixels within a radius of its middle."""
    half = int(np.ceil(radius)) + 1
    steps = np.arange(-half, half + 1)
    return np.asarray(np.hypot(steps[:, None], steps) < radius)


def _hull(boxes: Sequence[Box]) -> Box:
    edges = np.array([(box.y0, box.x0, box.y1, box.x1) for box in boxes]).reshape(-1, 4)
    if not len(edges):
        return Box(0, 0, 0, 0)
    return Box(*edges[:, :2].min(0).tolist(), *edges[:, 2:].max(0).tolist())


def _runs(stamp: Stamp, samples: Indices) -> tuple[Indices, Indices]:
    """Return the pixels of some samples, one sample after the other, and how many each has."""
    sizes, first = stamp.sizes[samples], stamp.starts[samples]
    begin = np.cumsum(sizes) - sizes
    within = np.arange(int(sizes.sum())) - np.repeat(begin, sizes)
    return stamp.pixels[np.repeat(first, sizes) + within], sizes
