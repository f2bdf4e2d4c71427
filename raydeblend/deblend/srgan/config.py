"""What was tuned in the super-resolution deblender, apart from its network's weights.

Chosen on simulated blends and real HST stamps of seeds that no evaluation uses
(docs/research/training.md).  A PSF width is the standard deviation of the Gaussian that stands for
the PSF; sky sigmas are of a coarse pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import pi

from raydeblend.detect.sharp_peaks import PeakRule
from raydeblend.networks.srflow import Sampling

_SOURCE_RULE = PeakRule(
    threshold=15.0, curvature=20.0, prominence=20.0, contrast=0.5, relative=0.3, smoothing=2.0
)
_CANDIDATE_RULE = PeakRule(
    threshold=10.0, curvature=8.0, prominence=4.0, contrast=0.12, relative=0.08, smoothing=2.0
)
_HINT_RULE = PeakRule(
    threshold=10.0, curvature=4.0, prominence=0.5, contrast=0.01, relative=0.01, smoothing=1.0
)


@dataclass(frozen=True)
class PeakConfig:
    """Where the network's output shows a source.

    Of a network with a map of sources the heights decide, of another the rules, in units of
    `noise`.

    Attributes
    ----------
    noise
        Sky sigmas in a fine pixel: the unit of the rules' significances.
    source_rule
        For sources without a fit that could confirm them.  The network's image has no noise but
        texture of its own, and is less sharp than HST's: of 600 single galaxies, half of them real
        HST stamps, under 1 % have a second peak that HST's image has not; of 1,000 others, 4 %.
    candidate_rule
        For sources that the pixels must confirm.
    hint_rule
        For peaks that are mostly texture: each is tried as one source more, alone.
    source_height
        Least height in the map, 1 where network and sky leave no doubt.  By ``srgan-multiband``
        1 % of 300 single galaxies then have a second source that HST's image has not.
    candidate_height, hint_height
        The same of candidates and of hints.
    prominence
        Least height over the saddle to a higher source of the map.
    low_significance
        Signal-to-noise ratio that a source needs in the original image: the network may imagine.
    max_sources
        Most positions of a stamp.
    """

    noise: float = 0.02
    source_rule: PeakRule = _SOURCE_RULE
    candidate_rule: PeakRule = _CANDIDATE_RULE
    hint_rule: PeakRule = _HINT_RULE
    source_height: float = 0.25
    candidate_height: float = 0.05
    hint_height: float = 0.015
    prominence: float = 0.01
    low_significance: float = 4.0
    max_sources: int = 12


@dataclass(frozen=True)
class ConfirmConfig:
    """Which candidates the pixels confirm, and what else is tried.

    `min_gain`, `hint_gain` and `model_error` were chosen on 600 blends and 1,000 single galaxies so
    that under 1 % of the single ones are split where HST's image is not; `SearchConfig.min_gain` of
    the joint fit is for sources that no network has pointed at.

    Attributes
    ----------
    min_gain
        What a candidate must gain, in ln posterior.
    hint_gain
        What a hint, or the brightest source cut in two, must gain where the candidates did not.
    band_gain
        What is asked for more in each further band, in which a source has fluxes of its own.
    model_error
        Part of a galaxy's light that no bulge + disk describes, and that another source would fit.
    max_hints
        Hints of a stamp that are looked at, the most significant ones.
    hint_radius
        Pixels from any source within which a hint is that source.
    splits
        Angle to the major axis of a source at which it is cut in two, and by which part of its
        half-length the halves are put apart; None: by `split_offset`.
    split_offset
        Distance of a half from the middle, in PSF widths, where its source's shape does not set it.
    min_half_length, max_half_length
        Limits of the half-length, in PSF widths.
    min_axis_ratio
        Halves are narrower than the whole by its axis ratio, of which at least this.
    """

    min_gain: float = 10.0
    hint_gain: float = 8.0
    band_gain: float = 8 / 3
    model_error: float = 0.02
    max_hints: int = 5
    hint_radius: float = 1.0
    splits: tuple[tuple[float, float | None], ...] = (
        (0.0, 1.0),
        (0.0, 0.6),
        (pi / 4, None),
        (pi / 2, None),
        (-pi / 4, None),
    )
    split_offset: float = 0.85
    min_half_length: float = 0.6
    max_half_length: float = 3.5
    min_axis_ratio: float = 0.3


@dataclass(frozen=True)
class SegmentConfig:
    """Models of stamps that bring no PSF: blurred segments of the sharpened image.

    Attributes
    ----------
    seeing
        PSF width in pixels of the network's training images (FWHM 3.8).
    floor
        Sky sigmas of a coarse pixel below which a segment ends.
    """

    seeing: float = 1.6
    floor: float = 0.02


@dataclass(frozen=True)
class SrganDeblenderConfig:
    """The configuration of a `SrganDeblender`, whose hash is part of its `weights_hash`.

    Attributes
    ----------
    position_scatter
        Pixels along each axis between a peak of the network, or half a galaxy, and the galaxy.
    """

    peaks: PeakConfig = PeakConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    segments: SegmentConfig = SegmentConfig()
    position_scatter: float = 1.5


@dataclass(frozen=True)
class AgreementConfig:
    """How the samples of a flow tell sources apart.

    Attributes
    ----------
    high, medium
        Least part of the samples that shows a source, for all sources of a stamp, up to which the
        quality of its deblend is ``high`` or ``medium``.
    """

    high: float = 0.9
    medium: float = 0.5


@dataclass(frozen=True)
class SrflowDeblenderConfig(SrganDeblenderConfig):
    """The configuration of a `SrflowDeblender`.

    Its map of sources is the mean of what each sample shows; the heights are parts of the samples.
    By `source_height` none of 224 single galaxies had a second source that HST's image has not.
    """

    peaks: PeakConfig = PeakConfig(source_height=0.55, candidate_height=0.15, hint_height=0.05)
    sampling: Sampling = field(default_factory=Sampling)
    agreement: AgreementConfig = AgreementConfig()
