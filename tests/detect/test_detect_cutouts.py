import numpy as np
from sky_tiles import SIGMA, add_stars, make_tile, noise

from raydeblend.detect.cutouts import fill_unusable
from raydeblend.detect.footprints import DetectConfig, find_blends


def pair():
    xy = np.array([[50.0, 60.0], [72.0, 60.0]])
    tile = make_tile(add_stars(noise((120, 120)), xy, np.array([2000.0, 2000.0])))
    return find_blends(tile, DetectConfig())


def test_unusable_pixels_become_noise_and_the_others_stay():
    blend, other = pair()
    filled = fill_unusable(blend)
    usable = ~blend.unusable
    np.testing.assert_array_equal(filled[usable], blend.image[usable])
    for band, sigma in enumerate(SIGMA):
        values = filled[band][blend.unusable[band]]
        assert len(values) > 50
        assert 0.75 * sigma < values.std() < 1.25 * sigma
        assert np.abs(values).max() < 5 * sigma
    np.testing.assert_array_equal(filled, fill_unusable(blend))
    assert not np.array_equal(filled, fill_unusable(blend, seed=1))
    assert other.parent_id != blend.parent_id


def test_nothing_unusable_nothing_changed():
    image = add_stars(noise((90, 90)), np.array([[45.0, 45.0]]), np.array([2000.0]))
    (blend,) = find_blends(make_tile(image), DetectConfig())
    np.testing.assert_array_equal(fill_unusable(blend), blend.image)
