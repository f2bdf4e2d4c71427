"""What the checks of a cell look at, and from where on it is suspect; all enters a run's hash."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PixelConfig:
    """Which pixels tell something of a band, and how many it takes; see `checks.pixels`.

    Attributes
    ----------
    margin
        Pixels around a footprint that may still have its light, so that they are not blank.
    rim
        Pixels next to masked ones whose light is looked at.
    saturation_margin
        Pixels around saturated ones that are no such rim.
    fewest, fewest_in_rim
        Blank pixels, or pixels of rims, from which they say anything.
    fewest_bright
        Of fewer usable pixels none need be bright: a small tile, or a sliver of data, may hold no
        source.
    bright
        Sigma from which a pixel is bright.
    least_filled
        Part of the pixels with data from which the mask may not rule out all of them: at a survey's
        very edge it may rightly do so.
    least_double
        Pixels of twice a step over those of one from which an image is taken to be rounded in
        steps: 0.22 in noise as wide as the step.
    chance
        Standard deviations by which zeros may exceed their expected number.
    """

    margin: int = 6
    rim: int = 2
    saturation_margin: int = 12
    fewest: int = 500
    fewest_in_rim: int = 200
    fewest_bright: int = 20_000
    bright: float = 5.0
    least_filled: float = 0.1
    least_double: float = 0.1
    chance: float = 4.0


@dataclass(frozen=True)
class SourceConfig:
    """Which isolated sources are looked at, and how they are centered; see `checks.sources`.

    Attributes
    ----------
    most
        Sources that are looked at, the brightest first.
    least_snr, faintest_snr
        Signal to noise that one must have in the middle of the bands; and that below which a band
        says nothing of it.
    rounds
        Steps of the centroid, each of which leaves half of what is left.
    reach
        Widths of the PSF that the centroid may move.
    """

    most: int = 100
    least_snr: float = 30.0
    faintest_snr: float = 15.0
    rounds: int = 4
    reach: float = 4.0


@dataclass(frozen=True)
class StarConfig:
    """Which sources are stars, and how their colors are compared; see `checks.stars`.

    Attributes
    ----------
    point
        T over that of the PSF below which a source counts as a star.
    large
        The same from which it is no longer measured in proportion.
    least_snr
        Signal to noise that a star must have in each band of its colors.
    outlier
        Scatters off the locus at which a star counts no more.
    most_offset, offset_step
        Offsets of a zero point that are tried, in magnitudes: up to the first, in such steps.
    """

    point: float = 0.05
    large: float = 0.25
    least_snr: float = 15.0
    outlier: float = 4.0
    most_offset: float = 0.3
    offset_step: float = 0.01


@dataclass(frozen=True)
class CheckConfig:
    """Thresholds of the checks.  A check without enough data reports nothing.

    Attributes
    ----------
    pixels, sources, stars
        What they look at.
    fewest
        Sources, or stars among them, from which a check says anything.
    sigma
        Standard errors by which a value must be beyond its threshold to count.
    psf_width, narrow
        Part by which the PSF's width in a band may differ from that of the other bands, as bright
        sources tell; and the place of the source, the narrowest first, that must not be narrower
        than the PSF by as much.
    position
        Pixels by which the positions of a band may be off those of the others.
    zero_point, locus_chi2
        Magnitudes by which a band may be off the stellar locus, and the most chi squared a star
        that stars may have when they are moved there: else they are none.
    noise
        Range of the scatter of blank pixels over what the variance says.
    sky
        Most sigma of a pixel that the sky may differ from 0 where none is subtracted.
    rim, rim_masked
        Median signal to noise of the pixels beside masked ones, in sigma, from which it is sources
        that are masked, where so large a part of the pixels is.
    masked, bright
        The same, if so large a part is masked and less than so large a part of the rest is bright
        (`PixelConfig.bright`).
    hidden
        Part of the pixels with data that a mask may rule out.
    constant
        Part of the usable pixels that may be exactly 0.
    data
        Part of a band's pixels that must be usable, where those of another are.
    sharp, sharp_sigma, spikes
        How much a pixel must stand out from its neighbors over what the peak of a star does, and by
        how many standard errors, to be no light from the sky; how many of them make a cell suspect.
    found, flux
        Part of the injected controls that must be found, and median relative error of their flux.
    controls
        Fewest of them that say anything.
    """

    pixels: PixelConfig = PixelConfig()
    sources: SourceConfig = SourceConfig()
    stars: StarConfig = StarConfig()
    fewest: int = 6
    sigma: float = 4.0
    psf_width: float = 0.06
    narrow: int = 3
    position: float = 0.2
    zero_point: float = 0.06
    locus_chi2: float = 5.0
    noise: tuple[float, float] = (0.77, 1.3)
    sky: float = 0.5
    rim: float = 0.7
    rim_masked: float = 0.01
    masked: float = 0.05
    bright: float = 1e-4
    hidden: float = 0.9
    constant: float = 2e-4
    data: float = 0.01
    sharp: float = 1.4
    sharp_sigma: float = 6.0
    spikes: int = 5
    found: float = 0.5
    flux: float = 0.1
    controls: int = 3


CHECKS = CheckConfig()
