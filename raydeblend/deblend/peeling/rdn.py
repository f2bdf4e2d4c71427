"""Peeling: the RDN takes off the brightest galaxy until the counter sees none (Wang et al. 2022).

The loop of section II.A:  count; if none are left, stop; deblend; subtract; repeat.

Then, beyond the paper, galaxies that were left out are looked for, all are deblended again, pieces
are put together, and models are corrected where the pixels contradict them
(`raydeblend.deblend.peeling.finish`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raydeblend.deblend.bands import likely_bands, own_channels, shown_bands
from raydeblend.deblend.base import Batch, Call, NetworkDeblender
from raydeblend.deblend.counter import GalaxyCounter
from raydeblend.deblend.peaks import band_psf_widths
from raydeblend.deblend.peeling.config import PEELING
from raydeblend.deblend.peeling.finish import finish, image_to_peel
from raydeblend.deblend.peeling.pieces import fitter_on
from raydeblend.deblend.sources import Sources
from raydeblend.errors import ConfigError
from raydeblend.networks.context import context_planes
from raydeblend.networks.counter import CLASSES
from raydeblend.networks.forward import forward
from raydeblend.networks.rdn import Rdn
from raydeblend.networks.weights import Card
from raydeblend.tile import FloatArray


@dataclass(frozen=True)
class Peeled:
    """What the loop leaves, in noise units.

    Attributes
    ----------
    models
        ``(n, k, bands, y, x)`` in the order of peeling.
    counts
        ``(n, k + 1)`` the counter's number before each peel and at the end; -1 after the end.
    p_blend
        ``(n,)`` the counter's probability of two or more galaxies in the original.
    """

    models: Tensor
    counts: NDArray[np.int64]
    p_blend: FloatArray


@dataclass(frozen=True)
class RdnDeblender(NetworkDeblender):
    """The RDN and the counter together; implements `raydeblend.tile.Deblender`.

    They were trained over a range of seeing; `psf` sets the width of the filter that finds peaks,
    and with `pixel_scale` tells pieces from galaxies (`pieces`).  A network with context
    (`rdn-multiband`) is shown masks and the PSF's width in each band too.
    """

    shipped: ClassVar[str] = "rdn"
    tuned: ClassVar = (PEELING,)

    name: str = "rdn"
    counter: GalaxyCounter = field(kw_only=True)

    @classmethod
    def load(
        cls, device: str | None = None, weights: str | None = None, counter: str | None = None
    ) -> Self:
        """Load the shipped weights, or others by a shipped name or a file's path.

        Raises
        ------
        ConfigError
            If weights are missing or damaged.
        """
        count = GalaxyCounter.load(counter or "counter", device)
        loaded = cls._load(device, weights, counter=count)
        if not set(count.bands) <= set(loaded.bands):
            raise ConfigError(
                f"the counter needs {', '.join(count.bands)}, and the deblender knows "
                f"{', '.join(loaded.bands)}"
            )
        hashes = (loaded.weights_hash, count.weights_hash, fitter_on(loaded.device).weights_hash)
        return replace(loaded, weights_hash="-".join(hashes))

    @classmethod
    def load_joint(
        cls, device: str | None = None, weights: str | None = None, counter: str | None = None
    ) -> Self:
        """Load ``rdn-joint``: deblender and counter after phase two (section II.E)."""
        loaded = cls.load(device, weights or "rdn-joint", counter or "rdn-joint-counter")
        return replace(loaded, name="rdn-joint")

    @classmethod
    def check_weights(cls, path: str, network: nn.Module, card: Card) -> None:
        """Refuse weights of another network."""
        if card.network not in ("rdn", "rdn-joint", "rdn-multiband"):
            raise ConfigError(f"{path} is a {card.network}, not an rdn")

    def separate(self, batch: Batch) -> list[Sources]:
        """Peel each stamp, then finish its models; ``p_blend`` is the counter's."""
        context = self.context(batch)
        image = image_to_peel(batch, self.device, lambda *shown: self.peel(*shown).models, context)
        peeled = self.peel(image, context)
        found = finish(batch, image, peeled.models, self._brightest, context)
        return [
            Sources(
                models,
                xy,
                quality_of(counts) if len(models) else "none",
                of_stamp={"p_blend": p_blend},
            )
            for (models, xy), counts, p_blend in zip(
                found, peeled.counts, peeled.p_blend, strict=True
            )
        ]

    def batch(self, call: Call) -> Batch:
        """Choose the network's bands; one that is told which are missing speaks for those given."""
        batch = super().batch(call)
        given = self._names(call.bands, batch.stamps.image.shape[1])
        if not self._with_context or given is None:
            return batch
        return replace(batch, own=own_channels(given, batch.channels, self.bands))

    def channels(self, bands: Sequence[str] | None, n_bands: int) -> list[int]:
        """Return which of the user's bands stands for each of the network's."""
        return super().channels(self._names(bands, n_bands), n_bands)

    def _names(self, bands: Sequence[str] | None, n_bands: int) -> Sequence[str] | None:
        return likely_bands(n_bands) if bands is None and self._with_context else bands

    @property
    def _with_context(self) -> bool:
        return isinstance(self.network, Rdn) and self.network.config.context

    def context(self, batch: Batch) -> Tensor:
        """Return what the network is shown beside the image, ``(n, planes, y, x)``, if anything."""
        stamps, channels = batch.stamps, list(batch.channels)
        n, n_bands, y, x = stamps.image.shape
        if not self._with_context:
            return torch.zeros(n, 0, y, x, device=self.device)
        unobserved = stamps.weight[:, channels] == 0
        unobserved[:, [k for k in range(len(channels)) if k not in batch.own]] = True
        widths = np.take_along_axis(
            band_psf_widths(batch.call.psf, n, n_bands), shown_bands(stamps, channels), axis=1
        )
        return context_planes(
            torch.from_numpy(unobserved).to(self.device),
            torch.from_numpy(widths.astype(np.float32)).to(self.device),
        )

    def peel(self, image: Tensor, context: Tensor) -> Peeled:
        """Run the loop of section II.A.

        Parameters
        ----------
        image
            ``(n, bands, y, x)`` in noise units.
        context
            What the network is shown beside it, see `context`.
        """
        residual = image.clone()
        n = len(image)
        counts = np.full((n, PEELING.max_peels + 1), -1)
        models: list[Tensor] = []
        active = torch.arange(n, device=image.device)
        p_blend = np.zeros(n, dtype=np.float32)
        counted = [self.bands.index(band) for band in self.counter.bands]
        for step in range(PEELING.max_peels + 1):
            probability = self.counter.probabilities(residual[active][:, counted])
            rows = active.cpu().numpy()
            counts[rows, step] = probability.argmax(dim=1).cpu().numpy()
            if step == 0:
                p_blend = probability[:, 2:].sum(dim=1).cpu().numpy()
            going = (counts[rows, step] > 0) & ~_stuck(counts[rows, : step + 1])
            active = active[torch.from_numpy(going).to(active.device)]
            if step == PEELING.max_peels or len(active) == 0:
                break
            model = torch.zeros_like(image)
            model[active] = self._brightest(residual[active], context[active])
            residual -= model
            models.append(model)
        stacked = (
            torch.stack(models, dim=1) if models else image.new_zeros((n, 0, *image.shape[1:]))
        )
        return Peeled(stacked, counts, p_blend)

    def _brightest(self, image: Tensor, context: Tensor) -> Tensor:
        """Model of the brightest galaxy, ``(n, bands, y, x)``, never negative."""
        scaled, maximum = self.scaling.apply(image)
        channels = torch.cat([scaled, context], dim=1)
        y, x = image.shape[2:]
        # The trunk works at half resolution: odd stamps get one row or column more.
        padded = nn.functional.pad(channels, (0, x % 2, 0, y % 2))
        model = forward(self.network, padded)[:, :, :y, :x] * maximum
        return nn.functional.threshold(model, PEELING.model_floor, 0.0)


def _stuck(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which histories end in the same count again and again; "3 or more" may well repeat."""
    if counts.shape[1] < PEELING.repeats:
        return np.zeros(len(counts), dtype=bool)
    last = counts[:, -PEELING.repeats :]
    return np.asarray((last == last[:, :1]).all(axis=1) & (last[:, 0] < CLASSES - 1))


def quality_of(counts: NDArray[np.int64]) -> str:
    """Return the quality of one history of counts (section II.A).

    ``high``: one fewer at every peel down to none; ``medium``: none in the end all the same;
    ``low``: stuck, or too many; ``none``: nothing was there.  From "3 or more" the next count
    may be 3 again.
    """
    history = counts[counts >= 0]
    if history[0] == 0:
        return "none"
    if history[-1] != 0:
        return "low"
    before, after = history[:-1], history[1:]
    one_fewer = (after == before - 1) | ((before == CLASSES - 1) & (after == CLASSES - 1))
    return "high" if one_fewer.all() else "medium"
