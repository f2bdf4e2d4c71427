"""Why a run stops before its last epoch; what it had reached stays in its checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from raydeblend import storage
from raydeblend.errors import TrainingError

STOPPED = "stopped.json"
MIN_DIVERSITY = 0.02
MIN_BRIGHTNESS = 0.02
"""A generator has collapsed where either ratio of its samples to real images is lower."""


class TrainingDiverged(TrainingError):  # noqa: N818  says what happened
    """A loss that is not a finite number."""


class TrainingCollapsed(TrainingError):  # noqa: N818
    """A generator whose samples are all alike, or all black."""


def check_finite(losses: Mapping[str, float], step: int) -> None:
    """Check the losses of the steps up to number `step` over all epochs.

    Raises
    ------
    TrainingDiverged
        If one is infinite or not a number.
    """
    for name, value in losses.items():
        if name.startswith("loss") and not math.isfinite(value):
            raise TrainingDiverged(f"training diverged: {name} is {value} by step {step + 1}")


def check_health(scores: Mapping[str, float], epoch: int, grace: int) -> None:
    """Check the scores of a generator after epoch number `epoch`, from 1.

    `diversity` is the mean distance between two samples over that between two real images,
    `brightness` the mean of the samples over that of real images.  Networks without these scores
    cannot collapse.

    Raises
    ------
    TrainingCollapsed
        If either is too low (or not a number) and the first `grace` epochs are over.
    """
    limits = {"diversity": MIN_DIVERSITY, "brightness": MIN_BRIGHTNESS}
    faults = {"diversity": "samples are all alike", "brightness": "samples are all black"}
    for name, limit in limits.items():
        if name in scores and epoch > grace and not scores[name] >= limit:
            raise TrainingCollapsed(
                f"training collapsed in epoch {epoch}: the {faults[name]} "
                f"({name} {scores[name]:.3g}, at least {limit} is healthy)"
            )


def write_stop(path: str, stop: TrainingError) -> None:
    """Leave word of a stop for the driver."""
    content = {"kind": type(stop).__name__, "sentence": str(stop)}
    storage.write_bytes(path, json.dumps(content).encode())


def read_stop(path: str) -> None:
    """Look for the word of a stop.

    Raises
    ------
    TrainingError
        If there is one.
    """
    if not storage.exists(path):
        return
    content = json.loads(storage.read_bytes(path))
    kinds = {kind.__name__: kind for kind in (TrainingDiverged, TrainingCollapsed)}
    raise kinds[content["kind"]](content["sentence"])
