"""Galaxy profiles as sums of concentric Gaussians (Hogg & Lang 2013, PASP 125, 719).

The coefficients are our own, after the method of that paper: weights w_i > 0 (sum 1) and
variances that minimize the integral of (mixture − profile)² r^a dr over 1e-4 < r < r_max in
half-light radii, both of unit flux.  ``exp``: 6 Gaussians, a = 2, r_max = 12; within 0.5 % of
the profile from 0.05 to 3 half-light radii.  ``dev``: 10 Gaussians, a = 3 (a = 2 lets the cusp
at the center outweigh the light), r_max = 16; within 1 % from 0.1 to 8 half-light radii.
Neither is truncated, unlike the profiles of that paper.

The fits of `bulge_disk` have Gaussians of their own (`sersic`), whose variances serve every Sérsic
index.  They are no better here: an exponential disk takes 10 of them in place of 6, with weights
below 0, for 0.03 in place of 0.04 % of the light within any radius; the brightness of a de
Vaucouleurs profile is off by up to 4 % (the 6 of bulges: 13 %) in place of 0.9 %.

``bdf`` is a bulge (``dev``) and a disk (``exp``) of one center and shape, whose concentration c is
the same in all bands and one more parameter of the shape.  Above 0 it is the fraction of the light
in the bulge, as in the model that ngmix calls ``bdf``; below 0, -c is that in a Gaussian of the
disk's half-light radius, since many galaxies are flatter in their middle than a disk.  Sizes are
tied as in ngmix, whose T of the bulge over that of the disk is 1, which makes the bulge's
half-light radius `BULGE_RADIUS` times the disk's.  Amplitudes of the parts free in every band would
be linear, but at low S/N nothing tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.errors import ConfigError

MODELS = ("exp", "dev", "gauss", "bdf")
DISK, BULGE, FLAT = range(3)
EXPONENTIAL_VARIANCE = 1.065
"""Along an axis, of an exponential disk of half-light radius 1: three times its squared scale
length, which is 1 / 1.678."""


@dataclass(frozen=True)
class Profile:
    """A round profile of unit flux as a mixture.

    Attributes
    ----------
    fractions
        ``(k,)``: <x²> + <y²> of each Gaussian over that of the exact profile.
    part
        ``(k,)`` `DISK`, `BULGE` or `FLAT`, to which each Gaussian belongs.
    light
        ``(k,)`` weight of each in that part, of unit flux.
    t_per_radius2
        <x²> + <y²> of the exact profile in units of its squared half-light radius; for ``bdf``
        of the disk alone, by whose T the size of the whole is told: the far wings of a bulge,
        which no image shows, would make the second moment of the whole 4 f times as large.
    """

    name: str
    light: NDArray[np.float64]
    fractions: NDArray[np.float64]
    part: NDArray[np.int_]
    t_per_radius2: float

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights ``(k,)`` of the disk alone, or of a profile without other parts; sum 1."""
        return np.where(self.part == DISK, self.light, 0.0)

    @property
    def has_concentration(self) -> bool:
        """Whether there is more than one part."""
        return bool(self.part.any())


_EXP = (
    (2.71021366e-03, 7.32166765e-03),
    (2.23204266e-02, 4.00423167e-02),
    (1.04599532e-01, 1.43291789e-01),
    (2.98282969e-01, 4.17426257e-01),
    (4.16820744e-01, 1.07573122e00),
    (1.55266115e-01, 2.61587502e00),
)

_DEV = (
    (9.16487922e-03, 2.94884615e-05),
    (2.66985662e-02, 2.13187930e-04),
    (5.71628964e-02, 1.02563838e-03),
    (9.90692103e-02, 4.07510799e-03),
    (1.43944637e-01, 1.45490742e-02),
    (1.76969522e-01, 4.89460964e-02),
    (1.82704705e-01, 1.60748310e-01),
    (1.55125892e-01, 5.35650888e-01),
    (1.05039289e-01, 1.97078389e00),
    (4.41204041e-02, 1.13042196e01),
)

# (weights, variances) and T of a Sérsic profile, b^(-2n) Γ(4n) / Γ(2n) in half-light radii² with
# b from Γ(2n, b) = Γ(2n) / 2 (Graham & Driver 2005, PASA 22, 118): n = 1, 4 and 0.5.
_TABLES = {
    "exp": (_EXP, 2.130039917568354),
    "dev": (_DEV, 21.6793455240867),
    "gauss": (((1.0, 1.0),), 1.4426950408889634),
}


# ngmix's mixtures are cut off (exp near 4.5 half-light radii), so that its T is that of the cut
# profile.  The factor, <x²> + <y²> of the whole profile over ngmix's T at the best fit to it,
# makes T mean the same in both engines; that of ``bdf`` is the disk's.
NGMIX_T_SCALE = {"exp": 1.0214, "dev": 4.281, "gauss": 1.0, "bdf": 1.0214}

BULGE_RADIUS = float(
    np.sqrt((NGMIX_T_SCALE["dev"] / _TABLES["dev"][1]) / (NGMIX_T_SCALE["exp"] / _TABLES["exp"][1]))
)
"""Half-light radius of the bulge over that of the disk in ``bdf``, 0.64."""


def profile(name: str) -> Profile:
    """Return the profile called `name`: ``exp``, ``dev`` (de Vaucouleurs), ``gauss`` or ``bdf``.

    Raises
    ------
    ConfigError
        If there is no such profile.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown galaxy model {name!r}; known: {', '.join(MODELS)}")
    if name == "bdf":
        return _bulge_and_disk()
    table, t_per_radius2 = _TABLES[name]
    weights, fractions = np.array(table).T
    whole = np.full(len(weights), DISK)
    return Profile(name, weights / weights.sum(), fractions, whole, t_per_radius2)


def parameters(name: str) -> int:
    """Return how many parameters the shape has: (x, y, g1, g2, ln T) and a concentration."""
    return 6 if name == "bdf" else 5


def _bulge_and_disk() -> Profile:
    disk = profile("exp")
    parts = (disk, profile("dev"), profile("gauss"))
    radii = (1.0, BULGE_RADIUS, 1.0)
    return Profile(
        "bdf",
        np.concatenate([own.light for own in parts]),
        np.concatenate(
            [
                own.fractions * radius**2 * own.t_per_radius2 / disk.t_per_radius2
                for own, radius in zip(parts, radii, strict=True)
            ]
        ),
        np.repeat([DISK, BULGE, FLAT], [len(own.light) for own in parts]),
        disk.t_per_radius2,
    )
