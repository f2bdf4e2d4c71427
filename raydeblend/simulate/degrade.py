"""HST to HSC: blur by the matching kernel, rebin, add the survey's noise (Hemmati et al. 2022, §2).

The kernel K turns the sharp PSF H into the blurred one L.  In Fourier space K = L / H, here
regularized as Wiener does, K = L H* / (|H|² + ε), since H vanishes beyond the diffraction limit.
Both PSFs are drawn on the fine grid with the fine pixel in them; summing `factor`×`factor` fine
pixels then gives exactly the PSF with the coarse pixel in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from raydeblend.errors import ConfigError
from raydeblend.instruments import COUNTERPARTS, FACTOR
from raydeblend.survey import Survey, draw_psf, get_survey, psf_profile

FloatArray = NDArray[np.float32]

REGULARIZATION = 1e-6
"""ε relative to the largest |H|²."""
KERNEL_SIZE = 101
"""Fine pixels: 6 arcsec, since 1.5 % of the light lies beyond 2 arcsec of HSC's PSF."""


@dataclass(frozen=True)
class Degradation:
    """How one band of a sharp image becomes one of a ground-based survey.

    Attributes
    ----------
    kernel
        ``(ky, kx)`` odd, sum 1, on the fine grid.
    factor
        Fine pixels in a coarse one, along each axis.
    sky_sigma
        Sky noise of a coarse pixel in nJy.
    electrons_per_njy
        For the Poisson noise of the galaxies.
    """

    kernel: FloatArray
    factor: int
    sky_sigma: float
    electrons_per_njy: float

    def blurred(self, images: FloatArray) -> FloatArray:
        """Return noiseless ``(..., y / factor, x / factor)`` images of ``(..., y, x)`` ones."""
        return rebin_sum(blur(images, self.kernel), self.factor)

    def __call__(self, images: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Degrade ``(..., y, x)`` in nJy."""
        return add_noise(self.blurred(images), self.sky_sigma, rng, self.electrons_per_njy)


def hsc_degradation(
    sharp_psf: FloatArray,
    band: str = "F775W",
    pixel_scale: float = 0.06,
    factor: int = FACTOR,
    survey: str = "HSC",
    fwhm: float | None = None,
) -> Degradation:
    """Return what takes an HST band to HSC's nearest one.

    Parameters
    ----------
    sharp_psf
        ``(py, px)`` odd, normalized, at `pixel_scale`, pixel included.
    band
        HST band, or a band of the survey itself.
    fwhm
        Seeing in arcsec; the survey's median if None (the paper's is 0.6, HSC's i band 0.61).
    """
    ground = get_survey(survey)
    name = COUNTERPARTS.get(band, band)
    target = draw_psf(psf_profile(ground, name, fwhm), pixel_scale, KERNEL_SIZE)
    return Degradation(
        kernel=matching_kernel(sharp_psf, target),
        factor=factor,
        sky_sigma=sky_sigma(ground, name, factor * pixel_scale),
        electrons_per_njy=ground.band(name).electrons_per_njy,
    )


def sky_sigma(survey: Survey, band: str, pixel_scale: float) -> float:
    """Return the sky noise in nJy of a pixel of another size: it grows with the pixel's side."""
    return survey.band(band).sky_sigma * pixel_scale / survey.pixel_scale


def matching_kernel(
    sharp: FloatArray,
    blurred: FloatArray,
    size: int | None = None,
    regularization: float = REGULARIZATION,
) -> FloatArray:
    """Return the kernel ``(size, size)`` that convolves the `sharp` PSF into the `blurred` one.

    Both are normalized odd stamps on the same grid, of any size; `size` is by default that of
    the blurred one, in which the kernel's wings are nearly the same.

    Raises
    ------
    ConfigError
        If a PSF has an even side, or the second is not the broader one.
    """
    for psf in (sharp, blurred):
        if psf.ndim != 2 or not (psf.shape[0] % 2 and psf.shape[1] % 2):
            raise ConfigError(f"a PSF must have odd sides, not {psf.shape}")
    if sharp.max() / sharp.sum() < blurred.max() / blurred.sum():
        raise ConfigError("the PSF to match is sharper than that of the images")
    size = size or max(blurred.shape)
    # Room for both, so that the periodic kernel does not wrap into itself.
    side = 2 * max(size, *sharp.shape, *blurred.shape) - 1
    h, low = (np.fft.fft2(_wrapped(psf, side)) for psf in (sharp, blurred))
    power = np.abs(h) ** 2
    ratio = low * np.conj(h) / (power + regularization * power.max())
    kernel = np.fft.fftshift(np.fft.ifft2(ratio).real)
    first = (side - size) // 2
    kernel = kernel[first : first + size, first : first + size]
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def _wrapped(psf: FloatArray, side: int) -> NDArray[np.float64]:
    """Return the PSF, normalized, on a square of odd `side` with its middle at pixel (0, 0)."""
    out = np.zeros((side, side))
    y, x = (side - psf.shape[0]) // 2, (side - psf.shape[1]) // 2
    out[y : y + psf.shape[0], x : x + psf.shape[1]] = psf / psf.sum(dtype=np.float64)
    return np.fft.ifftshift(out)


def blur(images: FloatArray, kernel: FloatArray) -> FloatArray:
    """Convolve ``(..., y, x)`` images; what lies beyond them is zero."""
    weights = kernel.reshape((1,) * (images.ndim - 2) + kernel.shape)
    return np.asarray(fftconvolve(images, weights, mode="same", axes=(-2, -1)), dtype=np.float32)


def rebin_sum(images: FloatArray, factor: int) -> FloatArray:
    """Sum blocks of `factor`×`factor` pixels of ``(..., y, x)``.

    Raises
    ------
    ConfigError
        If a side is no multiple of `factor`.
    """
    *batch, y, x = images.shape
    if y % factor or x % factor:
        raise ConfigError(f"images of {y} x {x} pixels cannot be rebinned by {factor}")
    blocks = images.reshape(*batch, y // factor, factor, x // factor, factor)
    return np.asarray(blocks.sum(axis=(-3, -1)), dtype=np.float32)


def add_noise(
    images: FloatArray,
    sigma: float,
    rng: np.random.Generator,
    electrons_per_njy: float = np.inf,
) -> FloatArray:
    """Add the noise of the sky (`sigma`, per pixel) and of the galaxies' own photons.

    `images` is ``(..., y, x)`` in nJy; the noise of pixels is independent.
    """
    noise = rng.standard_normal(images.shape).astype(np.float32)
    variance = sigma**2 + np.clip(images, 0, None) / electrons_per_njy
    return np.asarray(images + noise * np.sqrt(variance), dtype=np.float32)
