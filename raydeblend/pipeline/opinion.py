"""A second opinion: some footprints are deblended again by another method, to see the difference.

The fluxes of both methods are those of the models inside the footprint, since not every method
extends its models beyond it.  Footprints are chosen by a hash of their identifier, so that the
choice does not depend on how a run is cut, resumed or spread over workers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.config import CatalogConfig
from raydeblend.detect.ids import mixed
from raydeblend.flags import Flag
from raydeblend.pipeline.accounts import nearest_pairs
from raydeblend.pipeline.config import FOOTPRINTS
from raydeblend.pipeline.deblended import DeblendedCell, DeblendedParent
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.tile import Blend, FloatArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SecondOpinion:
    """The other method, and the fraction of the blends that it deblends.

    Attributes
    ----------
    deblend
        The stage with the other deblender.
    fraction
        Fraction of the footprints with several sources.
    """

    deblend: DeblendCell
    fraction: float

    @property
    def weights_hash(self) -> str:
        """Hash of what decides the other method's result."""
        return self.deblend.weights_hash

    def __call__(self, separated: DeblendedCell) -> DeblendedCell:
        """Return the cell with the differences that the other method found."""
        detected, parts = separated.detected, list(separated.parts)
        chosen = self._chosen(separated)
        blends = tuple(detected.blends[i] for i in chosen)
        others = self.deblend(replace(detected, blends=blends))
        seen = Counter(blend.parent_id for blend in others.detected.blends)
        found = {
            blend.parent_id: part
            for blend, part in zip(others.detected.blends, others.parts, strict=True)
            # A footprint separated in pieces appears several times.
            if seen[blend.parent_id] == 1
        }
        for i, blend in zip(chosen, blends, strict=True):
            if blend.parent_id in found:
                other, own = found[blend.parent_id], parts[i]
                unlike = other.flags & int(Flag.UNLIKE_TRAINING)
                opinion = difference(blend, own, other)
                parts[i] = replace(own, opinion=opinion, flags=own.flags | unlike)
        return replace(separated, parts=tuple(parts))

    def _chosen(self, separated: DeblendedCell) -> list[int]:
        """Return the numbers of the footprints to ask about: blends in one piece, no crowds."""
        pairs = zip(separated.detected.blends, separated.parts, strict=True)
        several = [
            i
            for i, (blend, part) in enumerate(pairs)
            if 1 < max(len(blend.xy), len(part.xy)) <= FOOTPRINTS.crowded and not part.of_footprint
        ]
        identifiers = np.array([separated.detected.blends[i].parent_id for i in several], np.int64)
        chosen = is_chosen(identifiers, self.fraction)
        return [i for i, yes in zip(several, chosen, strict=True) if yes]


def second_opinion(config: CatalogConfig) -> SecondOpinion | None:
    """Return the second opinion that a configuration asks for, or None.

    Raises
    ------
    ConfigError
        If the other deblender cannot be loaded.
    """
    if config.second_opinion is None:
        return None
    other = replace(
        config,
        deblender=config.second_opinion,
        second_opinion=None,
        photometry="auto",
        weights=None,
        save=(),
    )
    return SecondOpinion(DeblendCell(other), config.second_opinion_fraction)


def is_chosen(identifiers: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """Return which footprints are in a fraction of all, pseudo-randomly but always the same."""
    return np.asarray(mixed(identifiers) / 2.0**64 < fraction)


def difference(blend: Blend, part: DeblendedParent, other: DeblendedParent) -> Array:
    """Return the other method's fluxes minus the own ones, ``(k, bands)`` in nJy.

    Sources are matched one to one by `nearest_pairs`; the other method's flux
    of a source without a match is 0.  NaN in bands without data.
    """
    own, theirs = _light(blend, part.models), _light(blend, other.models)
    pair = nearest_pairs(part.xy.astype(np.float64), other.xy.astype(np.float64))
    matched = np.where(pair[:, None] >= 0, theirs[pair], 0.0)
    missing = blend.unusable.all(axis=(1, 2))
    return np.where(missing, np.nan, matched - own)


def _light(blend: Blend, models: FloatArray) -> Array:
    """Return the models' fluxes inside the footprint ``(k, bands)``."""
    inside = np.where(blend.footprint, models, np.float32(0))
    return np.asarray(inside.sum(axis=(2, 3), dtype=np.float64))
