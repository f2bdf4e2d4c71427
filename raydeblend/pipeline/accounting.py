"""The accounts of footprints by the way that they were deblended: whole, or in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.flags import Flag
from raydeblend.parents import Shortfall
from raydeblend.pipeline.accounts import Account, Outcome, Residual, account_for
from raydeblend.pipeline.deblended import DeblendedParent
from raydeblend.pipeline.pieces import in_pieces, residual
from raydeblend.tile import Blend, Separated

Piece = tuple[Blend, DeblendedParent]

CLASSICAL = "sep"
"""The deblender that others fall back on; where it was asked for, its way is no shortfall."""


def account_of(blend: Blend, part: DeblendedParent) -> Account:
    """Return the account of a footprint that was deblended whole."""
    of_sources = 0 if part.source_flags is None else int(np.bitwise_or.reduce(part.source_flags))
    classical = bool((part.flags | of_sources) & Flag.DEBLEND_FALLBACK)
    return account_for(
        blend,
        Outcome(
            blend.on_tile(part.xy),
            blend.on_tile(part.parts_xy),
            part.deblender,
            part.quality,
            _shortfall(part.flags, classical),
            part.flags,
            part.work,
            Residual.of(blend, blend.image - part.models.sum(axis=0, dtype=np.float64)),
        ),
    )


def account_of_separated(blend: Blend, found: Separated, pieces: Sequence[Piece]) -> Account:
    """Return the account of a footprint of any size that its deblender separated as a whole."""
    whole, part = pieces[0]
    return account_for(
        # Like its pieces, without the flag of another deblender.
        replace(blend, flags=whole.flags),
        Outcome(
            _places(pieces),
            blend.on_tile(found.parts_xy),
            part.deblender,
            found.quality,
            Shortfall.LIMITED if found.limited else "",
            part.flags,
            found.work,
            Residual.of(blend, residual(blend, found)),
        ),
    )


def classical_pieces(
    blend: Blend, limited: bool = False, work: float = np.nan, own: bool = False
) -> tuple[Account, list[Piece]]:
    """Return the pieces of a footprint by SExtractor's method, and its account.

    Parameters
    ----------
    limited, work
        What its deblender has tried before: whether its work had to end, and what it cost.
    own
        Whether this is the deblender that was asked for.
    """
    pieces = in_pieces(blend)
    part = pieces[0][1]
    said = _shortfall(part.flags & int(Flag.DEBLEND_FAILED), not own)
    return account_for(
        blend,
        Outcome(
            _places(pieces),
            np.empty((0, 2)),
            part.deblender,
            part.quality,
            Shortfall.LIMITED if limited and said != Shortfall.FAILED else said,
            part.flags,
            work,
        ),
    ), pieces


def _places(pieces: Sequence[Piece]) -> NDArray[np.float64]:
    """Return the positions ``(n, 2)`` on the tile of the sources of all pieces."""
    return np.concatenate([blend.on_tile(part.xy) for blend, part in pieces])


def _shortfall(flags: int, classical: bool) -> str:
    if flags & Flag.DEBLEND_FAILED:
        return Shortfall.FAILED
    if flags & Flag.DEBLEND_LIMITED:
        return Shortfall.LIMITED
    return Shortfall.CLASSICAL if classical else ""
