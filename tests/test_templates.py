"""Tables of shapes, and what is made of those in a catalog."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from raydeblend.errors import ConfigError
from raydeblend.templates import SHAPE, read_given, read_templates

RA, DEC = [10.0, 10.01, 10.02], [0.0, 0.0, 0.0]
DISK = {"disk_r50": [0.5, np.nan, 1.0], "disk_n": [1.0] * 3, "disk_q": [0.5] * 3}


def write(path: Path, **columns: object) -> str:
    table = {"ra": RA, "dec": DEC, "disk_pa": [30.0] * 3, **DISK, **columns}
    Table({name: values for name, values in table.items() if values is not None}).write(path)
    return str(path)


def shape(path: str) -> dict[str, np.ndarray]:
    read = read_templates(path).shapes
    assert read is not None
    return dict(zip(SHAPE, read.T, strict=True))


def test_a_table_of_disks(tmp_path: Path) -> None:
    known = shape(write(tmp_path / "t.fits", disk_r50=[500, np.nan, 1000] * u.mas))
    np.testing.assert_allclose(known["disk_r50"], [0.5, np.nan, 1.0])
    # The second is a point.
    assert np.isnan([values[1] for values in known.values()]).all()
    assert known["bulge_fraction"][[0, 2]].tolist() == known["template_error"][[0, 2]].tolist()
    assert known["template_error"][0] == 0


def test_bulges_count_by_the_light_of_all_bands_and_errors_by_the_best(tmp_path: Path) -> None:
    bulge = {"bulge_r50": [0.2] * 3, "bulge_q": [0.9] * 3, "bulge_pa": [10.0] * 3}
    bands = {
        "flux_g": [10.0, 1.0, -1.0], "flux_err_g": [1.0, 1.0, 1.0],
        "flux_i": [60.0, 1.0, 100.0], "flux_err_i": [2.0, 1.0, 2.0],
        "bulge_fraction_g": [0.1, 0.0, np.nan], "bulge_fraction_i": [0.5, 0.0, 0.0],
    }  # fmt: skip
    known = shape(write(tmp_path / "t.ecsv", **bulge, **bands))
    # 10 sigma of 0.1 and 30 of 0.5.
    assert known["bulge_fraction"][0] == pytest.approx(0.4)
    assert known["template_error"][[0, 2]] == pytest.approx([2 / 60, 0.02])
    assert known["bulge_pa"][0] == 10
    # Without a bulge nobody sees its shape.
    assert known["bulge_pa"][2] == known["disk_pa"][2]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"disk_q": None}, "lack the column disk_q; a catalog of the deblender joint has it"),
        ({"disk_r50": [np.nan] * 3}, "no value of disk_r50, which only the deblender joint"),
        ({"disk_q": [0.5, 0.5, 1.5]}, r"row 2 .* has the disk_q 1\.5; valid: 0\.001 to 1"),
        ({"disk_n": [9.0, 1.0, 1.0]}, r"row 0 .* has the disk_n 9; valid: 0\.3 to 6"),
        ({"disk_pa": [np.nan] * 3}, "row 0 .* has the disk_pa nan$"),
        ({"bulge_fraction": [0.5] * 3}, "row 0 .* has the bulge_r50 nan"),
        ({"disk_pa": ["N"] * 3}, "disk_pa of the templates .* must be in deg, as numbers"),
    ],
)
def test_what_is_no_shape_is_named(tmp_path: Path, columns: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_templates(write(tmp_path / "t.ecsv", **columns))


def test_positions_have_the_shapes_near_them(tmp_path: Path) -> None:
    templates = write(tmp_path / "t.fits")
    # 0.36 arcsec from the third, and 36 from any.
    Table({"ra": [10.0201, 10.03], "dec": [0.0, 0.0]}).write(tmp_path / "p.csv")
    given = read_given(str(tmp_path / "p.csv"), templates)
    assert given is not None
    assert given.shapes is not None
    assert given.shapes[0, 0] == 1.0
    assert np.isnan(given.shapes[1]).all()
    assert given.sha256 != read_given(str(tmp_path / "p.csv"), None).sha256
    Table({"ra": [11.0], "dec": [0.0]}).write(tmp_path / "far.csv")
    with pytest.raises(ConfigError, match=r"no position has a template within 0\.5 arcsec"):
        read_given(str(tmp_path / "far.csv"), templates)
    assert read_given(None, None) is None
