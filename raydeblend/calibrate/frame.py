"""What all calibrations share: their checks before, and their files after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from raydeblend import access, storage
from raydeblend.config import check_seed
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.calibration import Calibration
from raydeblend.evaluate.common.provenance import commit

Preset = TypeVar("Preset")
Model = TypeVar("Model")


@dataclass(frozen=True)
class Trained(Generic[Model]):
    """A calibration and its report, in Markdown; `weights` is where it was written."""

    model: Model
    report: str
    weights: str


def begin_calibration(out: str, preset: str, presets: Mapping[str, Preset], seed: int) -> Preset:
    """Return a preset, once it is known that the calibration can be made and written.

    Raises
    ------
    ConfigError
        If `preset` is unknown, `seed` out of range, or `out` cannot be written.
    """
    if preset not in presets:
        raise ConfigError(f"unknown preset {preset!r}; valid: {', '.join(presets)}")
    check_seed(seed)
    access.check_writable(out)
    return presets[preset]


def card_of(training: Mapping[str, Any], scores: Any) -> dict[str, Any]:
    """Return the card of a calibration: its training data, scores and commit."""
    return {"training": dict(training), "scores": scores, "commit": commit()}


def rounded(score: Calibration, positives: str) -> dict[str, float]:
    """Return scores as a card has them; `positives` is what the probability is of."""
    return {
        "sources": score.n,
        positives: score.positives,
        "ece": round(score.ece, 5),
        "brier": round(score.brier, 5),
        "auc": round(score.auc, 4),
    }


def write_trained(
    out: str, name: str, model: Model, write: Callable[[str, Model], None], report: str
) -> Trained[Model]:
    """Write a calibration into `out` as `name`, with ``report.md`` next to it."""
    path = storage.join(out, name)
    write(path, model)
    storage.write_bytes(storage.join(out, "report.md"), report.encode())
    return Trained(model, report, path)
