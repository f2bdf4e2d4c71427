"""The deblenders that a protocol compares: ours by name, and two that are given the positions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from raydeblend.deblend import load_deblender
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.request import BASELINE
from raydeblend.evaluate.common.scarlet import NAME as SCARLET
from raydeblend.evaluate.common.scarlet import ScarletDeblender, find_scarlet
from raydeblend.tile import Deblender

__all__ = [
    "GIVEN_POSITIONS",
    "JOINT_TRUE",
    "SCARLET",
    "find_scarlet",
    "load_compared",
    "load_named",
]

LOGGER = logging.getLogger(__name__)

JOINT_TRUE = "joint-true"
"""Name of the joint deblender when it is given the true positions."""
SCARLET_LITE, TRACTOR = "scarlet_lite", "tractor"
"""Names of peers that `benchmarks.deblend` runs."""
GIVEN_POSITIONS = frozenset({JOINT_TRUE, SCARLET, SCARLET_LITE, TRACTOR})
"""Deblenders that are given the true positions."""
EXACT_POSITION_SIGMA = 0.02
"""Pixels to which `JOINT_TRUE` holds positions: the simulation's own, not a catalog's."""


def load_named(name: str, weights: str | None = None) -> Deblender:
    """Load a deblender, with other weights than the shipped ones if given; `JOINT_TRUE`; scarlet.

    Raises
    ------
    ConfigError
        If there is none of the name, or it cannot be loaded or, scarlet, is not installed.
    """
    if name in (SCARLET, JOINT_TRUE) and weights is not None:
        raise ConfigError(f"{name} has no network and takes no weights")
    if name == SCARLET:
        return ScarletDeblender.load()
    if name == JOINT_TRUE:
        joint = JointDeblender.load()
        return replace(
            joint,
            name=JOINT_TRUE,
            priors=replace(joint.priors, given_position_sigma=EXACT_POSITION_SIGMA),
        )
    return load_deblender(name, weights=weights)


def load_compared(names: Sequence[str], weights: Mapping[str, str]) -> dict[str, Deblender]:
    """Load the deblenders, sep, and scarlet wherever it imports (it is given the true positions).

    `weights` are of deblenders by name, where they are not the shipped ones.

    Raises
    ------
    ConfigError
        For an unknown one, or scarlet where it is asked for and not installed.
    """
    others = [BASELINE, *([SCARLET] if find_scarlet() else [])]
    if SCARLET not in (*names, *others):
        LOGGER.info("scarlet does not import here and is not run")
    return {name: load_named(name, weights.get(name)) for name in dict.fromkeys([*names, *others])}
