"""The deblenders that a protocol compares: ours by name, and two that are told the positions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from raydeblend.deblend import load_deblender
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.evaluate.common.request import BASELINE
from raydeblend.evaluate.common.scarlet import NAME as SCARLET
from raydeblend.evaluate.common.scarlet import ScarletDeblender, find_scarlet
from raydeblend.tile import Deblender

__all__ = ["GIVEN_POSITIONS", "SCARLET", "TOLD", "find_scarlet", "load_compared", "load_named"]

LOGGER = logging.getLogger(__name__)

TOLD = "joint-true"
"""Name of the joint deblender when it is told the true positions."""
SCARLET_LITE, TRACTOR = "scarlet_lite", "tractor"
"""Names of peers that `benchmarks.deblend` runs."""
GIVEN_POSITIONS = frozenset({TOLD, SCARLET, SCARLET_LITE, TRACTOR})
"""Deblenders that are told the true positions."""
EXACT = 0.02
"""Pixels to which it then holds positions: they are the simulation's own, no catalog's."""


def load_named(name: str) -> Deblender:
    """Load a deblender, `TOLD` or scarlet.

    Raises
    ------
    ConfigError
        If there is none of the name, or it cannot be loaded or, scarlet, is not installed.
    """
    if name == SCARLET:
        return ScarletDeblender.load()
    if name == TOLD:
        joint = JointDeblender.load()
        return replace(joint, name=TOLD, priors=replace(joint.priors, given_position_sigma=EXACT))
    return load_deblender(name)


def load_compared(names: Sequence[str]) -> dict[str, Deblender]:
    """Load the deblenders, sep, and scarlet wherever it imports (it is told the true positions).

    Raises
    ------
    ConfigError
        For an unknown one, or scarlet where it is asked for and not installed.
    """
    others = [BASELINE, *([SCARLET] if find_scarlet() else [])]
    if SCARLET not in (*names, *others):
        LOGGER.info("scarlet does not import here and is not run")
    return {name: load_named(name) for name in dict.fromkeys([*names, *others])}
