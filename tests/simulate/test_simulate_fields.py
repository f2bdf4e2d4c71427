"""Crowded fields: what the protocol promises, and half-light ellipses by counting light."""

from pathlib import Path

import galsim
import numpy as np
import pytest
import sep

from raydeblend.errors import ConfigError
from raydeblend.simulate.fields import (
    BANDS,
    GALAXIES,
    MAX_SHIFT,
    MIN_SNR,
    SIZE,
    draw_fields,
    half_light_ellipses,
    signal_to_noise,
)
from raydeblend.simulate.galaxies import Galaxies, profile, read_catsim
from raydeblend.simulate.heldout import exclude_held_out, is_held_out
from raydeblend.survey import get_survey

SHARED = Path(__file__).parents[3] / "shared/data"
CATSIM = SHARED / "catalogs/catsim_onedegsq.fits"
VALID = SHARED / "protocols/wang2022_valid.npz"


def test_a_field_is_as_the_protocol_says():
    data = draw_fields(1, seed=4)
    (field,) = data.fields
    k = len(field.xy)
    assert GALAXIES[0] <= k <= GALAXIES[1]
    assert data.bands == BANDS
    assert field.image.shape == (6, SIZE, SIZE)
    assert field.isolated.shape == (k, 6, SIZE, SIZE)
    assert np.abs(field.xy - (SIZE - 1) / 2).max() <= MAX_SHIFT / 0.2
    # Where the light is says where the galaxy is.
    light = field.isolated[:, 3].astype(float)
    x, y = np.arange(SIZE), np.arange(SIZE)
    total = light.sum(axis=(1, 2))
    centroid = np.stack([light.sum(1) @ x, light.sum(2) @ y], axis=1) / total[:, None]
    # Wings that the stamp cuts off pull the centroids of the outer galaxies in.
    assert np.median(np.abs(centroid - field.xy)) < 0.1
    sky = np.sqrt(get_survey("LSST").band("r").sky_electrons)
    noise = np.sqrt(1 + field.isolated[:, 2] / sky)
    assert np.sqrt(((field.isolated[:, 2] / noise) ** 2).sum(axis=(1, 2))).min() >= MIN_SNR
    rest = field.image - field.isolated.sum(axis=0)
    assert 1.4826 * np.median(np.abs(rest)) == pytest.approx(1, rel=0.02)


def test_the_same_seed_gives_the_same_field_and_another_one_not():
    first, again, other = (draw_fields(1, seed).fields[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.xy.shape != other.xy.shape or not np.array_equal(first.xy, other.xy)


def test_signal_to_noise_of_a_gaussian():
    # Without its own noise the S/N of a Gaussian of flux F is F / (2 sigma pi^(1/2)).
    image = galsim.Gaussian(sigma=3, flux=200).drawImage(nx=64, ny=64, scale=1).array
    assert signal_to_noise(image, 1e12) == pytest.approx(200 / (6 * np.sqrt(np.pi)), rel=0.01)


def test_half_of_the_light_is_inside_the_ellipse():
    one = np.ones((2, 1))
    pool = Galaxies(
        bands=("r",),
        magnitude=20 * one,
        bulge_fraction=0 * one,
        disk_radius=np.array([1.2, 0.9]),
        bulge_radius=np.array([0.2, 0.2]),
        disk_g=np.array([[0.3, 0.2], [-0.4, 0.1]]),
        bulge_g=np.zeros((2, 2)),
        redshift=np.zeros(2),
    )
    turn = np.deg2rad([25.0, 140.0])
    ellipses = half_light_ellipses(pool, [0, 1], turn, pixel_scale=0.05)
    for row, (a, b, angle) in enumerate(ellipses):
        shape = profile(pool, row, 0).rotate(turn[row] * galsim.radians)
        image = shape.drawImage(nx=601, ny=601, scale=0.05, method="no_pixel").array
        inside, _, _ = sep.sum_ellipse(image, [300.0], [300.0], [a], [b], [angle], 1.0)
        assert inside[0] == pytest.approx(0.5, abs=0.01)


@pytest.mark.skipif(not VALID.exists(), reason="needs ../shared/data")
def test_only_held_out_galaxies_are_drawn():
    table = read_catsim(str(CATSIM), ("g", "r", "i"), 26.8)
    left = exclude_held_out(table, str(VALID))
    assert is_held_out(table, str(VALID)).sum() + len(left) == len(table)
    trained = {tuple(row) for row in left.magnitude.tolist()}
    data = draw_fields(1, 3, str(CATSIM), str(VALID))
    drawn = data.fields[0].magnitude[:, 1:4]
    assert not {tuple(row) for row in drawn.tolist()} & trained


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        draw_fields(0, 0)
    with pytest.raises(ConfigError, match="name both"):
        draw_fields(1, 0, None, "test.npz")
