"""Pieces of galaxies of a known profile, and pairs of them, under models that share a peak."""

import galsim
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raydeblend.deblend.base import Call
from raydeblend.deblend.peeling.pieces import join_pieces, sharing

SCALE, SIZE = 0.2, 64
MIDDLE = (SIZE - 1) / 2
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = SEEING.drawImage(nx=41, ny=41, scale=SCALE).array[None]
CPU = torch.device("cpu")
PEAK = [np.array([[MIDDLE, MIDDLE]])]
Array = NDArray[np.float32]


def draw(profile: galsim.GSObject, x: float = 0.0, y: float = 0.0) -> Array:
    """Draw a galaxy so many pixels from the middle, ``(1, y, x)``."""
    seen = galsim.Convolve(profile, SEEING)
    return seen.drawImage(nx=SIZE, ny=SIZE, scale=SCALE, offset=(x, y)).array[None]


def call(image: Array, psf: Array | None = PSF) -> Call:
    noisy = image + np.random.default_rng(1).normal(size=image.shape)
    return Call(noisy[None], np.ones_like(image)[None], None, psf, ("i",), SCALE)


def joined(seen: Call, models: Array, *xy: tuple[float, float]) -> tuple[Array, Array]:
    """Join models at positions from the middle that share the one peak there."""
    (found,) = join_pieces(seen, [(models, np.array(xy) + MIDDLE)], PEAK, CPU)
    return found


def test_what_a_galaxy_was_taken_apart_into_is_one_again() -> None:
    """A round Gaussian as its compact middle and two pieces of what that leaves of it."""
    galaxy = draw(galsim.Gaussian(sigma=0.6, flux=20000.0))
    columns = np.arange(SIZE) - MIDDLE
    left, right = np.where(columns < -1.5, 0.5, 0.0), np.where(columns > 1.5, 0.5, 0.0)
    models = np.stack([galaxy * (1 - left - right), galaxy * left, galaxy * right])
    one, xy = joined(call(galaxy), models, (0, 0), (-3, 0), (3, 0))
    assert len(one) == 1
    np.testing.assert_allclose(one[0], galaxy, rtol=1e-5)
    np.testing.assert_allclose(xy, [[MIDDLE, MIDDLE]], atol=0.5)


def test_two_galaxies_that_share_a_peak_stay_two() -> None:
    disk = galsim.Exponential(half_light_radius=0.3, flux=8000.0)
    pair = np.stack([draw(disk, -1.5), 0.6 * draw(disk, 2.0)])
    models, xy = joined(call(pair.sum(axis=0)), pair, (-1.5, 0), (2, 0))
    assert np.array_equal(models, pair)
    assert xy.tolist() == [[MIDDLE - 1.5, MIDDLE], [MIDDLE + 2, MIDDLE]]


def test_a_piece_of_one_galaxy_does_not_go_to_another() -> None:
    """The brighter galaxy has a peak for itself, and the fainter one comes in two parts."""
    bright = draw(galsim.Exponential(half_light_radius=0.4, flux=30000.0), -9)
    faint = draw(galsim.Gaussian(sigma=0.5, flux=9000.0), 9)
    upper = np.where(np.arange(SIZE)[:, None] > MIDDLE + 2, 0.4, 0.0)
    models = np.stack([bright, faint * (1 - upper), faint * upper])
    xy = np.array([[-9.0, 0], [9, 0], [9, 3]]) + MIDDLE
    peaks = [xy[:2]]
    (found,) = join_pieces(call(bright + faint), [(models, xy)], peaks, CPU)
    np.testing.assert_allclose(found[0], [bright, faint], rtol=1e-5)


def test_nothing_is_joined_without_a_psf() -> None:
    galaxy = draw(galsim.Gaussian(sigma=0.6, flux=20000.0))
    halves = np.stack([0.6 * galaxy, 0.4 * galaxy])
    models, _ = joined(call(galaxy, psf=None), halves, (0, 0), (2, 0))
    assert np.array_equal(models, halves)


@pytest.mark.parametrize(
    ("peaks", "groups"),
    [([[0.0, 0], [10, 0]], [[0, 2], [1, 3]]), ([[4.0, 0]], [[0, 1, 2, 3]]), ([], [[0, 1, 2, 3]])],
)
def test_sources_share_the_peak_that_is_nearest(
    peaks: list[list[float]], groups: list[list[int]]
) -> None:
    xy = np.array([[0.0, 0], [10, 1], [3, 0], [9, -1]])
    found = sharing(xy, np.array(peaks).reshape(-1, 2))
    assert [group.tolist() for group in found] == groups
    assert not list(sharing(xy[:1], np.array(peaks).reshape(-1, 2)))
