"""A survey of one's own: its camera and bands, from YAML that is checked entry by entry.

```yaml
name: KiDS
pixel_scale: 0.214          # arcsec
mirror_diameter: 2.65       # m
obscuration: 0.3            # part of the diameter; 0 where it is left out
bands:
  r:
    wavelength: 626         # nm, effective
    psf_fwhm: 0.70          # arcsec, median
    zero_point: 33.1        # AB magnitude of one electron over the full exposure
    sky: 20.9               # AB magnitudes per square arcsec
    saturation: 17.0        # magnitude of a star whose peak saturates; 18 where it is left out
```
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml

from raydeblend.errors import ConfigError
from raydeblend.survey import NJY_ZERO_POINT, SATURATION_MAGNITUDE, Band, Survey

CAMERA = {"pixel_scale": (0.01, 10.0), "mirror_diameter": (0.1, 100.0), "obscuration": (0.0, 0.99)}
BAND = {
    "wavelength": (100.0, 30_000.0),
    "psf_fwhm": (0.01, 30.0),
    "zero_point": (0.0, 60.0),
    "sky": (5.0, 40.0),
    "saturation": (0.0, 40.0),
}
"""What each number may be, in the units of the example above."""
CAMERA_DEFAULTS = {"obscuration": 0.0}
BAND_DEFAULTS = {"saturation": SATURATION_MAGNITUDE}


def parse_survey(text: str, origin: str) -> Survey:
    """Return the survey that a YAML text describes.

    Parameters
    ----------
    origin
        Where the text is from, for messages.

    Raises
    ------
    ConfigError
        Naming what is missing, unknown or out of range, and what is valid.
    """
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"the survey {origin} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    plain = _mapping(f"the survey {origin}", plain, ("name", *CAMERA, "bands"), CAMERA_DEFAULTS)
    name, bands = plain["name"], plain["bands"]
    _check_name(f"the name of the survey {origin}", name)
    camera = _numbers(f"the survey {origin}", plain, CAMERA)
    if not isinstance(bands, dict) or not bands:
        raise ConfigError(f"bands of the survey {origin} must be a mapping of bands, not {bands!r}")
    return Survey(
        name=name,
        bands=tuple(_band(origin, str(b), own, camera["pixel_scale"]) for b, own in bands.items()),
        **camera,
    )


def _band(origin: str, name: str, plain: Any, pixel_scale: float) -> Band:
    where = f"band {name} of the survey {origin}"
    _check_name(f"the name of {where}", name)
    given = _numbers(where, _mapping(where, plain, tuple(BAND), BAND_DEFAULTS), BAND)
    return Band(
        name=name,
        psf_fwhm=given["psf_fwhm"],
        electrons_per_njy=10 ** (0.4 * (given["zero_point"] - NJY_ZERO_POINT)),
        sky_electrons=pixel_scale**2 * 10 ** (0.4 * (given["zero_point"] - given["sky"])),
        wavelength=given["wavelength"],
        saturation=given["saturation"],
    )


def _mapping(
    where: str, plain: Any, keys: tuple[str, ...], defaults: Mapping[str, float]
) -> dict[str, Any]:
    """Return a mapping with all of `keys` and no other."""
    if not isinstance(plain, dict):
        raise ConfigError(f"{where} must be a mapping with {', '.join(keys)}, not {plain!r}")
    if unknown := [str(key) for key in plain if key not in keys]:
        raise ConfigError(f"{where} has unknown {', '.join(unknown)}; valid: {', '.join(keys)}")
    full = {**defaults, **plain}
    if missing := [key for key in keys if key not in full]:
        raise ConfigError(f"{where} lacks {', '.join(missing)}")
    return full


def _numbers(
    where: str, plain: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    for key, (least, most) in ranges.items():
        value = plain[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not least <= value <= most:
            raise ConfigError(
                f"{key} of {where} must be a number from {least:g} to {most:g}, not {value!r}"
            )
    return {key: float(plain[key]) for key in ranges}


def _check_name(what: str, name: Any) -> None:
    # It becomes part of the names of columns, files and folders.
    plain = isinstance(name, str) and name.replace("-", "").replace("_", "").isalnum()
    if not plain or not str(name).isascii():
        raise ConfigError(f"{what} must be of letters, digits, - and _, not {name!r}")
