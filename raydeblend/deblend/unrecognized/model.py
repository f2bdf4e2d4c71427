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
from raydeblend.shipped import SHIPPED

Array = NDArray[np.float64]


MAX_DEVIATION = 4.0
"""Standard deviations at which a statistic is cut off: nothing is known further out."""


@dataclass(frozen=True)
class Logistic:
    """ln of the odds as a quadratic form of standardized features.

    Attributes
    ----------
    mean, scale
        ``(f,)`` of the training sample.
    weights
        ``(f + f (f + 1) / 2,)`` of the features and of their products, see `terms`.
    intercept
        For the natural number of blends.
    """

    mean: Array
    scale: Array
    weights: Array
    intercept: float

    def logit(self, features: Array) -> Array:
        """Return ln of the odds ``(n,)``."""
        return terms((features - self.mean) / self.scale) @ self.weights + self.intercept


@dataclass(frozen=True)
class SuspectModel:
    """The calibration of one deblender.

    Attributes
    ----------
    cheap, full
        The two steps; without the second the networks are not asked.
    doubt
        Probability of the first step from which the networks are asked.
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


def terms(standardized: Array) -> Array:
    """Return the features ``(n, f)``, cut off at `MAX_DEVIATION`, and all their products."""
    z = np.clip(standardized, -MAX_DEVIATION, MAX_DEVIATION)
    first, second = np.triu_indices(z.shape[1])
    return np.concatenate([z, z[:, first] * z[:, second]], axis=1)


def probability(logit: Array) -> Array:
    """Return the probability of ln odds."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -50, 50))))


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


def read_logistic(content: Mapping[str, Any]) -> Logistic:
    """Return the model that JSON holds; a ValueError or KeyError if it does not."""
    mean, scale, weights = (
        np.array(content[name], dtype=np.float64) for name in ("mean", "scale", "weights")
    )
    if weights.shape != terms(mean[None]).shape[1:] or scale.shape != mean.shape:
        raise ValueError("numbers of features and weights do not agree")
    return Logistic(mean, scale, weights, float(content["intercept"]))


def write_logistic(part: Logistic) -> dict[str, Any]:
    """Return a model as JSON holds it."""
    arrays = {name: getattr(part, name).round(6).tolist() for name in ("mean", "scale", "weights")}
    return {**arrays, "intercept": round(part.intercept, 6)}
