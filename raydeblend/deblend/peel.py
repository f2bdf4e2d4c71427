"""Peeling: the RDN takes off the brightest galaxy until the counter sees none (Wang et al. 2022).

The loop of section II.A:  count; if none are left, stop; deblend; subtract; repeat.

Then, beyond the paper, every galaxy is deblended again from the image less the models of the
others: the first was peeled with all its neighbours on it, the last from what earlier peels left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from raydeblend.deblend.counting import count_galaxies
from raydeblend.deblend.sources import Sources, stack_sources
from raydeblend.deblend.stamps import (
    Stamps,
    choose_bands,
    nearest_channels,
    network_image,
    prepare,
    split_batches,
)
from raydeblend.deblend.templates import fit_amplitudes
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
MERGE_RADIUS = 2.0
"""Pixels, half of a usual seeing: nearer models are of one galaxy, whose peel left a residual."""
SWEEPS = 2
"""How often every galaxy is deblended again."""
UNDER = 0.03
"""Light of the others under a model, as a part of its own, from which that is worth while."""
SAME = 0.5
"""Cosine between a model and the one before, below which it is another galaxy's."""
WORSE = 1.02
"""Squared residual, over that of the first peels, above which these are kept: models of the parts
of a bright galaxy with structure can drive each other away."""
MIN_SIGNIFICANCE = 3.0
"""A model is a source if a matched filter would detect it at this signal-to-noise ratio."""


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
        sources: list[Sources] = []
        quality: list[str] = []
        p_blend: list[float] = []
        for part in split_batches(stamps, self.device.type == "cpu"):
            image = torch.from_numpy(network_image(part, chosen)).to(self.device)
            peeled = self.peel(image)
            refined = self.refine(image, peeled.models)
            models = self._all_bands(refined.cpu(), part, chosen)
            for row in range(len(models)):
                found, xy = sources_of(models[row], part.weight[row])
                sources.append((found * part.sigma[row], xy))
                quality.append(quality_of(peeled.counts[row]) if len(found) else "none")
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

    def refine(self, image: Tensor, models: Tensor) -> Tensor:
        """Deblend each galaxy again from the image less the others, `SWEEPS` times.

        `image` is ``(n, bands, y, x)`` and `models` ``(n, k, bands, y, x)``, both in noise units.
        """
        first = _merge_helpings(models)
        models = first.clone()
        for k in list(range(models.shape[1])) * SWEEPS:
            own, others = models[:, k], models.sum(1) - models[:, k]
            blended = _product(own, others) > UNDER * _product(own, own)
            if not blended.any():
                continue
            before = own[blended]
            after = self._brightest((image - others)[blended])
            norms = _product(before, before) * _product(after, after)
            same = _product(before, after) > SAME * norms.sqrt()
            models[blended, k] = torch.where(same[:, None, None, None], after, before)
        left, left_before = image - models.sum(1), image - first.sum(1)
        worse = _product(left, left) > WORSE * _product(left_before, left_before)
        return torch.where(worse[:, None, None, None, None], first, models)

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

    def _all_bands(self, models: Tensor, stamps: Stamps, chosen: list[int]) -> FloatArray:
        """Give each band of the user's a model: the network's, or a template fitted to the band.

        A band that the network does not know takes the model of the nearest network band as its
        template, with amplitudes by weighted least squares over all sources of the blend.
        """
        bands = stamps.image.shape[1]
        if chosen == list(range(bands)) and not stamps.missing.any():
            return models.numpy()
        templates = models.numpy()[:, :, nearest_channels(chosen, bands)]
        fitted = fit_amplitudes(stamps.image, stamps.weight, templates)
        known = np.array([b in chosen for b in range(bands)])
        own = known & ~stamps.missing
        amplitude = np.where(own[:, None], 1.0, np.where(stamps.missing[:, None], 0.0, fitted))
        return np.asarray(templates * amplitude[..., None, None], dtype=np.float32)


def _product(one: Tensor, other: Tensor) -> Tensor:
    """Inner product of images ``(n, bands, y, x)``, ``(n,)``."""
    return (one * other).sum((1, 2, 3))


def _merge_helpings(models: Tensor) -> Tensor:
    """Add models that lie on an earlier one, second helpings of its galaxy, to it; 0 is left."""
    merged = models.clone()
    for own in merged:
        taken: list[tuple[int, tuple[float, float]]] = []
        for k, model in enumerate(own):
            if not model.any():
                continue
            xy = _position(model.sum(0).cpu().numpy())
            near = [j for j, other in taken if np.hypot(*np.subtract(other, xy)) < MERGE_RADIUS]
            if near:
                own[near[0]] += model
                model.zero_()
            else:
                taken.append((k, xy))
    return merged


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


def sources_of(models: FloatArray, weight: FloatArray) -> Sources:
    """Return the significant models of one stamp, brightest first, and their positions.

    `models` is ``(k, bands, y, x)`` and `weight` ``(bands, y, x)`` their inverse variance, both
    in noise units.
    """
    significance = np.sqrt((models**2 * weight).sum(axis=(1, 2, 3)))
    real = models[significance > MIN_SIGNIFICANCE]
    ordered = real[np.argsort(-real.sum(axis=(1, 2, 3)), kind="stable")]
    xy = np.array([_position(model.sum(axis=0)) for model in ordered], dtype=np.float32)
    return _merge(ordered, xy.reshape(-1, 2))


def _merge(models: FloatArray, xy: FloatArray) -> Sources:
    """Add a model that lies on a brighter one to it: a second helping of the same galaxy."""
    kept: list[int] = []
    merged = models.copy()
    for k, position in enumerate(xy):
        near = [j for j in kept if np.hypot(*(xy[j] - position)) < MERGE_RADIUS]
        if near:
            merged[near[0]] += models[k]
        else:
            kept.append(k)
    return merged[kept], xy[kept]


def _position(image: FloatArray, radius: int = 3) -> tuple[float, float]:
    """Centroid (x, y) of the pixels around the brightest one that exceed half of it."""
    y0, x0 = np.unravel_index(int(image.argmax()), image.shape)
    top, left = max(y0 - radius, 0), max(x0 - radius, 0)
    window = image[top : y0 + radius + 1, left : x0 + radius + 1]
    core = np.where(window > 0.5 * window.max(), window, 0)
    y, x = np.indices(core.shape)
    return float((core * x).sum() / core.sum() + left), float((core * y).sum() / core.sum() + top)
