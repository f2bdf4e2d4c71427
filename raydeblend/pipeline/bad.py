"""The probability that a flux is badly wrong: a calibrated logistic model of a row's columns.

Bad is what `raydeblend evaluate survey` calls catastrophic: more than 5 stated errors and more than
20 % off.  The coefficients and their origin are in ``weights/bad.json``; `raydeblend train bad`
fits them.  Rows without a second opinion have their own model, without `disagreement`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.catalog import coverage_name
from raydeblend.deblend.calibration import read_calibration, write_calibration
from raydeblend.deblend.logistic import Logistic, probability, read_logistic, write_logistic
from raydeblend.flags import Flag
from raydeblend.shipped import SHIPPED

Array = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]

FEATURES = (
    "log_snr",
    "log_chi2",
    "log_p_unrecognized",
    "blendedness",
    "log_n_blended",
    "log_r50",
    "missed_light",
    "spoiled",
    "given_up",
)
"""Features that every row has, in the order of `features`."""
SPOILED = Flag.EDGE | Flag.MASKED | Flag.SATURATED
GIVEN_UP = Flag.DEBLEND_LIMITED | Flag.DEBLEND_FALLBACK | Flag.DEBLEND_FAILED | Flag.LOW_QUALITY


@dataclass(frozen=True)
class BadConfig:
    """How the features are made; the calibration learns them as they are.

    Attributes
    ----------
    least_probability, least_radius, least_chi2
        Smaller values of p_unrecognized_blend, of r50 in arcsec, and of chi2 are clipped to these.
    typical_radius
        Value in arcsec that replaces a null r50.
    """

    least_probability: float = 1e-3
    least_radius: float = 0.03
    least_chi2: float = 0.1
    typical_radius: float = 0.3


BAD = BadConfig()


@dataclass(frozen=True)
class BadModel:
    """The calibration of one deblender.

    Attributes
    ----------
    deblender
        The deblender whose rows it is for.
    alone
        From the features of `FEATURES`.
    second
        From these and the logarithm of `disagreement`, for rows with a second opinion of the
        deblender `opinion`.
    opinion
        The deblender of the second opinion.
    card
        Where it comes from and how well it does.
    sha256
        Of the file it was read from.
    """

    deblender: str
    alone: Logistic
    second: Logistic
    opinion: str
    card: Mapping[str, Any]
    sha256: str = ""

    def p_bad(self, rows: Columns, bands: Sequence[str], opinion: str | None = None) -> Array:
        """Return the probabilities ``(n,)``; NaN for rows of other deblenders or without a flux.

        Parameters
        ----------
        opinion
            The deblender whose second opinion `disagreement` is.
        """
        seen = features(rows, bands)
        logit = self.alone.logit(seen)
        asked = np.isfinite(rows["disagreement"]) & (opinion == self.opinion)
        both = np.column_stack([seen[asked], log_disagreement(rows["disagreement"][asked])])
        logit[asked] = self.second.logit(both)
        return np.where(self._covers(rows), probability(logit), np.nan)

    def _covers(self, rows: Columns) -> NDArray[np.bool_]:
        own = np.asarray(rows["deblender"]) == self.deblender
        return np.asarray(own & np.isfinite(rows["snr"]))


def features(rows: Columns, bands: Sequence[str]) -> Array:
    """Return the features ``(n, 9)``, see `FEATURES`; meaningless for rows without a flux."""
    p_unrecognized = _filled(rows["p_unrecognized_blend"], BAD.least_probability)
    flags = np.asarray(rows["flags"])
    seen = [_filled(rows[coverage_name(band)], 1.0) for band in bands]
    return np.column_stack(
        [
            np.log(np.maximum(_filled(rows["snr"], 1.0), 1.0)),
            np.log(np.maximum(_filled(rows["chi2"], 1.0), BAD.least_chi2)),
            np.log(np.maximum(p_unrecognized, BAD.least_probability)),
            _filled(rows["blendedness"], 0.0),
            np.log(np.asarray(rows["n_blended"], dtype=np.float64)),
            np.log(np.maximum(_filled(rows["r50"], BAD.typical_radius), BAD.least_radius)),
            1 - np.min(seen, axis=0),
            (flags & int(SPOILED)) != 0,
            (flags & int(GIVEN_UP)) != 0,
        ]
    )


def log_disagreement(values: NDArray[np.floating]) -> Array:
    """Return the feature of `disagreement`, which spans orders of magnitude."""
    return np.log1p(np.asarray(values, dtype=np.float64))


def _filled(values: NDArray[np.floating], typical: float) -> Array:
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, typical)


@cache
def shipped_bad() -> BadModel:
    """Return the calibration that is shipped.

    Raises
    ------
    ConfigError
        If it is missing or damaged.
    """
    return read_bad(SHIPPED / "bad.json")


def read_bad(path: str | Path) -> BadModel:
    """Read a calibration.

    Raises
    ------
    ConfigError
        If there is none or it is damaged.
    """

    def make(content: Mapping[str, Any], sha256: str) -> BadModel:
        alone, second = (read_logistic(content[name]) for name in ("alone", "second"))
        names = content["deblender"], content["opinion"]
        return BadModel(names[0], alone, second, names[1], content["card"], sha256)

    return read_calibration(path, "bad fluxes", make)


def write_bad(path: str, model: BadModel) -> None:
    """Write a calibration as JSON."""
    content = {
        "deblender": model.deblender,
        "opinion": model.opinion,
        "alone": write_logistic(model.alone),
        "second": write_logistic(model.second),
        "card": dict(model.card),
    }
    write_calibration(path, content)
