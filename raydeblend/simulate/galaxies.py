"""The galaxy population: counts, redshifts, colors, sizes and shapes, each with its source.

`draw_galaxies` is parametric and needs no file; `read_catsim` reads the LSST catalog that
BlendingToolKit and Wang et al. (2022) draw from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import galsim
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincinv

from raydeblend.errors import ConfigError

FloatArray = NDArray[np.float64]

# Half-light radius = b^n scale lengths: 1.678 for an exponential, 7.669^4 for de Vaucouleurs
# (Ciotti & Bertin 1999, A&A 352, 447).
EXPONENTIAL_B, DE_VAUCOULEURS_B = 1.67835, 7.66925

CATSIM_BANDS = ("u", "g", "r", "i", "z", "y")
REFERENCE_BAND = "i"

# LSST Science Book v2.0 (arXiv:0912.0201), section 3.7: N(<i) = 46 x 10^(0.31 (i - 25)) arcmin^-2.
COUNTS_AT_25 = 46.0
COUNTS_SLOPE = 0.31
BRIGHTEST = 17.0

# The same section: p(z) ~ z^2 exp(-z/z0) with z0 = 0.0417 i - 0.744.
REDSHIFT_SLOPE, REDSHIFT_OFFSET = 0.0417, -0.744
REDSHIFT_MAX = 4.0

# Miller et al. 2013 (MNRAS 429, 2858), appendix B1: median major-axis scale length of disks
# ln(r_d / arcsec) = -1.145 - 0.269 (i - 23), distributed as p(r) ~ r exp(-(r/A)^(4/3)), here with
# A such that the median of p is r_d.
LOG_SCALE_AT_23, LOG_SCALE_SLOPE = -1.145, -0.269
HALF_LIGHT_PER_SCALE = 1.678
# Simard et al. 2002, as adopted there: a bulge's half-light radius is 0.6 of the disk's scale.
BULGE_PER_DISK_SCALE = 0.6
# Appendix B3: 10 % bulge-dominated (B/T = 1), the rest B/T = |N(0, 0.1)|.
BULGE_DOMINATED = 0.1
DISK_BULGE_SIGMA = 0.1
# Appendix B2: p(e) = A e (1 - exp((e - e_max)/a)) / ((1 + e) (e^2 + e0^2)^(1/2)).
ELLIPTICITY_MAX, ELLIPTICITY_CORE, ELLIPTICITY_SCALE = 0.804, 0.0256, 0.2539

# Colors (u-g, g-r, r-i, i-z, z-y): means and standard deviations of CatSim (OneDegSq.fits,
# LSST DM) in three classes of a Gaussian mixture fitted to its 3,500 galaxies with i < 26, and
# the correlation of neighboring colors there.
COLOR_WEIGHTS = np.array([0.38, 0.31, 0.31])
COLOR_MEANS = np.array(
    [
        [-0.03, 0.19, 0.38, 0.38, 0.31],
        [0.94, 0.98, 0.57, 0.24, 0.16],
        [0.72, 0.49, 0.41, 0.29, 0.20],
    ]
)
COLOR_SIGMAS = np.array(
    [
        [0.10, 0.24, 0.22, 0.20, 0.17],
        [0.65, 0.36, 0.27, 0.11, 0.07],
        [0.86, 0.66, 0.48, 0.30, 0.19],
    ]
)
COLOR_CORRELATION = 0.6


SERSIC, BULGE_DISK, CLUMPY, REAL, HUDF, STAR = "sersic", "bd", "clumpy", "real", "hudf", "star"
KINDS = (SERSIC, BULGE_DISK, CLUMPY, REAL, HUDF, STAR)
"""How a source of a simulated sky is drawn; HUDF's galaxies are real ones too."""


@dataclass(frozen=True)
class Shapes:
    """What the truth says of ``n`` galaxies.

    Attributes
    ----------
    r50
        ``(n,)`` circularised half-light radius of the whole galaxy before the PSF, arcsec.
    g
        ``(n, 2)`` reduced shears; NaN where an image has its own shape.
    index
        ``(n,)`` Sérsic index; NaN for what has none.
    bulge_fraction
        ``(n, bands)`` of the flux.
    kind, cls
        ``(n,)`` of `KINDS`, and the class in a protocol.
    """

    r50: FloatArray
    g: FloatArray
    index: FloatArray
    bulge_fraction: FloatArray
    kind: NDArray[np.str_]
    cls: NDArray[np.str_]


class GalaxyTable(Protocol):
    """Galaxies that a sky can be made of."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""

    @property
    def magnitude(self) -> FloatArray:
        """``(n, bands)`` total AB magnitudes."""

    @property
    def redshift(self) -> FloatArray:
        """``(n,)``."""

    def __len__(self) -> int: ...

    def profile(self, row: int, band: int) -> galsim.GSObject:
        """Return a galaxy's surface brightness in one band with unit flux, before the PSF."""

    def shapes(self, band: int) -> Shapes:
        """Return what the truth says of them; sizes are those in one band."""


@dataclass(frozen=True)
class ChangedGalaxies(ABC):
    """Galaxies whose `profile` differs from that of the ones it is made of, and nothing else."""

    galaxies: GalaxyTable

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""
        return self.galaxies.bands

    @property
    def magnitude(self) -> FloatArray:
        """``(n, bands)`` total AB magnitudes."""
        return self.galaxies.magnitude

    @property
    def redshift(self) -> FloatArray:
        """``(n,)``."""
        return self.galaxies.redshift

    def __len__(self) -> int:
        return len(self.galaxies)

    @abstractmethod
    def profile(self, row: int, band: int) -> galsim.GSObject:
        """Return a galaxy's surface brightness in one band with unit flux, before the PSF."""

    def shapes(self, band: int) -> Shapes:
        """Return what the truth says of the galaxies as they were."""
        return self.galaxies.shapes(band)


@dataclass(frozen=True)
class Galaxies:
    """A table of ``n`` bulge + disk galaxies; the disk is exponential, the bulge de Vaucouleurs.

    Attributes
    ----------
    bands
        Names of the bands.
    magnitude
        ``(n, bands)`` total AB magnitudes.
    bulge_fraction
        ``(n, bands)`` fraction of the flux in the bulge.
    disk_radius, bulge_radius
        ``(n,)`` circularised half-light radii in arcsec.
    disk_g, bulge_g
        ``(n, 2)`` reduced shears.
    redshift
        ``(n,)``.
    """

    bands: tuple[str, ...]
    magnitude: FloatArray
    bulge_fraction: FloatArray
    disk_radius: FloatArray
    bulge_radius: FloatArray
    disk_g: FloatArray
    bulge_g: FloatArray
    redshift: FloatArray

    def __len__(self) -> int:
        return len(self.redshift)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Galaxies:
        """Return the chosen rows."""
        arrays = {name: value[rows] for name, value in vars(self).items() if name != "bands"}
        return Galaxies(bands=self.bands, **arrays)

    def profile(self, row: int, band: int) -> galsim.GSObject:
        """Return the galaxy's surface brightness in one band with unit flux, before the PSF."""
        return profile(self, row, band)

    def shapes(self, band: int) -> Shapes:
        """Return what the truth says of them; sizes and shears are those in one band."""
        bulge = self.bulge_fraction[:, band]
        both = (bulge > 0) & (bulge < 1)
        kind = np.where(both, BULGE_DISK, SERSIC)
        return Shapes(
            r50=half_light_radius(self.disk_radius, self.bulge_radius, bulge),
            g=(1 - bulge[:, None]) * self.disk_g + bulge[:, None] * self.bulge_g,
            index=np.where(both, np.nan, np.where(bulge > 0, 4.0, 1.0)),
            bulge_fraction=self.bulge_fraction,
            kind=kind,
            cls=kind,
        )


def faint_limit(density: float) -> float:
    """Return the i magnitude down to which there are `density` galaxies per square arcminute."""
    return float(25 + np.log10(density / COUNTS_AT_25) / COUNTS_SLOPE)


def draw_galaxies(
    n: int, bands: tuple[str, ...], rng: np.random.Generator, faint: float = 26.5
) -> Galaxies:
    """Draw `n` galaxies brighter than i = `faint` (AB) from the published distributions."""
    magnitude_i = _draw_magnitudes(n, faint, rng)
    redshift = _draw_redshifts(magnitude_i, rng)
    shear = _draw_shears(n, rng)
    scale = _draw_scale_lengths(magnitude_i, rng) * np.sqrt(_axis_ratio(shear))
    bulge_dominated = rng.random(n) < BULGE_DOMINATED
    bulge = np.where(
        bulge_dominated, 1.0, np.minimum(np.abs(rng.normal(0, DISK_BULGE_SIGMA, n)), 1.0)
    )
    return Galaxies(
        bands=bands,
        magnitude=_magnitudes_in(bands, magnitude_i, rng),
        bulge_fraction=np.repeat(bulge[:, None], len(bands), axis=1),
        disk_radius=HALF_LIGHT_PER_SCALE * scale,
        bulge_radius=np.where(bulge_dominated, HALF_LIGHT_PER_SCALE, BULGE_PER_DISK_SCALE) * scale,
        disk_g=shear,
        bulge_g=shear,
        redshift=redshift,
    )


def read_catsim(path: str, bands: tuple[str, ...], faint: float = 25.3) -> Galaxies:
    """Read CatSim rows with i < `faint`; the active nucleus of 2 % of them is left out.

    Sizes and shapes follow WeakLensingDeblending: circularised half-light radius
    ``sqrt(a b)``, axis ratio ``b / a``, one position angle.

    Raises
    ------
    ConfigError
        If the file lacks the columns of CatSim or a band is not among u g r i z y.
    """
    unknown = [band for band in bands if band not in CATSIM_BANDS]
    if unknown:
        raise ConfigError(f"CatSim has no band {unknown[0]!r}; its bands are u, g, r, i, z, y")
    table = Table.read(path)
    if "fluxnorm_disk" not in table.colnames:
        raise ConfigError(f"{path} is not a CatSim catalog: it has no column fluxnorm_disk")
    table = table[np.asarray(table["i_ab"]) < faint]
    bulge = np.asarray(table["fluxnorm_bulge"], dtype=float)
    total = bulge + np.asarray(table["fluxnorm_disk"], dtype=float)
    table, bulge, total = table[total > 0], bulge[total > 0], total[total > 0]
    return Galaxies(
        bands=bands,
        magnitude=np.stack([np.asarray(table[f"{b}_ab"], dtype=float) for b in bands], axis=1),
        bulge_fraction=np.repeat((bulge / total)[:, None], len(bands), axis=1),
        disk_radius=np.sqrt(np.asarray(table["a_d"], float) * np.asarray(table["b_d"], float)),
        bulge_radius=np.sqrt(np.asarray(table["a_b"], float) * np.asarray(table["b_b"], float)),
        disk_g=_shears_from_axes(table, "d", "pa_disk"),
        bulge_g=_shears_from_axes(table, "b", "pa_bulge"),
        redshift=np.asarray(table["redshift"], dtype=float),
    )


def profile(galaxies: Galaxies, row: int, band: int) -> galsim.GSObject:
    """Return the galaxy's surface brightness in one band with unit flux, before the PSF."""
    bulge = float(galaxies.bulge_fraction[row, band])
    parts = []
    if bulge < 1:
        g1, g2 = galaxies.disk_g[row]
        disk = galsim.Exponential(half_light_radius=galaxies.disk_radius[row], flux=1 - bulge)
        parts.append(disk.shear(g1=g1, g2=g2))
    if bulge > 0:
        g1, g2 = galaxies.bulge_g[row]
        spheroid = galsim.DeVaucouleurs(half_light_radius=galaxies.bulge_radius[row], flux=bulge)
        parts.append(spheroid.shear(g1=g1, g2=g2))
    return parts[0] if len(parts) == 1 else galsim.Sum(parts)


def _draw_magnitudes(n: int, faint: float, rng: np.random.Generator) -> FloatArray:
    """Invert the cumulative counts ~ 10^(0.31 i) between BRIGHTEST and `faint`."""
    low, high = 10 ** (COUNTS_SLOPE * BRIGHTEST), 10 ** (COUNTS_SLOPE * faint)
    return np.log10(rng.uniform(low, high, n)) / COUNTS_SLOPE


def _draw_redshifts(magnitude: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw from z^2 exp(-z/z0), a gamma distribution of shape 3."""
    scale = np.maximum(REDSHIFT_SLOPE * magnitude + REDSHIFT_OFFSET, 0.02)
    return np.minimum(rng.gamma(3.0, scale), REDSHIFT_MAX)


def _draw_scale_lengths(magnitude: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Invert r exp(-(r/A)^(4/3)): with u = (r/A)^(4/3), u is gamma distributed with shape 3/2."""
    median = np.exp(LOG_SCALE_AT_23 + LOG_SCALE_SLOPE * (magnitude - 23))
    draws = rng.gamma(1.5, 1.0, len(magnitude)) / gammaincinv(1.5, 0.5)
    return np.asarray(median * draws**0.75)


def _draw_shears(n: int, rng: np.random.Generator) -> FloatArray:
    """Invert the tabulated cumulative distribution of |e|; random position angles."""
    e = np.linspace(0, ELLIPTICITY_MAX, 1001)
    density = e * (1 - np.exp((e - ELLIPTICITY_MAX) / ELLIPTICITY_SCALE))
    density /= (1 + e) * np.hypot(e, ELLIPTICITY_CORE)
    cumulative = np.cumsum(density) / density.sum()
    modulus = np.interp(rng.random(n), cumulative, e)
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([modulus * np.cos(angle), modulus * np.sin(angle)], axis=1)


def _axis_ratio(shear: FloatArray) -> FloatArray:
    """Minor over major axis of an ellipse of reduced shear ``(n, 2)``."""
    modulus = np.hypot(*shear.T)
    return np.asarray((1 - modulus) / (1 + modulus))


def _magnitudes_in(
    bands: tuple[str, ...], magnitude_i: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Add colors to the i magnitude; a band outside u..y takes the i magnitude."""
    n = len(magnitude_i)
    kind = rng.choice(len(COLOR_WEIGHTS), n, p=COLOR_WEIGHTS)
    shared = rng.normal(size=(n, 1)) * np.sqrt(COLOR_CORRELATION)
    own = rng.normal(size=(n, COLOR_MEANS.shape[1])) * np.sqrt(1 - COLOR_CORRELATION)
    colors = COLOR_MEANS[kind] + COLOR_SIGMAS[kind] * (shared + own)
    relative = np.concatenate([np.zeros((n, 1)), -np.cumsum(colors, axis=1)], axis=1)
    relative -= relative[:, [CATSIM_BANDS.index(REFERENCE_BAND)]]
    columns = [CATSIM_BANDS.index(b) if b in CATSIM_BANDS else 3 for b in bands]
    return np.asarray(magnitude_i[:, None] + relative[:, columns])


def _shears_from_axes(table: Table, component: str, angle: str) -> FloatArray:
    """Reduced shear (1 - q) / (1 + q) at the catalog's position angle; round where absent."""
    a = np.asarray(table[f"a_{component}"], dtype=float)
    b = np.asarray(table[f"b_{component}"], dtype=float)
    ratio = np.divide(b, a, out=np.ones_like(a), where=a > 0)
    modulus = (1 - ratio) / (1 + ratio)
    phase = 2 * np.deg2rad(np.asarray(table[angle], dtype=float))
    return np.stack([modulus * np.cos(phase), modulus * np.sin(phase)], axis=1)


def half_light_radius(
    disk_radius: FloatArray, bulge_radius: FloatArray, bulge_fraction: FloatArray
) -> FloatArray:
    """Return the half-light radius of exponential disk + de Vaucouleurs bulge, by bisection.

    The light of a Sérsic profile within r is P(2n, b (r / r_e)^(1/n)), P the regularized
    incomplete gamma function (Graham & Driver 2005, PASA 22, 118, eq. 2).
    """
    low, high = np.zeros_like(disk_radius), np.maximum(disk_radius, bulge_radius)
    for _ in range(40):
        middle = (low + high) / 2
        disk = gammainc(2, EXPONENTIAL_B * middle / disk_radius)
        bulge = gammainc(8, DE_VAUCOULEURS_B * (middle / bulge_radius) ** 0.25)
        inside = (1 - bulge_fraction) * disk + bulge_fraction * bulge
        low, high = np.where(inside < 0.5, middle, low), np.where(inside < 0.5, high, middle)
    return (low + high) / 2
