import numpy as np
import pytest

from raydeblend.deblend.joint.config import PixelConfig
from raydeblend.deblend.joint.stamp import Stamp, lit_samples
from raydeblend.fit.psf import POINT

SHAPE = (40, 50)
WIDTH = 1.8
CONFIG = PixelConfig()


def make_stamp(weight=None, seed=0):
    """A source of significance 30 at (x, y) = (20, 16)."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(SHAPE)
    significance = 30 * np.exp(-((x - 20) ** 2 + (y - 16) ** 2) / (2 * 4.0**2))
    image = rng.normal(size=(2, *SHAPE)).astype(np.float32) + significance.astype(np.float32) / 5
    weight = np.ones_like(image) if weight is None else weight
    samples = lit_samples(significance.astype(np.float32), WIDTH, weight, CONFIG)
    return Stamp(image, weight, ((POINT,), (POINT,)), WIDTH, 0.2, *samples), significance


def test_bright_pixels_are_alone_and_faint_ones_in_squares():
    stamp, significance = make_stamp()
    sizes = np.diff(stamp.starts, append=len(stamp.pixels))
    assert set(sizes) == {1, 4}
    assert len(np.unique(stamp.pixels)) == len(stamp.pixels)
    brightest = np.maximum.reduceat(significance.ravel()[stamp.pixels], stamp.starts)
    assert brightest[sizes > 1].max() < 4
    assert len(sizes) < 0.6 * len(stamp.pixels)


def test_samples_are_weighted_means_at_their_centers():
    stamp, _ = make_stamp()
    last = stamp.pixels[stamp.starts[-1] :]
    y, x = np.unravel_index(last, SHAPE)
    assert stamp.centers[:, -1] == pytest.approx([x.mean(), y.mean()])
    assert stamp.weights[:, -1] == pytest.approx(len(last))
    assert stamp.means(stamp.image)[:, -1] == pytest.approx(stamp.image[:, y, x].mean(1), rel=1e-5)


def test_chi2_of_the_samples_and_their_scatter_is_that_of_the_pixels():
    weight = np.random.default_rng(1).uniform(1, 1.05, (2, *SHAPE)).astype(np.float32)
    stamp, _ = make_stamp(weight)
    model = np.ones((2, 1, 1), dtype=np.float32)
    pixels = stamp.at_pixels(stamp.weight * (stamp.image - model) ** 2).sum(dtype=float)
    assert stamp.chi2(stamp.image - model) + stamp.scatter == pytest.approx(pixels, rel=1e-5)


def test_no_square_holds_pixels_of_unlike_weight():
    weight = np.ones((2, *SHAPE), dtype=np.float32)
    weight[0, 20:, :] = 1.5 * CONFIG.max_weight_ratio
    weight[1, :, 11] = 0
    stamp, _ = make_stamp(weight)
    values = stamp.at_pixels(weight)
    low = np.minimum.reduceat(values, stamp.starts, axis=1)
    high = np.maximum.reduceat(values, stamp.starts, axis=1)
    np.testing.assert_array_equal(low, high)


def test_a_sharp_psf_leaves_all_pixels_alone():
    weight = np.ones((2, *SHAPE), dtype=np.float32)
    pixels, starts = lit_samples(np.zeros(SHAPE, np.float32), 1.0, weight, CONFIG)
    assert len(starts) == len(pixels) == weight[0].size


def test_some_samples_can_be_kept():
    stamp, _ = make_stamp()
    chosen = stamp.centers[0] < 20
    part = stamp.keep(chosen)
    np.testing.assert_array_equal(part.centers, stamp.centers[:, chosen])
    np.testing.assert_array_equal(part.means(stamp.image), stamp.means(stamp.image)[:, chosen])
    assert len(stamp.keep(np.zeros_like(chosen)).starts) == 0
