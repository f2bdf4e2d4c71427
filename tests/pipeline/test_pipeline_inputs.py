"""What a run takes from the layout of its input."""

from pathlib import Path

import pytest
from dp2_files import Patch, noise

from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError
from raydeblend.fits.layouts import find_layout
from raydeblend.pipeline.inputs import with_layout


@pytest.fixture(scope="module")
def patch(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("dp2")
    Patch().write(folder, "u", noise(Patch().shape))
    return str(folder)


def test_the_layout_gives_survey_and_masks(patch: str) -> None:
    found = with_layout(CatalogConfig(("u",), survey="auto"), patch)
    assert (found.layout, found.survey) == ("lsst-dp2", "LSST")
    assert found.bad_planes == find_layout("lsst-dp2").mask.bad
    # What it resolves to is the same as what can be said, and so has the same hash.
    said = CatalogConfig(("u",), survey="LSST", layout="lsst-dp2", bad_planes=found.bad_planes)
    assert found.hash == said.hash == with_layout(said, patch).hash


def test_what_is_said_goes_before_the_layout(patch: str) -> None:
    config = CatalogConfig(("u",), survey="SDSS", bad_planes=("NO_DATA", "DETECTED"))
    found = with_layout(config, patch)
    assert (found.survey, found.bad_planes) == ("SDSS", ("NO_DATA", "DETECTED"))


def test_planes_that_the_layout_does_not_have_are_refused(patch: str) -> None:
    with pytest.raises(ConfigError, match=r"lsst-dp2 has no mask plane 'SAT'; it has BAD, SATUR"):
        with_layout(CatalogConfig(("u",), survey="LSST", bad_planes=("BAD", "SAT")), patch)


def test_the_survey_of_the_layout_must_have_the_bands(tmp_path: Path) -> None:
    (tmp_path / "calexp-HSC-I-9813-4,4.fits").touch()
    with pytest.raises(ConfigError, match=r"HSC has no band 'u'; its bands are g, r, i, z, y"):
        with_layout(CatalogConfig(("u", "i"), survey="auto"), str(tmp_path))


def test_a_manifest_keeps_the_planes_of_each_row(patch: str) -> None:
    found = with_layout(CatalogConfig(("g",), survey="auto", manifest="m.csv"), patch)
    assert (found.layout, found.survey, found.bad_planes) == ("native", "HSC", None)
