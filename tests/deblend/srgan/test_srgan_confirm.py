"""Which candidates of a network the pixels confirm."""

import dataclasses
from functools import partial

import galsim
import numpy as np
import pytest
import torch

from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.srgan.config import ConfirmConfig
from raydeblend.deblend.srgan.confirm import confirm_sources, least_gain
from raydeblend.instruments import coarse_psf

PSF = coarse_psf(size=25)[None]
CONFIG = ConfirmConfig()
CONFIRM = partial(confirm_sources, config=CONFIG)
FITTER = JointDeblender(torch.device("cpu"), drop_given=True, prune=CONFIRM)
SIZE = 24


def scene(separation: float, fluxes: tuple[float, ...], radius: float = 0.2) -> np.ndarray:
    """Galaxies on the x axis about (11.5, 11.5), `separation` in pixels, with unit noise."""
    psf = galsim.Moffat(beta=3.5, fwhm=0.6)
    image = np.zeros((SIZE, SIZE))
    for sign, flux in zip((-1, 1), fluxes, strict=False):
        galaxy = galsim.Exponential(half_light_radius=radius, flux=flux)
        shift = (sign * separation / 2, 0) if len(fluxes) > 1 else (0, 0)
        drawn = galsim.Convolve(galaxy, psf).drawImage(
            nx=SIZE, ny=SIZE, scale=0.18, offset=shift
        )  # fmt: skip
        image += drawn.array
    noise = np.random.default_rng(3).standard_normal(image.shape)
    return (image + noise)[None, None].astype(np.float32)


def found(image: np.ndarray, xy: list[list[float]], fitter: JointDeblender = FITTER) -> np.ndarray:
    result = fitter(image, np.ones_like(image), psf=PSF, pixel_scale=0.18, xy=[np.array(xy)])
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


@pytest.mark.parametrize("distance", [3.0, 5.0])
def test_a_candidate_without_light_leaves_the_galaxy(distance: float) -> None:
    """A flux held at its least must not pass for the surer source."""
    image = scene(0, (12000.0,))
    left = found(image, [[11.5, 11.5], [11.5 + distance, 11.5]])
    assert left == pytest.approx(np.array([[11.5, 11.5]]), abs=0.1)


def test_a_hint_is_tried_and_a_pair_is_cut_in_two_without_one() -> None:
    pair, single = scene(3.4, (1500.0, 900.0)), scene(0, (2400.0,))
    truth = np.array([[9.8, 11.5], [13.2, 11.5]])
    for hints in (None, [np.array([[13.0, 12.0], [5.0, 5.0]])]):
        prune = partial(CONFIRM, hints=hints)
        fitter = dataclasses.replace(FITTER, prune=prune)
        seen = found(pair, [[10.5, 11.5]], fitter)
        assert seen[np.argsort(seen[:, 0])] == pytest.approx(truth, abs=0.4)
        assert len(found(single, [[11.5, 11.5]], fitter)) == 1


def test_structure_and_bands_ask_for_more_gain() -> None:
    """A gain that confirms a faint pair does not confirm one at a signal to noise of 1,000."""
    from types import SimpleNamespace

    faint, bright = (SimpleNamespace(snr=np.array([snr])) for snr in (30.0, 1000.0))
    one, three = (SimpleNamespace(weights=np.ones((bands, 4))) for bands in (1, 3))
    config = ConfirmConfig(band_gain=3.0, model_error=0.02)
    expected = 10 + 0.5 * (0.02 * 30) ** 2
    assert least_gain(one, faint, 10, config) == pytest.approx(expected)  # type: ignore[arg-type]
    assert least_gain(one, bright, 10, config) > 110  # type: ignore[arg-type]
    more = least_gain(three, faint, 10, config)  # type: ignore[arg-type]
    assert more == pytest.approx(expected + 2 * 3)


def test_a_galaxy_of_another_profile_is_not_two_on_one_spot() -> None:
    """A point in a wide disk: more than bulge + disk of the priors, yet one center."""
    image = scene(0, (6000.0,)) + scene(0, (6000.0,), radius=1.2)
    assert len(found(image, [[11.4, 11.5], [11.8, 11.5]])) == 1
