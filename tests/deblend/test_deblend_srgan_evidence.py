"""Which candidates of a network the pixels confirm."""

import galsim
import numpy as np
import pytest
import torch

from raydeblend.deblend.joint import JointDeblender
from raydeblend.deblend.srgan_evidence import MIN_GAIN, MODEL_ERROR, confirm_sources
from raydeblend.simulate.sharp_blends import low_psf

PSF = low_psf(25)[None]
FITTER = JointDeblender(torch.device("cpu"), drop_given=True, judge=confirm_sources)
SIZE = 24


def scene(separation: float, fluxes: tuple[float, ...]) -> np.ndarray:
    """Galaxies on the x axis about (11.5, 11.5), `separation` in pixels, with unit noise."""
    psf = galsim.Moffat(beta=3.5, fwhm=0.6)
    image = np.zeros((SIZE, SIZE))
    for sign, flux in zip((-1, 1), fluxes, strict=False):
        galaxy = galsim.Exponential(half_light_radius=0.2, flux=flux)
        shift = (sign * separation / 2, 0) if len(fluxes) > 1 else (0, 0)
        drawn = galsim.Convolve(galaxy, psf).drawImage(
            nx=SIZE, ny=SIZE, scale=0.18, offset=shift
        )  # fmt: skip
        image += drawn.array
    noise = np.random.default_rng(3).standard_normal(image.shape)
    return (image + noise)[None, None].astype(np.float32)


def found(image: np.ndarray, xy: list[list[float]]) -> np.ndarray:
    result = FITTER(image, np.ones_like(image), psf=PSF, pixel_scale=0.18, xy=[np.array(xy)])
    return result.xy[0, : result.n_sources[0]]


def test_a_true_pair_stays_and_an_imagined_one_goes() -> None:
    candidates = [[9.8, 11.5], [13.2, 11.5]]
    pair = found(scene(3.4, (1500.0, 900.0)), candidates)
    assert len(pair) == 2
    assert pair[np.argsort(pair[:, 0])] == pytest.approx(np.array(candidates), abs=0.4)
    single = found(scene(0, (2400.0,)), candidates)
    assert len(single) == 1
    assert single[0] == pytest.approx((11.5, 11.5), abs=0.3)


def test_the_last_source_stays_however_faint() -> None:
    assert len(found(scene(0, (30.0,)), [[11.5, 11.5]])) == 1


def test_doubtful_candidates_far_from_light_go() -> None:
    candidates = [[11.5, 11.5], [11.5, 17.0], [6.0, 6.0]]
    assert len(found(scene(0, (2400.0,)), candidates)) == 1


def test_structure_is_allowed_for_in_bright_galaxies() -> None:
    """A gain that confirms a faint pair does not confirm one at a signal to noise of 1,000."""
    from types import SimpleNamespace

    from raydeblend.deblend.srgan_evidence import least_gain

    faint, bright = (SimpleNamespace(snr=np.array([snr])) for snr in (30.0, 1000.0))
    assert least_gain(faint) == pytest.approx(MIN_GAIN + 0.5 * (MODEL_ERROR * 30) ** 2)  # type: ignore[arg-type]
    assert least_gain(bright) > MIN_GAIN + 40  # type: ignore[arg-type]
