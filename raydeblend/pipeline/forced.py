"""The deblending stage for given positions: a source at each, and no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raydeblend.config import CatalogConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.detect.given import GIVEN
from raydeblend.fit.result import not_attempted
from raydeblend.flags import Flag
from raydeblend.pipeline.accounting import Piece, account_of, account_of_separated
from raydeblend.pipeline.accounts import Account
from raydeblend.pipeline.batches import deblender_image, psf_for
from raydeblend.pipeline.parts import JOINT, JOINT_MODEL, DeblendedCell, DeblendedParent, Detected
from raydeblend.pipeline.pieces import separated_pieces
from raydeblend.tile import Blend


class ForcedCell:
    """Fits sources at the given positions of one cell after another."""

    def __init__(self, config: CatalogConfig) -> None:
        self.config = config
        self.deblender = JointDeblender.load().with_work(GIVEN.work_factor)

    def __call__(self, detected: Detected) -> DeblendedCell:
        """Fit the sources of each footprint of a cell."""
        accounts: list[Account] = []
        pieces: list[Piece] = []
        for blend in detected.blends:
            account, own = self._fit(blend, detected)
            accounts.append(account)
            pieces += own
        blends, parts = zip(*pieces, strict=True) if pieces else ((), ())
        return DeblendedCell(replace(detected, blends=blends), parts, tuple(accounts))

    def _fit(self, blend: Blend, detected: Detected) -> tuple[Account, list[Piece]]:
        if blend.unusable.all():
            return _failed(blend)
        priors = self.deblender.priors
        free = self.config.free_positions
        found = self.deblender.separate_footprint(
            deblender_image(blend),
            blend.variance,
            blend.unusable,
            psf_for(self.deblender, detected.psf, [blend]),
            detected.task.cell.tile.pixel_scale,
            xy=blend.xy,
            position_sigma=priors.given_position_sigma if free else priors.held_position_sigma,
        )
        if not len(found.xy):
            return _failed(blend)
        keep = bool(self.config.save)
        pieces = list(separated_pieces(blend, found, JOINT, detected.psf, keep))
        return account_of_separated(blend, found, pieces), pieces


def _failed(blend: Blend) -> tuple[Account, list[Piece]]:
    """Return rows without values at the positions of a footprint that could not be fitted."""
    k, (bands, *stamp) = len(blend.xy), blend.image.shape
    nothing = not_attempted(k, bands, JOINT_MODEL, JOINT)
    flags = int(Flag.DEBLEND_FAILED)
    part = DeblendedParent(
        models=np.zeros((k, bands, *stamp), np.float32),
        xy=blend.xy,
        quality="none",
        deblender=JOINT,
        flags=flags,
        measured=replace(nothing, flags=np.full(k, int(Flag.FIT_FAILED), np.int32)),
    )
    return account_of(blend, part), [(blend, part)]
