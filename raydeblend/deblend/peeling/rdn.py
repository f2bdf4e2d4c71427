"""Peeling: the RDN takes off the brightest galaxy until the counter sees none (Wang et al. 2022).

The loop of section II.A:  count; if none are left, stop; deblend; subtract; repeat.

Then, beyond the paper, galaxies that were left out are looked for, all are deblended again, and
models are corrected where the pixels contradict them (`raydeblend/deblend/peeling/finish.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from raydeblend.deblend.holes import fill_from_models
from raydeblend.deblend.peeling.counting import count_galaxies
from raydeblend.deblend.peeling.finish import polish
from raydeblend.deblend.sources import Sources, stack_sources
from raydeblend.deblend.stamps import (
    choose_bands,
    find_stamp_peaks,
    network_image,
    prepare,
    split_batches,
)
from raydeblend.networks.counter import CLASSES
from raydeblend.networks.forward import choose_device, forward
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.weights import load_weights, shipped_path
from raydeblend.tile import Deblended, FloatArray

MAX_PEELS = 10
"""More sources than this in one stamp end the loop with low quality."""
REPEATS = 3
"""The same count this often in a row means that the deblender no longer finds what is there."""
MODEL_FLOOR = 0.01
"""Sky sigmas below which a model is zero: the network's own floor, which thousands of dark pixels
would add up to some percent of a faint galaxy's flux."""


@dataclass(frozen=True)
class Peeled:
    """What the loop leaves, in noise units.

    Attributes
    ----------
    models
        ``(n, k, bands, y, x)`` in the order of peeling.
    counts
        ``(n, k + 1)`` what the counter said before each peel and at the end; -1 after the end.
    p_blend
        ``(n,)`` the counter's probability of two or more galaxies in the original.
    """

    models: Tensor
    counts: NDArray[np.int64]
    p_blend: FloatArray


@dataclass(frozen=True)
class RdnDeblender:
    """The RDN and the counter together; implements `raydeblend.tile.Deblender`."""

    network: nn.Module
    scaling: Scaling
    counter: nn.Module
    counter_scaling: Scaling
    bands: tuple[str, ...]
    device: torch.device
    weights_hash: str = ""
    name: str = "rdn"
    band_masks: ClassVar[bool] = True

    @classmethod
    def load(
        cls, device: str | None = None, weights: str | None = None, counter: str | None = None
    ) -> RdnDeblender:
        """Load the shipped weights, or those at the given paths.

        Raises
        ------
        ConfigError
            If weights are missing or damaged.
        """
        chosen = choose_device(device)
        network, card = load_weights(weights or shipped_path("rdn"), chosen)
        count, count_card = load_weights(counter or shipped_path("counter"), chosen)
        return cls(
            network,
            card.scaling,
            count,
            count_card.scaling,
            card.bands,
            chosen,
            f"{card.sha256[:16]}-{count_card.sha256[:16]}",
        )

    @classmethod
    def load_shipped(cls, name: str, device: str | None = None) -> RdnDeblender:
        """Load ``rdn``, or ``rdn-joint``: deblender and counter after phase two (section II.E)."""
        if name == "rdn":
            return cls.load(device)
        weights = shipped_path(name), shipped_path(f"{name}-counter")
        return replace(cls.load(device, *weights), name=name)

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
        """Deblend a batch; see `raydeblend.tile.Deblender`.

        The network was trained over a range of seeing and does not use `psf` or `pixel_scale`.

        Raises
        ------
        ConfigError
            If the shapes of the arrays or the number of bands do not agree.
        """
        stamps = prepare(images, variance, mask)
        chosen = choose_bands(bands, stamps.image.shape[1], self.bands)
        peaks = find_stamp_peaks(stamps, psf)
        sources: list[Sources] = []
        quality: list[str] = []
        p_blend: list[float] = []
        for part in split_batches(stamps, self.device.type == "cpu"):
            seen = network_image(part, chosen)
            seen = fill_from_models(seen, part.holes[:, chosen], self._light)
            image = torch.from_numpy(seen).to(self.device)
            peeled = self.peel(image)
            own_peaks, peaks = peaks[: len(image)], peaks[len(image) :]
            found = polish(part, image, peeled.models, own_peaks, chosen, self._brightest)
            sources.extend(found)
            quality.extend(
                quality_of(counts) if len(models) else "none"
                for counts, (models, _) in zip(peeled.counts, found, strict=True)
            )
            p_blend.extend(peeled.p_blend.tolist())
        extra = {"p_blend": np.array(p_blend, dtype=np.float32)}
        return stack_sources(sources, quality, stamps.image.shape, extra)

    def peel(self, image: Tensor) -> Peeled:
        """Run the loop of section II.A on ``(n, bands, y, x)`` in noise units."""
        residual = image.clone()
        n = len(image)
        counts = np.full((n, MAX_PEELS + 1), -1)
        models: list[Tensor] = []
        active = torch.arange(n, device=image.device)
        p_blend = np.zeros(n, dtype=np.float32)
        for step in range(MAX_PEELS + 1):
            probability = self._count(residual[active])
            rows = active.cpu().numpy()
            counts[rows, step] = probability.argmax(dim=1).cpu().numpy()
            if step == 0:
                p_blend = probability[:, 2:].sum(dim=1).cpu().numpy()
            going = (counts[rows, step] > 0) & ~_stuck(counts[rows, : step + 1])
            active = active[torch.from_numpy(going).to(active.device)]
            if step == MAX_PEELS or len(active) == 0:
                break
            model = torch.zeros_like(image)
            model[active] = self._brightest(residual[active])
            residual -= model
            models.append(model)
        stacked = (
            torch.stack(models, dim=1) if models else image.new_zeros((n, 0, *image.shape[1:]))
        )
        return Peeled(stacked, counts, p_blend)

    def _light(self, image: FloatArray) -> FloatArray:
        """Return the sum of all models of each stamp."""
        models = self.peel(torch.from_numpy(image).to(self.device)).models
        return np.asarray(models.sum(dim=1).cpu().numpy())

    def _count(self, image: Tensor) -> Tensor:
        """Probability of 0, 1, 2 and 3 or more galaxies, ``(n, 4)``."""
        return count_galaxies(self.counter, image, self.counter_scaling)

    def _brightest(self, image: Tensor) -> Tensor:
        """Model of the brightest galaxy, ``(n, bands, y, x)``, never negative."""
        channels, maximum = self.scaling.apply(image)
        y, x = image.shape[2:]
        # The trunk works at half resolution: odd stamps get one row or column more.
        padded = nn.functional.pad(channels, (0, x % 2, 0, y % 2))
        model = forward(self.network, padded)[:, :, :y, :x] * maximum
        return nn.functional.threshold(model, MODEL_FLOOR, 0.0)


def _stuck(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which histories end in the same count three times; "3 or more" may well repeat."""
    if counts.shape[1] < REPEATS:
        return np.zeros(len(counts), dtype=bool)
    last = counts[:, -REPEATS:]
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
