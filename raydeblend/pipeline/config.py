"""What was tuned in how footprints pass from detection to the catalog; it enters a run's hash."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FootprintConfig:
    """How peaks are matched with sources, and large footprints cut up.

    Attributes
    ----------
    match_radius
        Pixels within which a source stands for a detected peak; about a PSF's half width.
    crowded
        Footprints with more peaks are deblended alone, since all models of a batch are padded to
        its largest number of sources; SExtractor's models are then measured in pieces.
    piece_side
        Side in pixels of the squares whose sources are a piece: some ten sources of a crowded
        field.  A source that is larger has a piece of its own.
    piece_margin
        Pixels around the sources of a piece, as around a footprint.
    """

    match_radius: float = 3.0
    crowded: int = 32
    piece_side: int = 48
    piece_margin: int = 12


FOOTPRINTS = FootprintConfig()
