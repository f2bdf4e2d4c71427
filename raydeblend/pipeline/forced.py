"""The deblending stage for given positions: a source at each, and no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raydeblend.config import CatalogConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.templates import Templates, separate_templates
from raydeblend.detect.given import GIVEN
from raydeblend.fit.parameters import LOG_RADII, POSITION
from raydeblend.fit.result import Measurements, not_attempted
from raydeblend.flags import Flag
from raydeblend.pipeline.accounting import Piece, account_of, account_of_separated
from raydeblend.pipeline.accounts import Account
from raydeblend.pipeline.answers import JOINT, JOINT_MODEL
from raydeblend.pipeline.batches import deblender_image, psf_for
from raydeblend.pipeline.deblended import DeblendedCell, DeblendedParent
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.pieces import separated_pieces
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.sky_errors import sky_jacobian
from raydeblend.pipeline.sky_profiles import pixel_profiles
from raydeblend.templates import ERROR, FRACTION, SHAPE
from raydeblend.tile import Blend

TEMPLATE_MODEL = "template"
"""What the catalog's column `model` says of sources whose fluxes alone were fitted."""
POINT_RADIUS = 1e-3
"""Arcsec: what no PSF tells from a point."""


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
        if blend.flags & Flag.REPEATED_POSITION:
            return _without_values(blend, _repeated(blend, detected))
        if blend.unusable.all():
            return _without_values(blend, _failed(blend))
        pixels = (
            deblender_image(blend),
            blend.variance,
            blend.unusable,
            psf_for(self.deblender, detected.psf, [blend]),
            detected.task.cell.tile.pixel_scale,
        )
        if self.config.templates is None:
            priors = self.deblender.priors
            free = self.config.free_positions
            sigma = priors.given_position_sigma if free else priors.held_position_sigma
            found = self.deblender.separate_footprint(*pixels, xy=blend.xy, position_sigma=sigma)
        else:
            templates = _templates(blend, detected.task)
            found = separate_templates(self.deblender, *pixels, templates, GIVEN.template_peak)
        if not len(found.xy):
            return _without_values(blend, _failed(blend))
        keep = bool(self.config.save)
        pieces = [
            (piece, replace(part, measured=self._named(part.measured)))
            for piece, part in separated_pieces(blend, found, JOINT, detected.psf, keep)
        ]
        return account_of_separated(blend, found, pieces), pieces

    def _named(self, measured: Measurements | None) -> Measurements | None:
        """Return measurements under the name of what was fitted."""
        if measured is None or self.config.templates is None:
            return measured
        return replace(measured, model=TEMPLATE_MODEL)


def _templates(blend: Blend, task: CellTask) -> Templates:
    """Return the templates at the positions of a footprint, in pixels of its stamp."""
    assert task.positions is not None
    header, given = task.cell.tile, task.positions.nearest(blend.on_tile(blend.xy))
    assert given.shapes is not None
    columns = dict(zip(SHAPE, given.shapes.T, strict=True))
    jacobian = sky_jacobian(header, given.xy)
    theta = pixel_profiles(columns, jacobian, header.pixel_scale)
    points = np.isnan(columns[SHAPE[0]])
    theta[points] = 0.0
    theta[points, LOG_RADII] = np.log(POINT_RADIUS)
    theta[:, POSITION] = given.xy - (blend.box.x0, blend.box.y0)
    bulge, error = (np.where(points, 0.0, columns[name]) for name in (FRACTION, ERROR))
    return Templates(theta, bulge, error)


def _failed(blend: Blend) -> Measurements:
    """Return what is said of positions that could not be fitted."""
    nothing = _nothing(blend)
    return replace(nothing, flags=np.full_like(nothing.flags, int(Flag.FIT_FAILED)))


def _repeated(blend: Blend, detected: Detected) -> Measurements:
    """Return what is said of a position in the pixel of another: where it is."""
    positions = detected.task.positions
    assert positions is not None
    return replace(_nothing(blend), shift=positions.within(blend.box).offset)


def _nothing(blend: Blend) -> Measurements:
    return not_attempted(len(blend.xy), len(blend.image), JOINT_MODEL, JOINT)


def _without_values(blend: Blend, measured: Measurements) -> tuple[Account, list[Piece]]:
    """Return rows without values at the positions of a footprint."""
    tried = not (measured.flags & Flag.NOT_ATTEMPTED).any()
    part = DeblendedParent(
        models=np.zeros((len(blend.xy), *blend.image.shape), np.float32),
        xy=blend.xy,
        quality="none",
        deblender=JOINT,
        flags=blend.flags | (int(Flag.DEBLEND_FAILED) if tried else 0),
        measured=measured,
    )
    return account_of(blend, part), [(blend, part)]
