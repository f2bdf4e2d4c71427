"""HST's galaxies as Euclid VIS would see them: the realistic stamps of Nemani et al. 2023.

The paper's come from the Euclid morphology challenge (Bretonnière et al. 2022), where a network
made them from HST's.  Here the HST galaxies themselves are used: their PSF is deconvolved, they
are made fainter and smaller together, turned, and convolved with the PSF of VIS.
"""

from __future__ import annotations

from collections.abc import Sequence

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.errors import ConfigError
from raydeblend.simulate.euclid import (
    BRIGHTEST,
    FAINT,
    LOG_SIZE_SLOPE,
    SURVEY,
    draw_profile,
    group_of,
    vis_psf,
)
from raydeblend.simulate.galaxies import COUNTS_SLOPE
from raydeblend.simulate.hst import HstStamps, load_hst
from raydeblend.simulate.isolated import IsolatedGroup
from raydeblend.survey import NJY_ZERO_POINT, get_survey

HST_SIZE = 128
"""Side of the HST stamps in pixels of 0.06 arcsec: 7.7 arcsec, a little less than the stamps."""
UNCALIBRATED_MAG = 21.5
"""Assumed for galaxies without a zero point; those of JediSim are bright and large."""
FAINTEST_ORIGINAL = 24.0
"""Fainter originals are mostly noise, which would pass for truth."""
ISOPHOTE, MARGIN = 1.0, 4
"""A galaxy ends this many pixels outside its isophote of this many sigma; beyond is HST's noise."""


def load_real(root: str, validation: bool | None = None) -> HstStamps:
    """Read the HST galaxies under `root`, without those too faint; see `load_hst`.

    Parameters
    ----------
    validation
        Only those never trained on (true), or only the others (false).

    Raises
    ------
    ConfigError
        If none can be used.
    """
    stamps = load_hst(root, ("F814W",), HST_SIZE)
    keep = magnitudes(stamps) < FAINTEST_ORIGINAL
    if validation is not None:
        keep &= stamps.is_validation == validation
    if not keep.any():
        raise ConfigError(f"{root} holds no HST galaxy bright enough to be truth")
    return stamps.take(keep)


def magnitudes(stamps: HstStamps) -> NDArray[np.float64]:
    """AB magnitudes ``(n,)`` of the originals."""
    flux = np.maximum(stamps.images[:, 0].sum(axis=(1, 2), dtype=np.float64), 1e-3)
    calibrated = NJY_ZERO_POINT - 2.5 * np.log10(flux)
    return np.where(stamps.calibrated, calibrated, UNCALIBRATED_MAG)


def render_real(
    stamps: HstStamps, n: int, rng: np.random.Generator, size: int = 80, faint: float = FAINT
) -> tuple[IsolatedGroup, NDArray[np.int64]]:
    """Render `n` draws of the galaxies, noiseless, in units of the sky noise of VIS.

    A galaxy is drawn at its own magnitude or a fainter one, never brighter, so that the noise of
    its HST image falls with it.

    Returns
    -------
    The images as a group, and the number of each galaxy ``(n,)``.
    """
    survey = get_survey(SURVEY)
    psf = vis_psf(survey)
    own = magnitudes(stamps)
    rows = rng.integers(0, len(stamps), n)
    images = np.zeros((n, 1, size, size), dtype=np.float16)
    for k, row in enumerate(rows):
        magnitude = fainter_than(own[row], faint, rng)
        profile = deconvolved(stamps, row, magnitude - own[row])
        images[k, 0] = np.maximum(draw_profile(profile, psf, magnitude, survey, rng, size), 0)
    return group_of(images, psf, survey), np.asarray(stamps.galaxy[rows])


def fainter_than(magnitude: float, faint: float, rng: np.random.Generator) -> float:
    """Draw from the counts between a galaxy's own magnitude and `faint`."""
    bright = float(np.clip(magnitude, BRIGHTEST, faint))
    low, high = 10 ** (COUNTS_SLOPE * bright), 10 ** (COUNTS_SLOPE * faint)
    return float(np.log10(rng.uniform(low, high)) / COUNTS_SLOPE)


def deconvolved(stamps: HstStamps, row: int, fainter: float) -> galsim.GSObject:
    """Return one galaxy with unit flux, HST's PSF removed, smaller as it is `fainter` (mag)."""
    scale = stamps.pixel_scale
    clean = within_isophote(stamps.images[row, 0])
    image = galsim.InterpolatedImage(galsim.Image(clean, scale=scale), flux=1.0)
    seen_through = galsim.InterpolatedImage(
        galsim.Image(stamps.psf[stamps.psf_index[row]], scale=scale), flux=1.0
    )
    profile = galsim.Convolve(image, galsim.Deconvolve(seen_through))
    return profile.dilate(float(np.exp(LOG_SIZE_SLOPE * fainter)))


def within_isophote(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Set an HST stamp ``(y, x)`` to zero where its central galaxy has ended."""
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    sigma = 1.4826 * float(np.median(np.abs(rim - np.median(rim))))
    smooth = ndimage.gaussian_filter(image, 2.0)
    # A Gaussian of this width lowers white noise by 2 sqrt(pi) times itself.
    bright = smooth > max(ISOPHOTE * sigma / (4 * np.sqrt(np.pi)), 1e-4 * float(smooth.max()))
    labels, _ = ndimage.label(bright)
    y, x = _middle(smooth)
    inside = ndimage.binary_dilation(labels == labels[y, x], iterations=MARGIN)
    return np.where(inside & bright[y, x], image, 0).astype(np.float32)


def _middle(smooth: NDArray[np.float32]) -> Sequence[int]:
    """Brightest pixel (y, x) of the middle quarter."""
    side = smooth.shape[0]
    core = smooth[side * 3 // 8 : side * 5 // 8, side * 3 // 8 : side * 5 // 8]
    y, x = np.unravel_index(int(core.argmax()), core.shape)
    return int(y) + side * 3 // 8, int(x) + side * 3 // 8
