"""What was chosen in making PSFs from stars."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StellarPsfConfig:
    """How stars are chosen and how the PSF is fitted to them.

    Attributes
    ----------
    least_snr
        Significance of a candidate, a point source's signal to noise.
    clear_radius
        Pixels about a candidate that must all be usable.
    density_width
        Standard deviation in ln size of the kernel that finds the stars' ridge.
    ridge
        Height of the stars' ridge, the one of the smallest size, as part of the highest.
    first_width
        Half width in ln size of the ridge, before it follows the PSF over the tile.
    clip, least_scatter, most_scatter
        Distance from the ridge at which a star is left out, in robust standard deviations, which
        are at least so much; stars that scatter by more are none.
    rounds
        Of fit and rejection.
    stars_for_order
        Stars for a PSF that changes linearly, and quadratically, with the place.
    side
        Of the stamps that are written, in pixels.
    core
        Radius in standard deviations of the PSF within which it changes over the tile; stars are
        too faint to tell beyond.
    model_error
        What the model is wrong by, as part of the PSF's peak: no star counts as better known.
    cells
        Along a side of the tile for which stamps are written.
    least_stars
        Fewer than these give no PSF.
    """

    least_snr: float = 50.0
    clear_radius: float = 10.0
    density_width: float = 0.02
    ridge: float = 0.3
    first_width: float = 0.12
    clip: float = 3.0
    least_scatter: float = 0.01
    most_scatter: float = 0.03
    rounds: int = 4
    stars_for_order: tuple[int, int] = (12, 30)
    side: int = 41
    core: float = 4.0
    model_error: float = 0.003
    cells: int = 8
    least_stars: int = 5
