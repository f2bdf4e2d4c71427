"""The bits of the catalog's `flags` column.

A source starts as NOT_ATTEMPTED; the measurement clears that bit and sets those that apply.
"""

from enum import IntFlag


class Flag(IntFlag):
    """What a user should know before trusting a source."""

    NOT_ATTEMPTED = 1 << 0  # never measured
    EDGE = 1 << 1  # footprint touches the edge of the tile or of the read region
    MASKED = 1 << 2  # unusable pixels inside the footprint
    SATURATED = 1 << 3  # pixels of the SAT plane inside the footprint
    BAND_MISSING = 1 << 4  # at least one band could not be measured; its flux is null
    PSF_NOMINAL = 1 << 5  # no PSF with the tile: the survey's nominal PSF was used
    VARIANCE_ESTIMATED = 1 << 6  # no variance plane: estimated from the image
    DEBLEND_FAILED = 1 << 7  # the deblender found nothing; the row is the undivided parent
    DEBLEND_FALLBACK = 1 << 8  # footprint, or a peak the network missed, deblended classically
    FIT_FAILED = 1 << 9  # photometry did not return a usable fit; fluxes are null
    FIT_NOT_CONVERGED = 1 << 10  # stopped at the iteration limit
    LOW_QUALITY = 1 << 11  # deblend quality "low" (Wang et al. 2022, section II.A)
