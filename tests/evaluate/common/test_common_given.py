"""What the peers that must be given positions get of a batch."""

import numpy as np
import pytest

from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.given import given_blends

IMAGES = np.arange(2 * 3 * 4 * 4, dtype=float).reshape(2, 3, 4, 4)
PSF = np.ones((3, 5, 5)) / 25
XY = [[[1.0, 2.0]], []]


def test_each_blend_has_weights_and_places() -> None:
    mask = np.zeros((2, 4, 4), bool)
    mask[1, 0, 3] = True
    first, second = given_blends("peer", IMAGES, np.full(IMAGES.shape, 4.0), mask, PSF, XY)
    assert (first.image == IMAGES[0]).all()
    assert (first.weight == 0.25).all()
    assert (second.variance == 4).all()
    assert np.argwhere(second.weight == 0).tolist() == [[band, 0, 3] for band in range(3)]
    assert first.psf.shape == second.psf.shape == (3, 5, 5)
    assert (first.xy.tolist(), second.xy.shape) == ([[1.0, 2.0]], (0, 2))


@pytest.mark.parametrize("missing", ["variance", "psf", "xy"])
def test_what_is_missing_is_refused(missing: str) -> None:
    given = {"variance": np.ones(IMAGES.shape), "mask": None, "psf": PSF, "xy": XY}
    with pytest.raises(ConfigError, match="peer must be given positions, variance and PSF"):
        given_blends("peer", IMAGES, **{**given, missing: None})
