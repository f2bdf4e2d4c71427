"""The files of calibrations: JSON, which is read whole or refused in one sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from raydeblend import storage
from raydeblend.errors import ConfigError

Model = TypeVar("Model")


def read_calibration(
    path: str | Path, what: str, make: Callable[[Mapping[str, Any], str], Model]
) -> Model:
    """Read a calibration of `what`, for example "stars".

    Parameters
    ----------
    make
        Makes it of what the file holds and of the file's SHA-256; of unsuitable content it raises
        a ValueError, KeyError or TypeError.

    Raises
    ------
    ConfigError
        If there is no file or it is damaged.
    """
    try:
        data = storage.read_bytes(str(path))
        return make(json.loads(data), hashlib.sha256(data).hexdigest())
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a calibration of {what}: {error}") from error


def write_calibration(path: str, content: Mapping[str, Any]) -> None:
    """Write what `read_calibration` gives to `make`."""
    storage.write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())
