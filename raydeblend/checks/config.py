"""Thresholds beyond which a cell is suspect; they enter the hash of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckConfig:
    """Thresholds of the checks.  A check without enough data reports nothing.

    Attributes
    ----------
    least_snr, faintest_snr
        Signal to noise, in the middle of the bands, of the isolated sources that are looked at; and
        that below which a band says nothing of one.
    most_sources
        That are looked at, the brightest first.
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
        The same, if so large a part is masked and less than so large a part of the rest is brighter
        than five sigma.
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

    least_snr: float = 30.0
    faintest_snr: float = 15.0
    most_sources: int = 100
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
