"""A user's own deblender, named as ``module:name``."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from raydeblend.errors import ConfigError
from raydeblend.tile import Deblended, Deblender


@dataclass(frozen=True)
class OwnDeblender:
    """A user's own deblender, whose mistakes are told with file and line.

    Attributes
    ----------
    deblender
        The user's; what else it has, such as ``band_masks``, this has too.
    origin
        What the user called it, ``module:name``.
    source_hash
        Of the module that it is in, see `hash_source`.
    """

    deblender: Deblender
    origin: str
    source_hash: str

    @property
    def name(self) -> str:
        """The user's name for it."""
        return self.deblender.name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return getattr(self.deblender, attribute)

    def __call__(
        self,
        images: ArrayLike,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        psf: ArrayLike | None = None,
        bands: tuple[str, ...] | None = None,
        pixel_scale: float | None = None,
        **own: Any,
    ) -> Deblended:
        """Deblend a batch; see `raydeblend.tile.Deblender`.

        Parameters
        ----------
        own
            What the user's deblender takes beyond that.

        Raises
        ------
        ConfigError
            Whatever the user's code raises, with its place; or if it returns something else than
            what a deblender does.
        """
        with telling_place(self.origin):
            result = self.deblender(
                images,
                variance=variance,
                mask=mask,
                psf=psf,
                bands=bands,
                pixel_scale=pixel_scale,
                **own,
            )
        _check_result(self.origin, result, np.shape(images))
        return result


def load_own(name: str) -> OwnDeblender:
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
        with telling_place(name, passed=(ImportError,)):
            module = _import(module_name)
        factory = getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"cannot load the deblender {name!r} ({error}); give module:name, with the module in "
            "the working directory or installed"
        ) from error
    with telling_place(name):
        deblender = factory()
    if not callable(deblender) or not isinstance(getattr(deblender, "name", None), str):
        raise ConfigError(
            f"{name} gives {deblender!r}, which is no deblender: it must be callable and have a "
            "name (raydeblend.tile.Deblender)"
        )
    return OwnDeblender(deblender, name, hash_source(module))


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


def _check_result(name: str, result: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(result, Deblended):
        raise ConfigError(f"{name} returned {type(result).__name__}, not raydeblend.tile.Deblended")
    n, *stamp = shape
    k = np.shape(result.models)[1] if np.ndim(result.models) == 5 else 0
    wanted = {"models": (n, k, *stamp), "n_sources": (n,), "xy": (n, k, 2), "quality": (n,)}
    for field, size in wanted.items():
        found = np.shape(getattr(result, field))
        if found != size:
            shown = "(n, k, bands, y, x)" if field == "models" and not k else size
            raise ConfigError(f"{name} returned {field} of shape {found}, not {shown}")


def _import(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)
