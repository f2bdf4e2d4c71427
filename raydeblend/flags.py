"""The bits of the catalog's `flags` column.

A source starts as NOT_ATTEMPTED; the measurement clears that bit and sets those that apply.
"""

from collections.abc import Mapping
from enum import IntFlag


class Flag(IntFlag):
    """What a user should know before trusting a source; `DESCRIPTIONS` says what each means."""

    NOT_ATTEMPTED = 1 << 0
    EDGE = 1 << 1
    MASKED = 1 << 2
    SATURATED = 1 << 3
    BAND_MISSING = 1 << 4
    PSF_NOMINAL = 1 << 5
    VARIANCE_ESTIMATED = 1 << 6
    DEBLEND_FAILED = 1 << 7
    DEBLEND_FALLBACK = 1 << 8
    FIT_FAILED = 1 << 9
    FIT_NOT_CONVERGED = 1 << 10
    LOW_QUALITY = 1 << 11
    BLEND_SUSPECTED = 1 << 12
    BLEND_RECOVERED = 1 << 13
    DEBLEND_LIMITED = 1 << 14
    PSF_TRUNCATED = 1 << 15
    PSF_DISCONTINUOUS = 1 << 16
    UNLIKE_TRAINING = 1 << 17
    UNLISTED_PEAK = 1 << 18
    REPEATED_POSITION = 1 << 19


DESCRIPTIONS: Mapping[Flag, str] = {
    Flag.NOT_ATTEMPTED: "never measured",
    Flag.EDGE: "footprint touches the tile's edge or comes near that of the region read",
    Flag.MASKED: "unusable pixels inside the footprint",
    Flag.SATURATED: "pixels of the SAT plane inside the footprint",
    Flag.BAND_MISSING: "at least one band could not be measured; its flux is null",
    Flag.PSF_NOMINAL: "no PSF in a band: the nearest cell's, or the survey's nominal, was used",
    Flag.VARIANCE_ESTIMATED: "no variance plane: estimated from the image",
    Flag.DEBLEND_FAILED: "the deblender found nothing; the row is the undivided parent",
    Flag.DEBLEND_FALLBACK: "deblended classically: the footprint, or the source of a missed peak",
    Flag.FIT_FAILED: "photometry returned no usable fit, or an absurd one; its values are null",
    Flag.FIT_NOT_CONVERGED: "stopped at the iteration limit",
    Flag.LOW_QUALITY: 'deblend quality "low" (Wang et al. 2022, section II.A)',
    Flag.BLEND_SUSPECTED: "p_unrecognized_blend is above the threshold of the run",
    Flag.BLEND_RECOVERED: "footprint with a source that was found as a suspected blend",
    Flag.DEBLEND_LIMITED: "footprint at a limit of work or memory, or done in pieces",
    Flag.PSF_TRUNCATED: "a PSF stamp too small for its wings: over 2 % of its light lies outside",
    Flag.PSF_DISCONTINUOUS: "footprint over an edge of cells whose PSFs differ",
    Flag.UNLIKE_TRAINING: "deblended, or seen again, by a network not trained on stamps like this",
    Flag.UNLISTED_PEAK: "footprint with a detected peak for which --positions has no source",
    Flag.REPEATED_POSITION: "in the pixel of another of --positions, whose row has the values",
}
