"""Faults planted in the files of a small sky, each named by what is found."""

import re
import shutil
from dataclasses import replace

import fault_sky as sky
import pytest

from raydeblend.config import CatalogConfig
from raydeblend.fits import find_tiles
from raydeblend.pipeline.checking import judge
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.stages import detect_cell

CONFIG = CatalogConfig(bands=sky.BANDS, inject=0)
NO_BACKGROUND = replace(CONFIG, background="none")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    sky.write_sky(folder, 0)
    return folder


def suspicions(folder, config=CONFIG):
    """Return what the ledger would say of the one cell of a tile."""
    (header,), _ = find_tiles(str(folder), sky.BANDS)
    said = judge(detect_cell(plan_survey([header], 1024, 0).task(0), config).seen, None)
    assert "check_failure" not in said
    return [fault for fault in said["suspect"].split("; ") if fault]


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (sky.misread_mask, "the mask of band r rules out the light of sources"),
        (sky.misread_grown_mask, "the mask of band r rules out the light of sources"),
        (sky.mask_all("r"), "the mask of band r rules out 100% of the pixels with data"),
        (sky.mask_all(*sky.BANDS), "the mask of band g rules out 100% of the pixels with data"),
        (sky.mask_all("i", part=0.95), "the mask of band i rules out 95% of the pixels with data"),
        (sky.leave_cosmic_rays, r"\d+ pixels of sources in band r are sharper than the PSF"),
        (sky.lose_bad_plane, "the mask of band r does not rule out dead pixels"),
        (sky.broaden_psf("i"), r"the PSF of band i is (8|9|10|11)% broader than its sources say"),
        (sky.broaden_psf("g", by=0.9), r"the PSF of band g is (8|9|1[0-3])% narrower than its"),
        (sky.broaden_psf(*sky.BANDS), r"the PSFs are (8|9|1\d)% broader than the stars"),
        (sky.dim_band("r", 0.1), r"the stars of band r are 0\.(09|10|11) mag too faint"),
        (sky.dim_band("i", -0.1), r"the stars of band i are 0\.(08|09|10|11|12) mag too bright"),
        (sky.dim_band("g", 0.1), r"the stars of band g are 0\.(09|10|11) mag too faint"),
        (
            sky.shift_band,
            r"the positions of band i are off those of the .* by \(\+(0\.9\d|1\.0\d),",
        ),
        (sky.halve_variance, r"the noise of band g is 1\.(39|4\d) times what its variance"),
        (sky.empty_band, "band r has no data"),
        (sky.blank_band, "band r has no data"),
    ],
)
def test_a_planted_fault_is_named(clean, tmp_path, plant, found):
    folder = tmp_path / "sky"
    shutil.copytree(clean, folder)
    plant(folder)
    assert any(re.match(found, fault) for fault in suspicions(folder)), suspicions(folder)


@pytest.mark.parametrize("sigmas", [-3, 30])
def test_a_sky_that_is_left_in_is_named(clean, tmp_path, sigmas):
    folder = tmp_path / "sky"
    shutil.copytree(clean, folder)
    sky.leave_sky(folder, sigmas)
    (fault,) = suspicions(folder, NO_BACKGROUND)
    level = float(re.match(r"the sky of band g is ([-+.\d]+) sigma a pixel", fault)[1])
    assert level == pytest.approx(sigmas, abs=0.2)
    assert suspicions(folder) == []


def test_a_sky_that_was_not_observed_is_no_fault(clean, tmp_path):
    folder = tmp_path / "sky"
    shutil.copytree(clean, folder)
    sky.mask_all(*sky.BANDS, part=0.95, plane="NO_DATA")(folder)
    assert suspicions(folder) == []


def test_a_sky_without_fault_raises_none(clean):
    assert suspicions(clean) == []
    assert suspicions(clean, NO_BACKGROUND) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_other_sky_does(tmp_path, seed):
    sky.write_sky(tmp_path, seed)
    assert suspicions(tmp_path) == []
