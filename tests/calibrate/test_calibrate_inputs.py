"""What networks have learnt from, measured on few stamps."""

import numpy as np
import pytest

from raydeblend.calibrate.inputs import BLENDS, GROUPS, train_inputs
from raydeblend.deblend.familiar import read_inputs
from raydeblend.errors import ConfigError


def test_a_small_measurement_is_written_and_read(tmp_path):
    made = train_inputs(str(tmp_path), "tiny", seed=1)
    found = read_inputs(made.weights)
    assert found.card["training"]["stamps"] >= 2 * GROUPS["tiny"] * BLENDS
    scale = {name: np.exp(found.of(name).center[-1]) for name in ("rdn", "srgan")}
    # LSST has 0.2 arcsec a pixel, HSC 0.168: of as many each, the median is between.
    assert 0.168 <= scale["rdn"] <= 0.2
    assert scale["srgan"] == pytest.approx(0.18)
    # Other exposure times and bands: more than one kind of peak and color.
    assert found.of("rdn-multiband").width[2] > 0.1
    assert "log_peak" in (tmp_path / "report.md").read_text()
    with pytest.raises(ConfigError, match="valid: tiny"):
        train_inputs(str(tmp_path), "huge")
