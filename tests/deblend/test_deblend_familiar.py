"""Stamps like those that networks have learnt from are told from others."""

import numpy as np
import pytest

from raydeblend.config import DEBLENDER_NETWORKS
from raydeblend.deblend.familiar import (
    STATISTICS,
    Inputs,
    familiar_from,
    read_inputs,
    shipped_inputs,
    statistics,
    write_inputs,
)
from raydeblend.deblend.peaks import psf_widths
from raydeblend.errors import ConfigError
from raydeblend.simulate.protocols import wang2022_blends


def test_statistics_of_a_square_of_light():
    stamps = np.zeros((1, 2, 20, 20))
    stamps[0, :, 5:9, 5:9] = np.array([30.0, 60.0])[:, None, None]
    seen = dict(zip(STATISTICS, statistics(stamps, np.array([2.0]), 0.2)[0], strict=True))
    assert seen["log_peak"] == pytest.approx(np.log(60))
    assert seen["log_extent"] == pytest.approx(np.log(16 * 0.04))
    assert seen["color"] == pytest.approx(np.log(2))
    assert seen["log_psf"] == pytest.approx(np.log(2))
    assert seen["log_pixel_scale"] == pytest.approx(np.log(0.2))
    dark = statistics(np.zeros((1, 2, 20, 20)), np.array([2.0]), 0.2)
    assert np.isfinite(dark).all()


def test_blends_of_the_protocol_are_familiar_and_other_images_are_not():
    known = shipped_inputs().of("rdn")
    assert known is not None
    drawn = wang2022_blends(20, 5)
    stamps, scale = drawn["blend2"], float(drawn["pixel_scale"])
    widths = psf_widths(drawn["psf"], len(stamps))
    assert known.is_unlike(statistics(stamps, widths, scale)).mean() < 0.06
    others = {
        "much brighter": statistics(stamps * 1e5, widths, scale),
        "a space telescope's pixels": statistics(stamps, widths, 0.03),
        "a PSF of twice the width": statistics(stamps, 2 * widths, scale),
        "no light in the last band": statistics(stamps * [[[1e4]], [[1]], [[0]]], widths, scale),
    }
    for seen in others.values():
        assert known.is_unlike(seen).all()


def test_one_training_stamp_in_a_thousand_is_beyond_the_limit(tmp_path):
    seen = np.random.default_rng(3).normal(size=(20_000, len(STATISTICS))) * [1, 2, 3, 4, 5]
    known = familiar_from(seen, ("rdn",))
    np.testing.assert_allclose(known.width, [1, 2, 3, 4, 5], rtol=0.05)
    assert known.is_unlike(seen).mean() == pytest.approx(0.001, abs=1e-4)
    # Of the largest of five normal deviates: 1 - 0.999^(1/5), both tails.
    assert known.limit == pytest.approx(3.72, abs=0.15)
    write_inputs(str(tmp_path / "inputs.json"), Inputs((known,), {}))
    again = read_inputs(tmp_path / "inputs.json").of("rdn")
    np.testing.assert_allclose(again.distance(seen[:9]), known.distance(seen[:9]), rtol=1e-4)
    (tmp_path / "inputs.json").write_text(
        '{"families": [{"center": [1], "width": [1]}], "card": {}}'
    )
    with pytest.raises(ConfigError, match="not a calibration of inputs"):
        read_inputs(tmp_path / "inputs.json")


def test_what_every_network_of_a_deblender_has_learnt_from_is_known():
    assert [name for name in DEBLENDER_NETWORKS if shipped_inputs().of(name) is None] == []
    assert shipped_inputs().of("sep") is None
    assert shipped_inputs().of("joint") is None


def test_one_band_of_hsc_is_familiar_to_srgan_and_a_space_telescope_is_not():
    known = shipped_inputs().of("srgan")
    assert known is not None
    drawn = wang2022_blends(20, 5)
    stamps, scale = drawn["blend2"][:, 2:], float(drawn["pixel_scale"])
    widths = psf_widths(drawn["psf"][2:], len(stamps))
    assert known.is_unlike(statistics(stamps, widths, scale)).mean() < 0.1
    assert known.is_unlike(statistics(stamps, widths, 0.03)).all()
    assert known.is_unlike(statistics(stamps * 1e5, widths, scale)).all()
