"""A user's own code, named as ``module:name``: found, hashed, and blamed with file and line."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from raydeblend.errors import ConfigError


def find_own(name: str, what: str) -> tuple[Any, ModuleType]:
    """Return what ``module:name`` is, and its module.

    Modules are looked for in the working directory first, as ``python -m`` does; in a Ray job
    that is the job's ``--working-dir``, on every worker.

    Parameters
    ----------
    what
        What it should be, for the message.

    Raises
    ------
    ConfigError
        If there is no such module or name.
    """
    module_name, _, attribute = name.partition(":")
    try:
        with telling_place(name, passed=(ImportError,)):
            module = _import(module_name)
        return getattr(module, attribute), module
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"cannot load the {what} {name!r} ({error}); give module:name, with the module in "
            "the working directory or installed"
        ) from error


def hash_source(module: ModuleType) -> str:
    """Return sixteen hex digits of a module's file; of a package's module, of all its files."""
    digest = hashlib.sha256()
    for path in _sources(module):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources(module: ModuleType) -> list[Path]:
    package = sys.modules[module.__name__.partition(".")[0]]
    if getattr(package, "__file__", None) and hasattr(package, "__path__"):
        return sorted(path for root in package.__path__ for path in Path(root).rglob("*.py"))
    return [Path(module.__file__)] if module.__file__ else []


@contextmanager
def telling_place(name: str, passed: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn whatever the code of ``module:name`` raises, but `passed`, into a ConfigError."""
    try:
        yield
    except passed:
        raise
    except Exception as mistake:
        place = _place(name.partition(":")[0], mistake)
        said = f"{type(mistake).__name__}: {mistake}".rstrip(": ")
        raise ConfigError(f"{name} failed at {place}: {said}") from mistake


def _place(module_name: str, mistake: Exception) -> str:
    """Return file and line of a mistake: the last in the user's module, else the last of all."""
    if isinstance(mistake, SyntaxError):
        return f"{os.path.basename(mistake.filename or '')}:{mistake.lineno}"
    module = sys.modules.get(module_name)
    frames = traceback.extract_tb(mistake.__traceback__)
    own = [f for f in frames if f.filename == getattr(module, "__file__", None)]
    last = (own or frames)[-1]
    return f"{os.path.basename(last.filename)}:{last.lineno}"


def _import(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)
