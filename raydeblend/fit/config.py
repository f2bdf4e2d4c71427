"""Tuned parameters of the fits of single profiles; they enter the hash of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StampConfig:
    """What is cut out for a source, and which bands are measured there.

    Attributes
    ----------
    sizes
        Odd sides in pixels: the smallest that holds the blend's stamp is taken, or the largest.
    core
        Half-side of the square of 7×7 pixels about a source.
    min_core_pixels
        Of these, how many must be usable for a band to be measured.
    """

    sizes: tuple[int, ...] = (33, 49, 65, 81, 97)
    core: int = 3
    min_core_pixels: int = 10


@dataclass(frozen=True)
class FamilyConfig:
    """Which Gaussians of a profile and a PSF are merged.

    Attributes
    ----------
    merging_error
        What merging may change, of the brightness at the center.
    class_width
        Step in ln T between classes of size, for which Gaussians are merged alike.
    """

    merging_error: float = 1e-4
    class_width: float = 0.7


@dataclass(frozen=True)
class SingleFitConfig:
    """How one source is fitted: first on sums of pixels, then on the pixels of a window.

    Attributes
    ----------
    tolerance
        Fall of χ²/2 that a step must promise, or the fit has converged: a move by 8 % of σ.  That
        last step is still taken, to first order, which leaves a small part of it.
    rounding
        Part of χ²/2 that is its rounding error, and so no fall.
    max_steps
        Most steps of the second fit.
    first_sizes
        Starts in ln T, from the prior's mean; the one that fits best is taken.
    first_size_fraction
        Part of the stamp's side, which follows the footprint's, that a start's half-light radius
        may be: from a small start a fit of a large galaxy may end at what is left of its core.
    bin_side
        Side of the squares of pixels that are summed for the first fit.
    coarse_tolerance
        Promised fall of χ²/2 at which the first fit stops: parameters are within 0.3 σ then.
    coarse_steps
        Most steps of the first fit.
    windows
        Sides of the windows for the second fit, if smaller than the stamp.
    outside
        Part of the information on flux and size that may lie outside of the window: errors grow by
        half of it.
    growth
        By how much ln T may grow in the second fit before the window is too small for it.
    """

    tolerance: float = 3e-3
    rounding: float = 3e-8
    max_steps: int = 40
    first_sizes: tuple[float, ...] = (-2.5, 0.0, 2.0, 4.0, 5.5)
    first_size_fraction: float = 0.25
    bin_side: int = 3
    coarse_tolerance: float = 0.05
    coarse_steps: int = 25
    windows: tuple[int, ...] = (17, 21, 25, 29, 33, 37, 41, 49, 57, 65, 81)
    outside: float = 1e-3
    growth: float = 0.4


@dataclass(frozen=True)
class BlendFitConfig:
    """How all sources of a blend are fitted together.

    Attributes
    ----------
    rounds
        Gauss–Newton steps.
    damping
        Of a step, as part of the curvature's diagonal.
    ridge
        Part of a template's own norm: two equal templates share the light, and their errors say so.
    reach, reach_widths
        A blend's window holds so many pixels, and so many widths of the galaxy, about each source.
    side_step
        Sides of windows are multiples of so many pixels.
    """

    rounds: int = 2
    damping: float = 1e-2
    ridge: float = 1e-6
    reach: float = 11.0
    reach_widths: float = 4.0
    side_step: int = 8


@dataclass(frozen=True)
class ProfileFitConfig:
    """The configuration of the fits of single profiles."""

    stamps: StampConfig = StampConfig()
    family: FamilyConfig = FamilyConfig()
    single: SingleFitConfig = SingleFitConfig()
    blend: BlendFitConfig = BlendFitConfig()


PROFILE_FIT = ProfileFitConfig()
