"""A user's own deblender, named as ``module:name``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from raydeblend.errors import ConfigError
from raydeblend.own_code import find_own, hash_source, telling_place
from raydeblend.tile import Deblended, Deblender


@dataclass(frozen=True)
class OwnDeblender:
    """A user's own deblender, whose exceptions are reported with file and line.

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

    Raises
    ------
    ConfigError
        If there is no such module or name, or what it gives is no deblender.
    """
    factory, module = find_own(name, "deblender")
    with telling_place(name):
        deblender = factory()
    if not callable(deblender) or not isinstance(getattr(deblender, "name", None), str):
        raise ConfigError(
            f"{name} gives {deblender!r}, which is not a deblender: it must be callable and have a "
            "name (raydeblend.tile.Deblender)"
        )
    return OwnDeblender(deblender, name, hash_source(module))


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
