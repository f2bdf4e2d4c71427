"""Tuned parameters of the sky estimate; they enter the hash of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SkyConfig:
    """How the sky is estimated between the sources of a tile.

    Lengths are in pixels, and noise is that of one pixel (sigma), unless stated otherwise.

    Attributes
    ----------
    step
        Spacing of the nodes at which the sky is estimated.
    window_steps
        Side of the window averaged at a node, in steps; odd.
    small_field
        A field narrower than this on both sides gets one constant instead of a map.
    halo
        A square brighter than this above the plane, in sigma, is part of a halo, and not used.
    wing_sigma
        A square in which this much light, in sigma, is expected from wings has a weight of 1/4.
    wing_error
        Factor by which the wings may differ from those expected: an exponential disk has none.
    plane_reach
        Cells on each side of a node to which its plane is fitted; a galaxy must leave sky in them.
    prior_pixels
        Number of fictitious pixels on the plane, which decide where sources leave no real ones.
    square
        Side of the squares that are used or rejected as a whole.
    cell
        Side of the cells whose low values the planes are fitted to.
    bin
        Side of the bins in which sources are searched for: binning cuts the work to a quarter.
    fine, coarse
        Widths (sigma) of the two Gaussians whose difference shows sources but no smooth sky.
    truncate
        Radius of these filters, in their sigma.
    source_sigma
        Significance at which the difference marks a source.  Both signs count, since masking only
        positive noise would leave a negative mean.
    max_peak
        Height above the plane, in sigma, at which bins are clipped for the coarse Gaussian.
    grow
        Squares around a source that are rejected too.
    wing_fraction
        A source has wings of this fraction of its light times r⁻³ at r pixels, a third of those of
        a de Vaucouleurs galaxy of the size that its light suggests.
    wing_light, wing_power
        Light of a source with exactly these wings, in sigma; sizes scale with this power of it.
    wing_widths, wing_truncate
        Widths (sigma) of the Gaussians whose sum approximates r⁻³, a factor of 2 apart, and their
        radius in these widths.
    quantile
        Fraction of the values in a window that lie below its plane.
    rounds
        Iterations of the quantile regression.
    core
        A value farther than this from the plane, in sigma, counts only by its sign.
    cap
        Values are clipped this far above the low ones, in sigma, for single precision.
    ridge
        Number of fictitious values at the edges of a window that favor a slope of 0.
    lit
        Height above the plane, in sigma, at which a value belongs to a source.
    sloped_below, flat_above
        Fractions of values of sources up to which a window has a sloped plane, and from which on a
        constant.
    bias
        By how much this estimate is too low in white noise, in sigma.
    """

    step: int = 16
    window_steps: int = 9
    small_field: int = 80
    halo: float = 0.7
    wing_sigma: float = 0.14
    wing_error: float = 3.5
    plane_reach: int = 4
    prior_pixels: float = 10.0
    square: int = 4
    cell: int = 32
    bin: int = 2
    fine: float = 2.0
    coarse: float = 12.0
    truncate: float = 2.0
    source_sigma: float = 3.0
    max_peak: float = 2.0
    grow: int = 2
    wing_fraction: float = 0.3
    wing_light: float = 1e4
    wing_power: float = 0.25
    wing_widths: tuple[float, ...] = (6.0, 12.0, 24.0)
    wing_truncate: float = 3.0
    quantile: float = 0.2
    rounds: int = 10
    core: float = 0.1
    cap: float = 1e4
    ridge: float = 0.01
    lit: float = 1.0
    sloped_below: float = 0.2
    flat_above: float = 0.4
    bias: float = 0.18

    @property
    def squares_per_step(self) -> int:
        """Squares between two nodes."""
        return self.step // self.square

    @property
    def squares_per_cell(self) -> int:
        """Squares along the side of a cell."""
        return self.cell // self.square

    @property
    def bins_per_square(self) -> int:
        """Bins along the side of a square."""
        return self.square // self.bin

    @property
    def square_reach(self) -> int:
        """Pixels beyond a square on which its weight depends."""
        filters = self.truncate * (self.fine + self.coarse)
        wings = self.wing_truncate * self.wing_widths[-1]
        return int(filters + wings) + (self.grow + 4) * self.square + 2 * self.cell

    @property
    def reach(self) -> int:
        """Pixels beyond a region on which its sky depends."""
        plane = self.step // 2 + self.cell // 2 + self.plane_reach * self.cell
        half_window = self.window_steps * self.step // 2
        return self.step + half_window + max(self.square_reach, plane)


SKY = SkyConfig()
