import numpy as np
import pytest
from scipy.stats import norm

from raydeblend.measure.seen import seen_part


def test_the_part_of_a_gaussian_on_one_side_of_an_edge():
    y, x = np.indices((61, 61))
    light = np.exp(-0.5 * ((x - 30) ** 2 + (y - 30) ** 2) / 4.0**2)
    models = np.stack([light, 3 * light])[None]
    unusable = np.zeros((2, 61, 61), dtype=bool)
    unusable[1, :, 33:] = True
    whole, cut = seen_part(models, unusable)[0]
    assert whole == 1
    assert cut == pytest.approx(norm.cdf(2.5 / 4.0), abs=1e-3)


def test_a_band_that_hides_a_source_has_seen_nothing_of_it():
    models = np.zeros((2, 2, 9, 9))
    models[0, 0, 4, 4], models[0, 1] = 1.0, np.nan
    unusable = np.zeros((2, 9, 9), dtype=bool)
    unusable[1] = True
    found = seen_part(models, unusable)
    assert found[0].tolist() == [1.0, 0.0]
    assert np.isnan(found[1]).all()
    assert seen_part(models[:0], unusable).shape == (0, 2)
