"""The galaxies of a blend: which sources of the fit belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.tile import Box

Array = NDArray[np.float64]
Number = TypeVar("Number", np.float32, np.float64)


@dataclass(frozen=True)
class Galaxies:
    """m galaxies, the brightest first, each of one or more of the k sources of a fit.

    Attributes
    ----------
    part_of
        ``(k,)`` the galaxy of each source.
    brightest
        ``(m,)`` the brightest source of each.
    """

    part_of: NDArray[np.intp]
    brightest: NDArray[np.intp]

    @classmethod
    def of(cls, chosen: NDArray[np.intp], light: Array) -> Galaxies:
        """Return the galaxies of sources ``(k,)`` that name the brightest source of theirs.

        `light` ``(k,)`` is the flux of all bands.
        """
        brightest, part_of = np.unique(chosen, return_inverse=True)
        order = np.argsort(-np.bincount(part_of, light, len(brightest)), kind="stable")
        return cls(np.argsort(order)[part_of], brightest[order])

    @property
    def merged(self) -> NDArray[np.intp]:
        """The sources that are parts of a galaxy whose brightest another one is."""
        return np.flatnonzero(self.brightest[self.part_of] != np.arange(len(self.part_of)))

    def sums(self, values: NDArray[Number]) -> NDArray[Number]:
        """Return the sums ``(m, ...)`` over the sources of each galaxy of values ``(k, ...)``."""
        out = np.zeros((len(self.brightest), *values.shape[1:]), dtype=values.dtype)
        for galaxy, own in zip(self.part_of, values, strict=True):
            out[galaxy] += own
        return out

    def patches(self, parts: Sequence[Patch]) -> list[Patch]:
        """Return the light of each galaxy from the k patches of its sources."""
        members: list[list[Patch]] = [[] for _ in self.brightest]
        for galaxy, part in zip(self.part_of, parts, strict=True):
            members[galaxy].append(part)
        return [own[0] if len(own) == 1 else _joined(own) for own in members]


def _joined(parts: Sequence[Patch]) -> Patch:
    edges = np.array([(p.box.y0, p.box.x0, p.box.y1, p.box.x1) for p in parts])
    box = Box(*edges[:, :2].min(0).tolist(), *edges[:, 2:].max(0).tolist())
    light = np.zeros((len(parts[0].light), *box.shape), dtype=np.float32)
    lit = np.zeros(box.shape, dtype=bool)
    for part in parts:
        part.add_to(light, (box.y0, box.x0))
        lit[part.box.shift(-box.y0, -box.x0).slices] |= part.lit
    return Patch(box, light, lit)
