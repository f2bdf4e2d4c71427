"""A survey of one's own: HSC's published numbers in a file give HSC, and what is wrong is named."""

from pathlib import Path

import numpy as np
import pytest
import surveycodex

from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError
from raydeblend.survey import get_survey, survey_key

KIDS = """
name: KiDS
pixel_scale: 0.214
mirror_diameter: 2.65
obscuration: 0.3
bands:
  g: {wavelength: 481, psf_fwhm: 0.86, zero_point: 32.4, sky: 22.1}
  r: {wavelength: 626, psf_fwhm: 0.68, zero_point: 33.1, sky: 20.9, saturation: 17.0}
"""


def write(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text)
    return str(path)


def test_hsc_as_a_file_is_hsc(tmp_path: Path) -> None:
    source, known = surveycodex.get_survey("HSC"), get_survey("HSC")
    lines = [
        "name: HSC-2",
        f"pixel_scale: {source.pixel_scale.to_value('arcsec')}",
        f"mirror_diameter: {source.mirror_diameter.to_value('m')}",
        f"obscuration: {known.obscuration}",
        "bands:",
    ]
    for band in known.bands:
        table = source.get_filter(band.name)
        # Of one electron per second; over the full exposure it is fainter.
        zero = table.zeropoint.value + 2.5 * np.log10(table.full_exposure_time.to_value("s"))
        lines.append(
            f"  {band.name}: {{wavelength: {band.wavelength}, psf_fwhm: {band.psf_fwhm}, "
            f"zero_point: {zero}, sky: {table.sky_brightness.value}}}"
        )
    own = get_survey(write(tmp_path, "\n".join(lines)))
    assert own.name == "HSC-2"
    assert own.pixel_scale == known.pixel_scale
    for mine, theirs in zip(own.bands, known.bands, strict=True):
        assert mine.electrons_per_njy == pytest.approx(theirs.electrons_per_njy)
        assert mine.sky_sigma == pytest.approx(theirs.sky_sigma, rel=0.01)
        assert mine.saturation == theirs.saturation


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("pixel_scale: 0.214", "pixel_scale: -1", "pixel_scale of the survey .* from 0.01 to 10"),
        ("pixel_scale: 0.214", "pixel_scale: yes", "pixel_scale .* must be a number"),
        ("pixel_scale: 0.214\n", "", "lacks pixel_scale"),
        ("mirror_diameter", "mirror", "unknown mirror; valid: name, pixel_scale"),
        ("sky: 20.9, ", "", "band r of the survey .* lacks sky"),
        ("psf_fwhm: 0.68", "psf_fwhm: .nan", "psf_fwhm of band r .* not nan"),
        ("name: KiDS", "name: a/b", "name of the survey .* letters, digits"),
        ("  g:", "  g b:", "name of band g b .* letters, digits"),
        ("bands:", "bands: [", "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in KIDS
    with pytest.raises(ConfigError, match=said):
        get_survey(write(tmp_path, KIDS.replace(old, new)))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the survey .*none\.yaml cannot be read"):
        get_survey(str(tmp_path / "none.yaml"))


def test_a_run_knows_the_survey_by_what_its_file_holds(tmp_path: Path) -> None:
    path = write(tmp_path, KIDS)
    config = CatalogConfig(bands=("g", "r"), survey=path)
    # The text is the survey on machines that do not have the file.
    (tmp_path / "own.yaml").unlink()
    assert get_survey(config.survey).band("r").saturation == 17.0
    assert CatalogConfig(bands=("g", "r"), survey=config.survey) == config
    deeper = CatalogConfig(bands=("g", "r"), survey=write(tmp_path, KIDS.replace("33.1", "33.2")))
    assert deeper.hash != config.hash
    with pytest.raises(ConfigError, match="KiDS has no band 'i'; its bands are g, r"):
        CatalogConfig(bands=("i",), survey=path)


def test_the_key_of_a_known_survey_is_its_name() -> None:
    assert survey_key("LSST") == "LSST"
