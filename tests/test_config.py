from dataclasses import replace

import pytest

from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError

CONFIG = CatalogConfig(bands=("g", "r", "i"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bands": ("g", "q")}, r"HSC has no band 'q'; its bands are g, r, i, z, y"),
        ({"bands": ()}, "at least one"),
        ({"bands": ("g", "r", "g")}, "twice in g,r,g"),
        ({"survey": "SDSS9"}, "unknown survey 'SDSS9'; known: .*HSC"),
        ({"deblender": "magic"}, "unknown deblender 'magic'; valid: joint, rdn, "),
        ({"photometry": "eye"}, "unknown photometry 'eye'; valid: auto, ngmix, mixture"),
        ({"cell_size": 10}, "cell size must be at least 64, not 10"),
        ({"border": -1}, "border must be at least 0, not -1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"detect_threshold": 0.0}, "threshold must be above 0"),
        *(
            ({name: float(value)}, "threshold .* ?must be above 0 and finite")
            for name in ("detect_threshold", "suspect_threshold")
            for value in ("nan", "inf", "-inf", "0", "-1")
        ),
        *(
            ({"zeropoint": float(value)}, "zero point must be an AB magnitude from -60 to 60, not")
            for value in ("nan", "inf", "-inf", "-9999", "-99", "99", "9999", "1e300")
        ),
        *(
            ({name: float(value)}, "must be at least")
            for name in ("cell_size", "border", "detect_min_area", "seed")
            for value in ("nan", "inf")
        ),
        ({"seed": 2**32}, "seed must be at least 0 and at most 4294967295"),
    ],
)
def test_refuses_what_is_not_valid_and_names_what_is(change, said):
    with pytest.raises(ConfigError, match=said):
        replace(CONFIG, **change)


def test_hash_tells_configurations_apart():
    assert CONFIG.hash == CatalogConfig(bands=("g", "r", "i")).hash
    assert CONFIG.hash != replace(CONFIG, border=97).hash
    assert CONFIG.hash != replace(CONFIG, bands=("r", "g", "i")).hash


def test_joint_photometry_goes_with_the_joint_deblender_only():
    CatalogConfig(bands=("g",), deblender="joint", photometry="joint")
    with pytest.raises(ConfigError, match="made by the deblender 'joint', not by 'rdn'"):
        CatalogConfig(bands=("g",), deblender="rdn", photometry="joint")
