"""The shell of every network deblender: from a user's arrays to a network's stamps and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from raydeblend.deblend.bands import choose_bands
from raydeblend.deblend.configuration import hash_of
from raydeblend.deblend.peaks import psf_widths
from raydeblend.deblend.preparation import Prepared, batch_rows, prepare
from raydeblend.deblend.sources import Sources, stack_sources
from raydeblend.networks.forward import choose_device
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.weights import Card, load_weights, weights_path
from raydeblend.tile import Deblended

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Rows = slice | NDArray[np.intp]


@dataclass(frozen=True)
class Call:
    """The arguments of a deblender's call; see `raydeblend.tile.Deblender`."""

    images: ArrayLike
    variance: ArrayLike | None
    mask: ArrayLike | None
    psf: ArrayLike | None
    bands: tuple[str, ...] | None
    pixel_scale: float | None

    def take(self, rows: Rows) -> Call:
        """Return the same call with some of the stamps."""
        return replace(
            self,
            images=np.asarray(self.images)[rows],
            variance=None if self.variance is None else np.asarray(self.variance)[rows],
            mask=None if self.mask is None else np.asarray(self.mask)[rows],
            psf=np.asarray(self.psf)[rows] if np.ndim(self.psf) == 4 else self.psf,  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class Batch:
    """Stamps ready for a network.

    Attributes
    ----------
    call
        What they were made from.
    stamps
        In noise units, in the user's bands.
    channels
        Which of the user's bands stands for each of the network's.
    own
        The network's bands whose models are used; of a network that is told which bands are
        missing, those that are the user's.
    """

    call: Call
    stamps: Prepared
    channels: Sequence[int]
    own: Sequence[int]

    def __len__(self) -> int:
        return len(self.stamps.image)

    @cached_property
    def psf_widths(self) -> NDArray[np.float64]:
        """Width of each stamp's PSF ``(n,)`` in pixels (sigma)."""
        return psf_widths(self.call.psf, len(self))

    def take(self, rows: Rows) -> Batch:
        """Return some of the stamps."""
        return replace(self, call=self.call.take(rows), stamps=self.stamps.take(rows))


@dataclass(frozen=True)
class NetworkDeblender(ABC):
    """A trained network as a deblender; implements `raydeblend.tile.Deblender`.

    A paper's deblender is its `separate` and which weights it takes; all else is here.

    Attributes
    ----------
    shipped
        Name of its weights in the package.
    tuned
        What was tuned in it besides the network.
    network, scaling
        From pixels to channels to the network's output.
    bands
        Of the network's channels.
    weights_hash
        First digits of the weights' SHA-256, and the hash of `tuned`.
    """

    shipped: ClassVar[str]
    tuned: ClassVar[tuple[DataclassInstance, ...]] = ()
    band_masks: ClassVar[bool] = True

    network: nn.Module
    scaling: Scaling
    bands: tuple[str, ...]
    device: torch.device
    weights_hash: str = ""
    name: str = ""

    @classmethod
    def load(cls, device: str | None = None, weights: str | None = None) -> Self:
        """Load the shipped weights, or others by a shipped name or a file's path.

        Raises
        ------
        ConfigError
            If weights are missing, damaged or of another network.
        """
        return cls._load(device, weights)

    @classmethod
    def _load(cls, device: str | None, weights: str | None, **parts: Any) -> Self:
        """Load the network; `parts` are what else the deblender is made of."""
        chosen, path = choose_device(device), weights_path(weights or cls.shipped)
        network, card = load_weights(path, chosen)
        cls.check_weights(path, network, card)
        hashes = [card.sha256[:16], *([hash_of(*cls.tuned)] if cls.tuned else [])]
        return cls(network, card.scaling, card.bands, chosen, "-".join(hashes), **parts)

    @classmethod
    @abstractmethod
    def check_weights(cls, path: str, network: nn.Module, card: Card) -> None:
        """Refuse weights of another network with a `ConfigError`."""

    @torch.inference_mode()
    def __call__(
        self,
        images: ArrayLike,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        psf: ArrayLike | None = None,
        bands: tuple[str, ...] | None = None,
        pixel_scale: float | None = None,
    ) -> Deblended:
        """Deblend a batch; see `raydeblend.tile.Deblender`, and the class for what is not used.

        Raises
        ------
        ConfigError
            If the shapes of the arrays or the number of bands do not agree.
        """
        batch = self.batch(Call(images, variance, mask, psf, bands, pixel_scale))
        return stack_sources(self.find(batch), batch.stamps.image.shape)

    def batch(self, call: Call) -> Batch:
        """Put the stamps of a call into the network's units and choose its bands."""
        stamps = prepare(call.images, call.variance, call.mask)
        channels = self.channels(call.bands, stamps.image.shape[1])
        return Batch(call, stamps, channels, range(len(channels)))

    def channels(self, bands: Sequence[str] | None, n_bands: int) -> list[int]:
        """Return which of the user's bands stands for each of the network's."""
        return choose_bands(bands, n_bands, self.bands)

    def find(self, batch: Batch) -> list[Sources]:
        """Return the sources of each stamp of a batch of any length."""
        return [sources for part in self.parts(batch) for sources in self.separate(part)]

    def parts(self, batch: Batch) -> list[Batch]:
        """Cut a batch into what goes through the network together."""
        return [batch.take(rows) for rows in batch_rows(batch.stamps, self.device.type == "cpu")]

    @abstractmethod
    def separate(self, batch: Batch) -> list[Sources]:
        """Return the sources of each stamp of a part, in the unit of the user's images."""
