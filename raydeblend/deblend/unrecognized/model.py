"""From what is seen of a source to the probability that it is two: a calibrated logistic model.

Two steps: from the cheap statistics alone; and, where these leave doubt, from their verdict and
what the networks say.  The numbers are in ``weights/suspect.json``, with how they came about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.calibration import read_calibration, write_calibration
from raydeblend.deblend.logistic import Logistic, probability, read_logistic, write_logistic
from raydeblend.deblend.unrecognized.statistics import may_be_doubtful
from raydeblend.shipped import SHIPPED

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SuspectModel:
    """The calibration of one deblender.

    Attributes
    ----------
    cheap, full
        The two steps; without the second the networks are not asked.
    doubt
        Probability of the first step from which the networks are asked, see `in_doubt`.
    seeing
        Least and largest PSF width (sigma of a Gaussian as high) in pixels it holds for.
    card
        Where it comes from and how well it does.
    sha256
        Of the file it was read from.
    """

    deblender: str
    cheap: Logistic
    full: Logistic | None
    doubt: float
    seeing: tuple[float, float]
    card: Mapping[str, Any]
    sha256: str = ""

    def holds(self, width: float) -> bool:
        """Tell whether the calibration covers a PSF of this width in pixels."""
        return self.seeing[0] <= width <= self.seeing[1]

    def in_doubt(self, statistics: Array, logit: Array) -> NDArray[np.intp]:
        """Return of which sources the networks are asked.

        By the statistics ``(n, 9)`` and the first step's ln odds ``(n,)``.
        """
        likely = probability(logit) >= self.doubt
        return np.flatnonzero(likely & may_be_doubtful(statistics))


def shipped_model(deblender: str) -> SuspectModel | None:
    """Return the calibration that is shipped for a deblender, or None if there is none.

    Raises
    ------
    ConfigError
        If it is damaged.
    """
    path = SHIPPED / "suspect.json"
    if not path.exists():
        return None
    model = read_model(str(path))
    return model if model.deblender == deblender else None


def read_model(path: str | Path) -> SuspectModel:
    """Read a calibration.

    Raises
    ------
    ConfigError
        If there is none or it is damaged.
    """

    def make(content: Mapping[str, Any], sha256: str) -> SuspectModel:
        return SuspectModel(
            deblender=content["deblender"],
            cheap=read_logistic(content["cheap"]),
            full=read_logistic(content["full"]) if content["full"] else None,
            doubt=float(content["doubt"]),
            seeing=tuple(content["seeing"]),
            card=content["card"],
            sha256=sha256,
        )

    return read_calibration(path, "suspects", make)


def write_model(path: str, model: SuspectModel) -> None:
    """Write a calibration as JSON."""
    content = {
        "deblender": model.deblender,
        "cheap": write_logistic(model.cheap),
        "full": write_logistic(model.full) if model.full else None,
        "doubt": model.doubt,
        "seeing": list(model.seeing),
        "card": dict(model.card),
    }
    write_calibration(path, content)
