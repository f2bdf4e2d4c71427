"""Images of real galaxies for simulated skies: continued beyond the noise, and split by galaxy.

They come from a folder that the user names (`raydeblend.simulate.hst` says which collections it
may hold); none are shipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.errors import ConfigError
from raydeblend.simulate.cutouts import IDENTIFIERS, ZERO_BACKGROUND
from raydeblend.simulate.hst import HstStamps, load_hst
from raydeblend.survey import NJY_ZERO_POINT

FloatArray = NDArray[np.float64]
Image = NDArray[np.float32]

SPLITS = ("train", "validation", "test")
TEST, VALIDATION = 0, 4
"""Of a galaxy's number modulo 8.  Test galaxies are those that no network is trained on
(`raydeblend.simulate.hst.VALIDATION`)."""
COLLECTIONS = {1: "cosmos", 2: "cosmos", 3: "jedisim", 4: "hudf"}
SIZE, SCALE = 192, 0.06
"""Pixels and arcsec of the stamps that are read: 11.5 arcsec."""
BLUE = ("u", "g", "r")
"""Bands for which the image in F606W stands, where there is one."""
SMOOTHING, CUT_SIGMA = 2.0, 3.0
"""Pixels of the Gaussian before the cut; the cut in sigmas of the smoothed sky."""
WING_PER_R50 = 0.45
"""Scale length of the wings beyond the cut over the half-light radius: 1/1.678 along the mean axis
of an exponential, less across a disk that is seen from the side."""
WING_LENGTH = 5.0
"""Scale lengths after which the wings end."""
MIN_R50 = 0.1
"""Arcsec; smaller ones are as good as stars."""


@dataclass(frozen=True)
class Stamps:
    """Images of ``n`` real galaxies at `SCALE`, of unit flux, zero outside their light.

    Attributes
    ----------
    red, blue
        ``(y, x)`` each: F814W (or what a single image was taken in), and F606W or the same.
    galaxy
        ``(n,)`` identifiers, see `raydeblend.simulate.hst`.
    magnitude
        ``(n,)`` AB in F814W; NaN without a zero point.
    r50
        ``(n,)`` half-light radius in arcsec, the telescope's PSF included.
    center
        ``(n, 2)`` center of the light (x, y) in pixels off the middle of the image.
    """

    red: tuple[Image, ...]
    blue: tuple[Image, ...]
    galaxy: NDArray[np.int64]
    magnitude: FloatArray
    r50: FloatArray
    center: FloatArray

    def __len__(self) -> int:
        return len(self.galaxy)

    @property
    def collection(self) -> NDArray[np.str_]:
        """``(n,)``: cosmos, jedisim, hudf or other."""
        return np.array([COLLECTIONS.get(int(g), "other") for g in self.galaxy // IDENTIFIERS])

    def profile(self, row: int, band: str) -> galsim.GSObject:
        """Return one galaxy with unit flux, its light's center (that of `red`) at the origin."""
        image = self.blue[row] if band in BLUE else self.red[row]
        return galsim.InterpolatedImage(
            galsim.Image(np.asarray(image, dtype=np.float64)),
            scale=SCALE,
            flux=1.0,
            offset=galsim.PositionD(*self.center[row]),
        )

    def split(self, name: str) -> Stamps:
        """Return the galaxies of a split, one of `SPLITS`."""
        part = self.galaxy % 8
        keep = {
            "test": part == TEST,
            "validation": part == VALIDATION,
            "train": (part != TEST) & (part != VALIDATION),
        }[name]
        rows = np.flatnonzero(keep)
        return replace(
            self,
            red=tuple(self.red[i] for i in rows),
            blue=tuple(self.blue[i] for i in rows),
            galaxy=self.galaxy[rows],
            magnitude=self.magnitude[rows],
            r50=self.r50[rows],
            center=self.center[rows],
        )


@lru_cache(maxsize=2)
def load_stamps(root: str) -> Stamps:
    """Read and cut all galaxies below `root`.

    Raises
    ------
    ConfigError
        If the folder does not exist or holds no galaxy that can be used.
    """
    red = load_hst(root, ("F814W",), SIZE, SCALE)
    blue = _blue(root)
    kept = [(i, *cut) for i, cut in enumerate(_cut_all(red, blue)) if cut is not None]
    if not kept:
        raise ConfigError(f"{root} holds no HST galaxy larger than {MIN_R50:g} arcsec")
    rows = np.array([i for i, *_ in kept])
    flux = np.array([flux for *_, flux in kept])
    known = red.calibrated[rows]
    return Stamps(
        red=tuple(image for _, image, *_ in kept),
        blue=tuple(image for _, _, image, _, _ in kept),
        galaxy=red.galaxy[rows],
        magnitude=np.where(known, NJY_ZERO_POINT - 2.5 * np.log10(flux), np.nan),
        r50=np.array([radius for _, _, _, radius, _ in kept]),
        center=np.array([light_center(image) for _, image, *_ in kept]),
    )


def _blue(root: str) -> dict[int, Image]:
    """Return the images in F606W by galaxy, where there are any."""
    try:
        both = load_hst(root, ("F606W", "F814W"), SIZE, SCALE)
    except ConfigError:
        return {}
    return {int(galaxy): image[0] for galaxy, image in zip(both.galaxy, both.images, strict=True)}


def _cut_all(
    red: HstStamps, blue: dict[int, Image]
) -> Iterator[tuple[Image, Image, float, float] | None]:
    """Yield red and blue image of unit flux, r50 and flux of each galaxy; None if unusable."""
    for galaxy, (image,) in zip(red.galaxy, red.images, strict=True):
        mask = light_mask(image)
        yield None if mask is None else _cut(image, blue.get(int(galaxy), image), mask)


def _cut(
    red: Image, blue: Image, inside: NDArray[np.bool_]
) -> tuple[Image, Image, float, float] | None:
    fluxes = [float(image[inside].sum()) for image in (red, blue)]
    if min(fluxes) <= 0:
        return None
    scale = WING_PER_R50 * half_light(red * inside) / SCALE
    images = [with_wings(image, inside, scale) for image in (red, blue)]
    radius = half_light(images[0])
    if radius < MIN_R50:
        return None
    totals = [float(image.sum()) for image in images]
    unit = [(image / total).astype(np.float32) for image, total in zip(images, totals, strict=True)]
    return unit[0], unit[1], radius, totals[0]


def with_wings(image: Image, inside: NDArray[np.bool_], scale: float) -> FloatArray:
    """Return the light inside, and wings beyond that continue it, falling by e in `scale` pixels.

    An image that ended along its isophote would show a rim that no galaxy has, as soon as it is
    drawn brighter than it was seen.  What is returned is the part that holds anything.
    """
    reach = int(np.ceil(WING_LENGTH * scale))
    y, x = np.nonzero(inside)
    size = [np.ptp(y) + 1 + 2 * reach, np.ptp(x) + 1 + 2 * reach]
    wide, own = np.zeros(size), np.zeros(size, dtype=bool)
    place = (y - y.min() + reach, x - x.min() + reach)
    wide[place], own[place] = image[y, x], True
    # The rim itself is half sky: what continues is the light a smoothing length inside.
    weight = ndimage.gaussian_filter(own.astype(np.float64), SMOOTHING)
    smooth = np.maximum(ndimage.gaussian_filter(wide, SMOOTHING), 0) / np.maximum(weight, 1e-3)
    distance, nearest = ndimage.distance_transform_edt(~own, return_indices=True)
    rim = smooth[tuple(nearest)]
    wings = rim * np.exp(-distance / scale) * np.clip(WING_LENGTH - distance / scale, 0, 1)
    return np.asarray(np.where(own, wide, wings))


def light_mask(image: Image) -> NDArray[np.bool_] | None:
    """Return ``(y, x)``: where the central galaxy is above the noise; None if nowhere."""
    smooth = ndimage.gaussian_filter(image, SMOOTHING)
    outer = smooth[smooth < np.median(smooth)]
    sigma = float(np.sqrt(np.mean((outer - np.median(smooth)) ** 2))) if outer.size else 0.0
    labels, _ = ndimage.label(smooth > max(CUT_SIGMA * sigma, 1e-3 * float(smooth.max())))
    middle = tuple(n // 2 for n in image.shape)
    near = labels[middle[0] - 3 : middle[0] + 4, middle[1] - 3 : middle[1] + 4]
    if not near.any():
        return None
    filled = ndimage.binary_fill_holes(labels == np.bincount(near[near > 0]).argmax())
    # Cut along its segment, an image has a rim of smoothed zeros.
    return np.asarray(filled & (image != 0) if np.mean(image == 0) > ZERO_BACKGROUND else filled)


def half_light(image: NDArray[np.floating]) -> float:
    """Return the radius (arcsec) about the light's center that holds half of the flux."""
    y, x = np.indices(image.shape)
    x0, y0 = light_center(image) + (np.array(image.shape[::-1]) - 1) / 2
    distance = np.hypot(y - y0, x - x0).ravel()
    order = np.argsort(distance)
    grown = np.cumsum(image.ravel()[order]) / image.sum()
    return float(SCALE * distance[order][np.searchsorted(grown, 0.5)])


def light_center(image: NDArray[np.floating]) -> FloatArray:
    """Return the center (x, y) of the positive pixels, off the middle of the image."""
    light = np.maximum(image, 0).astype(np.float64)
    along = [light.sum(axis=axis) for axis in (0, 1)]
    places = [np.arange(len(part)) - (len(part) - 1) / 2 for part in along]
    return np.array([(p * part).sum() / part.sum() for p, part in zip(places, along, strict=True)])


def find_stamps(root: str | None, split: str) -> Stamps:
    """Return the real galaxies of one split; none where `root` is None.

    Raises
    ------
    ConfigError
        For an unknown split, or a folder that cannot be used or has no galaxy of the split.
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    if root is None:
        none = np.zeros(0)
        return Stamps((), (), none.astype(np.int64), none, none, np.zeros((0, 2)))
    chosen = load_stamps(root).split(split)
    if not len(chosen):
        raise ConfigError(f"{root} holds no HST galaxy of the split {split}")
    return chosen
