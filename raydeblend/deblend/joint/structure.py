"""Which sources of a fit are structure of a galaxy, an arm or a clump, and not its neighbors.

A galaxy that is no smooth profile is fitted by several sources.  Boosted trees on what is seen of
each in the light of a brighter one (`attachments`), learned by `calibrate.structure`, say how
likely it is to be structure, and a source that probably is becomes a part of its host: one galaxy,
one row, with all its light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.calibration import read_calibration, write_calibration
from raydeblend.deblend.joint.attachments import FEATURES, Array, Indices, attachments
from raydeblend.deblend.joint.blend_fit import BlendFit
from raydeblend.deblend.joint.config import StructureConfig
from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.deblend.logistic import probability
from raydeblend.deblend.trees import BoostedTrees, read_trees, write_trees
from raydeblend.shipped import SHIPPED


@dataclass(frozen=True)
class StructureModel:
    """The calibration, with where it comes from and the hash of its file."""

    trees: BoostedTrees
    card: Mapping[str, Any]
    sha256: str = ""


@cache
def shipped_structure() -> StructureModel:
    """Return the calibration that is shipped."""
    return read_structure(SHIPPED / "structure.json")


def read_structure(path: str | Path) -> StructureModel:
    """Read a calibration.

    Raises
    ------
    ConfigError
        If there is none or it is damaged.
    """

    def make(content: Mapping[str, Any], sha256: str) -> StructureModel:
        if content["features"] != list(FEATURES):
            raise ValueError("it is of other features")
        return StructureModel(read_trees(content["trees"]), content["card"], sha256)

    return read_calibration(path, "structure", make)


def write_structure(path: str, model: StructureModel) -> None:
    """Write a calibration as JSON."""
    content = {
        "features": list(FEATURES),
        "card": dict(model.card),
        "trees": write_trees(model.trees),
    }
    write_calibration(path, content)


def galaxies_of(
    stamp: Stamp,
    fit: BlendFit,
    patches: Sequence[Patch],
    model: BoostedTrees,
    config: StructureConfig,
) -> Indices:
    """Return of which galaxy, by its brightest source, each source ``(k,)`` is a part.

    `patches` are the light of each, in units of the noise.
    """
    galaxy = np.arange(len(fit.theta))
    seen = attachments(stamp, fit, patches, config, config.max_contrast)
    if not len(seen.source):
        return galaxy
    part = is_structure(seen.features, model, config)
    galaxy[seen.source[part]] = seen.host[part]
    # A host may itself be a part of a brighter one.
    for _ in galaxy:
        galaxy = galaxy[galaxy]
    return galaxy


def is_structure(
    features: Array, model: BoostedTrees, config: StructureConfig
) -> NDArray[np.bool_]:
    """Tell which sources ``(m,)`` are taken for structure, by their features ``(m, f)``."""
    likely = probability(model.logit(features)) > config.min_probability
    return np.asarray(likely & (features[:, 0] < np.log(config.max_contrast)))
