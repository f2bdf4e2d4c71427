"""What was tuned in the features that tell whether a source is two; the calibration learns them."""

from __future__ import annotations

from dataclasses import dataclass

from raydeblend.detect.sharp_peaks import PeakRule

_LOOSE = PeakRule(
    threshold=10.0, curvature=10.0, prominence=4.0, contrast=0.1, relative=0.1, smoothing=2.0
)


@dataclass(frozen=True)
class FeatureConfig:
    """How a source is looked at.

    Attributes
    ----------
    side
        Pixels of a view.
    model_error
        Part of a pixel's light that is no evidence of another source: arms, bars, clumps.
    reach
        Arcsec around a source in which another one is sought.
    core
        PSF widths around a source in which its residual is tested.
    far
        PSF widths beyond which a neighbor does not matter.
    ridge
        Least part of its norm by which a point source differs from what the galaxy's own parameters
        can take over.
    least_doubt
        Root of the best Δχ² of one more source below which none is in doubt.
    shown
        Least norm of a band that sees the place, as a part of the best band's.
    sharp_peaks
        Which peaks of the sharp image are looked at; the calibration weighs them by their strength.
    """

    side: int = 32
    model_error: float = 0.03
    reach: float = 1.2
    core: float = 2.5
    far: float = 10.0
    ridge: float = 0.02
    least_doubt: float = 3.4
    shown: float = 0.01
    sharp_peaks: PeakRule = _LOOSE


LOOK = FeatureConfig()
