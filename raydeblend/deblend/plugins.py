"""A user's own deblender, named as ``module:name``."""

from __future__ import annotations

import importlib
import os
import sys

from raydeblend.errors import ConfigError
from raydeblend.tile import Deblender


def load_own(name: str) -> Deblender:
    """Return what the function or class ``module:name`` gives when called without arguments.

    Modules are looked for in the working directory first, as ``python -m`` does; in a Ray job
    that is the job's ``--working-dir``, on every worker.

    Raises
    ------
    ConfigError
        If there is no such module or name, or what it gives is no deblender.
    """
    module_name, _, attribute = name.partition(":")
    try:
        factory = getattr(_import(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"cannot load the deblender {name!r} ({error}); give module:name, with the module in "
            "the working directory or installed"
        ) from error
    deblender = factory()
    if not callable(deblender) or not isinstance(getattr(deblender, "name", None), str):
        raise ConfigError(
            f"{name} gives {deblender!r}, which is no deblender: it must be callable and have a "
            "name (raydeblend.tile.Deblender)"
        )
    own: Deblender = deblender
    return own


def _import(name: str) -> object:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)
