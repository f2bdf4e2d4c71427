"""The deblending stage: the footprints of a cell in, the sources of each out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from raydeblend.config import CatalogConfig
from raydeblend.deblend import load_deblender
from raydeblend.deblend.familiar import Familiar, shipped_inputs, statistics
from raydeblend.deblend.masks import mask_for
from raydeblend.deblend.plugins import OwnDeblender
from raydeblend.deblend.unrecognized.model import shipped_model
from raydeblend.detect.footprints import gaussian_width
from raydeblend.flags import Flag
from raydeblend.pipeline.accounting import (
    CLASSICAL,
    Piece,
    account_of,
    account_of_separated,
    classical_pieces,
)
from raydeblend.pipeline.accounts import Account
from raydeblend.pipeline.answers import JOINT, part_of, undivided
from raydeblend.pipeline.bad import shipped_bad
from raydeblend.pipeline.batches import cores_for, deblender_image, psf_for
from raydeblend.pipeline.config import FOOTPRINTS
from raydeblend.pipeline.deblended import DeblendedCell, DeblendedParent
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.pieces import separated_pieces
from raydeblend.pipeline.stars import shipped_stars
from raydeblend.tile import Blend, Deblended, Deblender, Separated

if TYPE_CHECKING:
    from raydeblend.pipeline.suspects import Suspects

# Pixels of one band in a batch: 128 stamps of 64 x 64, which bounds the network's memory.
BATCH_PIXELS = 1 << 19


class DeblendCell:
    """Deblends the footprints of one cell after another with a deblender loaded once.

    Parameters
    ----------
    config
        Names the deblender, and says whether it is applied to footprints with a single peak.
    deblender
        Replaces the named one.

    Raises
    ------
    ConfigError
        If the deblender cannot be loaded.
    """

    def __init__(self, config: CatalogConfig, deblender: Deblender | None = None) -> None:
        self.config = config
        self.deblender = deblender or load_deblender(config.deblender, weights=config.weights)
        self.suspects = load_suspects(self.deblender, config.suspect_threshold)

    @property
    def weights_hash(self) -> str:
        """Hash of what decides the catalog besides the configuration.

        Weights of networks, parameters of the joint fit, the source of a user's own deblender, and
        the calibrations of suspects, of stars, of bad fluxes and of networks' inputs.
        """
        own = str(getattr(self.deblender, "weights_hash", ""))
        source = self.deblender.source_hash if isinstance(self.deblender, OwnDeblender) else ""
        suspects = self.suspects.weights_hash if self.suspects else ""
        shipped = [model.sha256[:16] for model in (shipped_stars(), shipped_bad())]
        shipped += [shipped_inputs().sha256[:16]] if self._familiar else []
        return "-".join(part for part in (own, source, suspects, *shipped) if part)

    @property
    def _familiar(self) -> Familiar | None:
        """What the network was trained on, if it is a shipped one."""
        return shipped_inputs().of(self.config.weights or self.deblender.name)

    def __call__(self, detected: Detected) -> DeblendedCell:
        """Deblend the footprints of a cell, stamps of equal size together."""
        return self._with_work(detected.work_factor)._separate(detected)

    def _with_work(self, factor: float) -> DeblendCell:
        """Return the stage with the work limits of its deblender, if any, times a factor."""
        with_work = getattr(self.deblender, "with_work", None)
        if factor == 1 or with_work is None:
            return self
        other = copy(self)
        other.deblender = with_work(factor)
        return other

    def _separate(self, detected: Detected) -> DeblendedCell:
        usual: list[Blend] = []
        large: list[Blend] = []
        for blend in detected.blends:
            (large if self._too_large(blend) else usual).append(blend)
        parts = self._parts(replace(detected, blends=tuple(usual)))
        accounts = list(map(account_of, usual, parts))
        pieces: list[Piece] = []
        for blend in large:
            account, own = self._pieces(blend, detected)
            accounts.append(account)
            pieces += own
        blends = (*usual, *(blend for blend, _ in pieces))
        return DeblendedCell(
            replace(detected, blends=blends),
            (*parts, *(part for _, part in pieces)),
            tuple(accounts),
        )

    def _pieces(self, blend: Blend, detected: Detected) -> tuple[Account, list[Piece]]:
        """Return the account of a large footprint's peaks, and its pieces.

        They are separated by the deblender if it takes footprints of any size, else by sep.
        """
        separate = getattr(self.deblender, "separate_footprint", None)
        if separate is None:
            return classical_pieces(blend, own=self.deblender.name == CLASSICAL)
        found: Separated = separate(
            deblender_image(blend),
            blend.variance,
            blend.unusable,
            psf_for(self.deblender, detected.psf, [blend]),
            detected.task.cell.tile.pixel_scale,
            **cores_for(self.deblender, [blend]),
        )
        if not len(found.xy):
            return classical_pieces(blend, found.limited, found.work)
        psf = detected.psf if self.config.photometry == JOINT else None
        keep = bool(self.config.save)
        pieces = list(separated_pieces(blend, found, self.deblender.name, psf, keep))
        return account_of_separated(blend, found, pieces), pieces

    def _too_large(self, blend: Blend) -> bool:
        """Tell whether one array cannot hold the models of a footprint's sources."""
        crowded = self.deblender.name == CLASSICAL and len(blend.xy) > FOOTPRINTS.crowded
        return bool(blend.flags & Flag.DEBLEND_FALLBACK) or crowded

    def _parts(self, detected: Detected) -> tuple[DeblendedParent, ...]:
        parts: dict[int, DeblendedParent] = {}
        offered: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, blend in enumerate(detected.blends):
            if len(blend.xy) > 1 or self.config.deblend_singles:
                alone = (i,) if len(blend.xy) > FOOTPRINTS.crowded else ()
                offered[(*blend.image.shape, *alone)].append(i)
            else:
                parts[i] = undivided(blend, "isolated", self.deblender.name)
        for i, part in self._deblend(detected, offered.values()):
            parts[i] = part
        ordered = tuple(parts[i] for i in range(len(detected.blends)))
        return self.suspects(detected, ordered) if self.suspects else ordered

    def _deblend(
        self, detected: Detected, groups: Iterable[Sequence[int]]
    ) -> Iterator[tuple[int, DeblendedParent]]:
        for group in groups:
            for batch in _batches(group, detected.blends[group[0]].image[0].size):
                blends = [detected.blends[i] for i in batch]
                result = self._call(blends, detected)
                flags = self._flags(blends, detected)
                for row, (i, blend) in enumerate(zip(batch, blends, strict=True)):
                    part = part_of(blend, result, row, self.deblender.name)
                    yield i, replace(part, flags=part.flags | flags[row])

    def _flags(self, blends: Sequence[Blend], detected: Detected) -> list[int]:
        """Return UNLIKE_TRAINING ``(n,)`` for stamps unlike the network's training data, else 0."""
        known = self._familiar
        if known is None:
            return [0] * len(blends)
        header = detected.task.cell.tile
        bands = network_bands(self.deblender, header.bands)
        images = np.stack([deblender_image(blend)[bands] for blend in blends])
        noise = np.sqrt(np.stack([blend.variance[bands] for blend in blends]))
        psfs = [detected.psf_of(blend) for blend in blends]
        widths = [gaussian_width([psf[band] for band in bands]) for psf in psfs]
        seen = statistics(np.nan_to_num(images / noise), np.array(widths), header.pixel_scale)
        return [int(Flag.UNLIKE_TRAINING) if unlike else 0 for unlike in known.is_unlike(seen)]

    def _call(self, blends: Sequence[Blend], detected: Detected) -> Deblended:
        header = detected.task.cell.tile
        return self.deblender(
            np.stack([deblender_image(blend) for blend in blends]),
            variance=np.stack([blend.variance for blend in blends]),
            mask=mask_for(self.deblender, np.stack([blend.unusable for blend in blends])),
            psf=psf_for(self.deblender, detected.psf, blends),
            bands=header.bands,
            pixel_scale=header.pixel_scale,
            **cores_for(self.deblender, blends),
        )


def network_bands(deblender: Deblender, bands: tuple[str, ...]) -> list[int]:
    """Return the indices of the bands that a deblender's network sees, by default all.

    In ascending order, each once.
    """
    channels = getattr(deblender, "channels", None)
    chosen = range(len(bands)) if channels is None else channels(bands, len(bands))
    return sorted(set(chosen))


def load_suspects(deblender: Deblender, threshold: float) -> Suspects | None:
    """Return the stage after a deblender, or None if there is no calibration for it."""
    model = shipped_model(deblender.name)
    if model is None:
        return None
    # Only here, since it loads torch and three networks: SExtractor's catalogs need none.
    from raydeblend.pipeline.suspects import Suspects

    return Suspects(model, deblender, threshold)


def _batches(group: Sequence[int], pixels: int) -> Iterator[Sequence[int]]:
    size = max(1, BATCH_PIXELS // pixels)
    for start in range(0, len(group), size):
        yield group[start : start + size]
