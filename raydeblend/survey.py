"""Surveys: bands, pixel scale, noise and PSF, from surveycodex's tables or a file of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import galsim
import numpy as np
import surveycodex
from numpy.typing import NDArray
from surveycodex.utilities import mag2counts, mean_sky_level

from raydeblend import storage
from raydeblend.errors import ConfigError

NJY_ZERO_POINT = 31.4
"""AB magnitude of 1 nJy (Oke & Gunn 1983)."""

# HSC's PDR3 paper (Aihara et al. 2022) calls its bands by the short names used here too.
SURVEYS = tuple(sorted(surveycodex.available_surveys))
FILES = (".yaml", ".yml")
SATURATION_MAGNITUDE = 18.0
"""About that of HSC's wide layer (Aihara et al. 2018, PASJ 70, S8)."""


@dataclass(frozen=True)
class Band:
    """One band of a survey at its full depth.

    Attributes
    ----------
    psf_fwhm
        Median seeing in arcsec.
    electrons_per_njy
        Electrons collected from a source of 1 nJy over the full exposure.
    sky_electrons
        Mean sky in electrons per pixel over the full exposure; its square root is the sky noise.
    wavelength
        Effective wavelength in nm.
    saturation
        AB magnitude of a star whose peak saturates in median seeing.
    """

    name: str
    psf_fwhm: float
    electrons_per_njy: float
    sky_electrons: float
    wavelength: float
    saturation: float = SATURATION_MAGNITUDE

    @property
    def sky_sigma(self) -> float:
        """Sky noise per pixel in nJy."""
        return float(np.sqrt(self.sky_electrons)) / self.electrons_per_njy


@dataclass(frozen=True)
class Survey:
    """A survey's camera and bands.

    Attributes
    ----------
    pixel_scale
        Arcsec per pixel.
    mirror_diameter
        Meters.
    obscuration
        Linear fraction of the diameter that is blocked.
    """

    name: str
    pixel_scale: float
    mirror_diameter: float
    obscuration: float
    bands: tuple[Band, ...]

    def band(self, name: str) -> Band:
        """Return the band called `name`.

        Raises
        ------
        ConfigError
            If the survey has no such band.
        """
        for band in self.bands:
            if band.name == name:
                return band
        known = ", ".join(band.name for band in self.bands)
        raise ConfigError(f"{self.name} has no band {name!r}; its bands are {known}")


def get_survey(key: str) -> Survey:
    """Return a survey: ``HSC``, ``LSST`` …, or one's own.

    Parameters
    ----------
    key
        A name that surveycodex knows, a YAML file of one's own, or the text of one (`survey_key`).

    Raises
    ------
    ConfigError
        If there is no such survey, or the file cannot be read or used.
    """
    return _survey(survey_key(key))


def survey_key(key: str) -> str:
    """Return what stands for a survey on every machine: its name, or the text of one's own file.

    Raises
    ------
    ConfigError
        As `get_survey`.
    """
    if key in SURVEYS or "\n" in key:
        return key
    if not key.endswith(FILES):
        raise ConfigError(
            f"unknown survey {key!r}; known: {', '.join(SURVEYS)}, or a file as FILE.yaml"
        )
    try:
        text = storage.read_bytes(key).decode()
    except (*storage.READ_ERRORS, UnicodeDecodeError) as error:
        raise ConfigError(f"the survey {key} cannot be read: {storage.explain(error)}") from error
    from raydeblend.survey_file import parse_survey

    parse_survey(text, key)
    return text if "\n" in text else f"{text}\n"


@cache
def _survey(key: str) -> Survey:
    if key not in SURVEYS:
        from raydeblend.survey_file import parse_survey

        return parse_survey(key, "of a file")
    source = surveycodex.get_survey(key)
    return Survey(
        name=key,
        pixel_scale=float(source.pixel_scale.to_value("arcsec")),
        mirror_diameter=float(source.mirror_diameter.to_value("m")),
        # surveycodex gives the blocked fraction of the area, GalSim wants that of the diameter.
        obscuration=float(np.sqrt(source.obscuration)),
        bands=tuple(_band(source, name) for name in source.available_filters),
    )


def check_band(name: str) -> None:
    """Check that any survey has a band.

    Raises
    ------
    ConfigError
        If none has.
    """
    bands = {survey: surveycodex.get_survey(survey).available_filters for survey in SURVEYS}
    if not any(name in names for names in bands.values()):
        known = "; ".join(f"{survey} {', '.join(names)}" for survey, names in bands.items())
        raise ConfigError(f"there is no band {name!r} in any survey; known: {known}")


def _band(source: surveycodex.survey.Survey, name: str) -> Band:
    table = source.get_filter(name)
    # A bright magnitude, since mag2counts rounds to whole electrons.
    counts = float(mag2counts(NJY_ZERO_POINT - 22.5, source, table).value) * 1e-9
    return Band(
        name=name,
        psf_fwhm=float(table.psf_fwhm.to_value("arcsec")),
        electrons_per_njy=counts,
        sky_electrons=float(mean_sky_level(source, table).value),
        wavelength=float(table.effective_wavelength.to_value("nm")),
    )


def psf_profile(survey: Survey, band: str, fwhm: float | None = None) -> galsim.GSObject:
    """Return the PSF of a band: Kolmogorov seeing convolved with the telescope's Airy pattern.

    `fwhm` (arcsec) replaces the survey's median seeing.  For a space telescope, whose tabulated
    width is already the optics', the optics alone would be the better model.
    """
    table = survey.band(band)
    atmosphere = galsim.Kolmogorov(fwhm=fwhm or table.psf_fwhm)
    optics = galsim.Airy(
        lam=table.wavelength, diam=survey.mirror_diameter, obscuration=survey.obscuration
    )
    return galsim.Convolve(atmosphere, optics)


def draw_psf(profile: galsim.GSObject, pixel_scale: float, size: int = 41) -> NDArray[np.float32]:
    """Draw a PSF as a normalized odd stamp ``(size, size)``, centered on its middle pixel."""
    stamp = profile.drawImage(nx=size, ny=size, scale=pixel_scale).array
    return np.asarray(stamp / stamp.sum(), dtype=np.float32)


def nominal_psf(
    survey: Survey, band: str, size: int = 41, pixel_scale: float | None = None
) -> NDArray[np.float32]:
    """Return the survey's nominal PSF stamp ``(size, size)``, for tiles that bring none.

    `pixel_scale` (arcsec) replaces the survey's own.
    """
    return draw_psf(psf_profile(survey, band), pixel_scale or survey.pixel_scale, size)
