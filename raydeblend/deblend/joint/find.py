"""Find the sources of each stamp of a call: fitted all at once, or in crowds a few at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest, without_sources
from raydeblend.deblend.joint.bodies import Bodies, find_bodies, with_bodies
from raydeblend.deblend.joint.config import BlockConfig
from raydeblend.deblend.joint.crowds.patches import Patch, draw
from raydeblend.deblend.joint.crowds.separate import find_sources, fit_positions, grow
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.large import try_large
from raydeblend.deblend.joint.prune import drop_sources
from raydeblend.deblend.joint.search import add_sources, first_peaks
from raydeblend.deblend.joint.settings import FitSettings, Limit
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.deblend.joint.steep import try_steep
from raydeblend.deblend.joint.widths import bound_widths

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """The sources of a stamp, in a crowd the light of each, and peaks on bodies ``(n, 2)``.

    Of peaks on the bodies of large galaxies, those at which there is no source are structure.
    """

    fit: BlendFit
    patches: list[Patch] | None = None
    structure: Array | None = None

    @property
    def order(self) -> NDArray[np.intp]:
        """The sources, brightest first."""
        return np.argsort(-self.fit.total.sum(0), kind="stable")

    @property
    def has_body(self) -> bool:
        """Whether a large galaxy is among them."""
        return self.structure is not None

    def parts_xy(self, merged: NDArray[np.intp]) -> Array:
        """Return the positions ``(n, 2)`` of the parts of galaxies, some sources among them."""
        own = self.fit.xy[merged]
        return own if self.structure is None else np.concatenate([own, self.structure])

    def patches_of(self, stamp: Stamp, config: BlockConfig) -> list[Patch]:
        """Return the light of each source."""
        if self.patches is not None:
            return self.patches
        return [draw(stamp, self.fit, i, config) for i in range(len(self.fit.theta))]


def find_all(
    stamps: Sequence[Stamp], settings: FitSettings, most_values: float = np.inf
) -> list[Found]:
    """Fit the peaks of each stamp, then search for more sources and drop spurious ones.

    Parameters
    ----------
    most_values
        Sources times bands times pixels above which a crowd is not fitted at all.
    """
    settings = _with_deadline(settings, len(stamps))
    bodies = {i: large for i, stamp in enumerate(stamps) if (large := find_bodies(stamp, settings))}
    small = [i for i in range(len(stamps)) if i not in bodies]
    found = dict(zip(small, _find([stamps[i] for i in small], settings, most_values), strict=True))
    found |= {i: _on_bodies(large, settings, most_values) for i, large in bodies.items()}
    return [found[i] for i in range(len(stamps))]


def _on_bodies(bodies: Bodies, settings: FitSettings, most_values: float) -> Found:
    """Find what lies on bodies, fit these again without it, and look once more."""
    for look in range(settings.config.bodies.looks):
        if look:
            bodies = bodies.more(settings)
        (found,) = _find([bodies.rest], settings, most_values)
        patches = found.patches_of(bodies.rest, settings.config.blocks)
        bodies = bodies.again(patches, settings)
    fit = with_bodies(bodies, found.fit)
    return Found(fit, [*bodies.patches, *patches], bodies.structure())


def _find(stamps: Sequence[Stamp], settings: FitSettings, most_values: float) -> list[Found]:
    """Do the same of stamps without large galaxies."""
    peaks = [first_peaks(stamp) for stamp in stamps]
    few = [i for i, xy in enumerate(peaks) if not _is_crowd(xy, settings)]
    own, start = [stamps[i] for i in few], [peaks[i] for i in few]
    fits, grown = add_sources(own, fit_together(own, start, settings), settings)
    kept = [row for row in range(len(few)) if row not in grown]
    own = [own[row] for row in kept]
    bounded = bound_widths(own, [fits[row] for row in kept], settings)
    ended = drop_sources(own, bounded, settings)
    found = {few[row]: Found(fit) for row, fit in zip(kept, ended, strict=True)}
    for i, (stamp, xy) in enumerate(zip(stamps, peaks, strict=True)):
        if i in found:
            continue
        if len(xy) * stamp.image.size > most_values:
            found[i] = _given_up(stamp)
        elif _is_crowd(xy, settings):
            found[i] = Found(*find_sources(stamp, xy, settings))
        else:
            found[i] = Found(*grow(stamp, fits[few.index(i)], len(xy), settings))
    return [found[i] for i in range(len(stamps))]


def fit_all_given(
    stamps: Sequence[Stamp],
    start: Sequence[Array],
    settings: FitSettings,
    most_values: float = np.inf,
    *,
    drop_in_crowds: bool = False,
) -> list[Found]:
    """Fit sources at the positions ``(k, 2)`` of each stamp, and drop spurious ones if asked to.

    `drop_in_crowds` is only about crowds: otherwise the caller drops sources.
    """
    settings = _with_deadline(settings, len(stamps))
    few = [i for i, xy in enumerate(start) if not _is_crowd(xy, settings)]
    fits = fit_together([stamps[i] for i in few], [start[i] for i in few], settings)
    found = {i: Found(fit) for i, fit in zip(few, fits, strict=True)}
    for i, (stamp, xy) in enumerate(zip(stamps, start, strict=True)):
        if i in found:
            continue
        if len(xy) * stamp.image.size > most_values:
            found[i] = _given_up(stamp)
        else:
            found[i] = Found(*fit_positions(stamp, xy, settings, drop_in_crowds))
    return [found[i] for i in range(len(stamps))]


def fit_together(
    stamps: Sequence[Stamp], start: Sequence[Array], settings: FitSettings
) -> list[BlendFit]:
    """Fit all sources of each stamp at once, starting from galaxies of usual size at ``(k, 2)``."""
    requests = [
        FitRequest(stamp, xy, compact=np.zeros(len(xy), dtype=bool))
        for stamp, xy in zip(stamps, start, strict=True)
    ]
    fits = try_large(stamps, start, fit_requests(requests, settings), settings)
    return try_steep(stamps, fits, settings)


def _is_crowd(xy: Array, settings: FitSettings) -> bool:
    return len(xy) > settings.config.blocks.max_joint_sources


def _given_up(stamp: Stamp) -> Found:
    return Found(replace(without_sources(stamp), limited=True))


def _with_deadline(settings: FitSettings, stamps: int) -> FitSettings:
    limits = settings.config.limits
    limit = Limit(limits.most_work, time.monotonic() + limits.seconds * stamps)
    return replace(settings, limit=limit)
