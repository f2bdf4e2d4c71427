"""A network that can be trained: how, and with which presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raydeblend.errors import ConfigError
from raydeblend.own_code import find_own
from raydeblend.train.config import RunConfig
from raydeblend.train.network_training import NetworkTraining

Training = NetworkTraining[Any, Any, Any]


@dataclass(frozen=True)
class Family:
    """What `raydeblend train` needs to know of a network.

    Attributes
    ----------
    training
        How it is trained, from data to scores.
    presets
        Its runs by name, of which the command line knows ``paper``, ``small`` and ``tiny``.
    """

    training: type[Training]
    presets: Mapping[str, RunConfig]


def load_family(name: str) -> Family:
    """Return the family that a user's ``module:name`` is.

    Raises
    ------
    ConfigError
        If there is no such module or name, or it is no `Family`.
    """
    family, _ = find_own(name, "network")
    if not isinstance(family, Family):
        raise ConfigError(
            f"{name} is {family!r}, not a raydeblend.train.family.Family of a training and presets"
        )
    return family
