"""Parameters of the injected sources; they enter the hash of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InjectionConfig:
    """Which sources are drawn into the copies, and where.

    Magnitudes are relative to that of a point source of five sigma in the reference band.

    Attributes
    ----------
    brightest, faintest
        Range of magnitudes; more negative is brighter.
    slope
        Of the numbers drawn, in dex per magnitude: flatter than the sky's, so that bright sources
        are not too few to say something of.  `weight` in the table of truth makes up for it.
    star_fraction
        Of the sources that are not controls.
    control_fraction
        Of all; half of them stars, half disks.
    control_magnitude
        Of the controls.
    control_r50
        Half-light radius of a control disk, arcsec.
    control_clear
        Arcsec from a control to the next detected peak.
    spacing
        Pixels between two of them, at least.
    room
        Square root of the pixels that the copied part of a cell has for each.
    sky_reach
        Pixels about the copied part from which its sky is measured.  A cell reads twice as many
        (`detect.background.REACH`), so that its sky does not depend on the cut; with these fluxes
        differ by a few hundredths of their errors.
    tries
        Draws of a place before a source is given up.
    match_radius
        Arcsec within which a row of the catalog may be a source.
    """

    brightest: float = -6.0
    faintest: float = 1.0
    slope: float = 0.12
    star_fraction: float = 0.1
    control_fraction: float = 0.25
    control_magnitude: float = -4.5
    control_r50: float = 0.5
    control_clear: float = 4.0
    spacing: float = 32.0
    room: int = 64
    sky_reach: int = 138
    tries: int = 20
    match_radius: float = 0.5


INJECTION = InjectionConfig()
