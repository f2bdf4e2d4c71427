"""What every calibration checks before it simulates anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from raydeblend import access
from raydeblend.config import check_seed
from raydeblend.errors import ConfigError

Preset = TypeVar("Preset")


def begin_calibration(out: str, preset: str, presets: Mapping[str, Preset], seed: int) -> Preset:
    """Return a preset, once it is known that the calibration can be made and written.

    Raises
    ------
    ConfigError
        If `preset` is unknown, `seed` out of range, or `out` cannot be written.
    """
    if preset not in presets:
        raise ConfigError(f"unknown preset {preset!r}; valid are {', '.join(presets)}")
    check_seed(seed)
    access.check_writable(out)
    return presets[preset]
