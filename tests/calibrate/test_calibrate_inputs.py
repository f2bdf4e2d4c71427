"""What networks have learnt from, measured on few stamps."""

import pytest

from raydeblend.calibrate.inputs import BLENDS, GROUPS, train_inputs
from raydeblend.deblend.familiar import read_familiar
from raydeblend.errors import ConfigError


def test_a_small_measurement_is_written_and_read(tmp_path):
    made = train_inputs(str(tmp_path), "tiny", seed=1)
    found = read_familiar(made.weights)
    assert "rdn" in found.deblenders
    assert found.card["training"]["stamps"] == GROUPS["tiny"] * BLENDS
    # LSST has 0.2 arcsec a pixel, HSC 0.168: of as many each, the median is between.
    assert 0.168 <= 2.718281828 ** found.center[-1] <= 0.2
    assert "log_peak" in (tmp_path / "report.md").read_text()
    with pytest.raises(ConfigError, match="valid are tiny"):
        train_inputs(str(tmp_path), "huge")
