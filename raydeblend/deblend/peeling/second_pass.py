"""A second pass over what was peeled: galaxies left out, and each one without its neighbors.

The loop of Wang et al. (2022) ends with its last peel.  But the first galaxy was peeled with all
its neighbors on it, the last got what earlier peels had left, and two of equal brightness come
as one, or not at all, since the network cannot tell which is the brightest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import EllipsisType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raydeblend.deblend.peeling.config import PEELING
from raydeblend.deblend.sources import SOURCES, galaxies_of, positions_of

Brightest = Callable[..., Tensor]
"""From images ``(n, bands, y, x)``, and what else the network is shown of each stamp
``(n, …, y, x)``, to models of the brightest galaxy of each."""

CONFIG = PEELING.second_pass


def second_pass(
    image: Tensor,
    peeled: Tensor,
    peaks: Sequence[NDArray[np.floating]],
    network: Brightest,
    *others: Tensor,
) -> Tensor:
    """Add the galaxies that were left out, and deblend all again.

    Parameters
    ----------
    image, peeled
        ``(n, bands, y, x)`` and models ``(n, k, bands, y, x)`` in the order of peeling, both in
        noise units.
    peaks
        ``(m, 2)`` (x, y) of each stamp.
    others
        ``(n, …, y, x)``, what the network is shown in addition to the image.

    Returns
    -------
    models
        ``(n, k', bands, y, x)``; repeats are added to the first, and 0 is left of them.
    """
    first = merge_repeats(peeled)
    more = recover_missed(image, first, peaks, network, *others)
    models = torch.cat([_without(first, more), more], dim=1)
    again = deblend_again(image, models, first.shape[1], network, *others)
    # The seeds may already be better than the peels, or make things worse until all were redone.
    peeled_rest, seeded_rest = _squared_residual(image, first), _squared_residual(image, models)
    base = _choose(seeded_rest < peeled_rest, models, first)
    least = torch.minimum(peeled_rest, seeded_rest)
    return _choose(_squared_residual(image, again) <= CONFIG.max_worsening * least, again, base)


def merge_repeats(models: Tensor) -> Tensor:
    """Add models that lie on an earlier one, repeats of its galaxy, to it."""
    merged = torch.zeros_like(models)
    for own, result in zip(models, merged, strict=True):
        galaxy = torch.from_numpy(galaxies_of(positions_of(own.cpu().numpy())))
        result.index_add_(0, galaxy.to(models.device), own)
    return merged


def _without(models: Tensor, more: Tensor) -> Tensor:
    """Take from models ``(n, k, …)`` the light that is in `more` now, by their parts of it."""
    total = models.sum(1, keepdim=True)
    left = (total - more.sum(1, keepdim=True)).clamp(min=0)
    return models * (left / total.clamp(min=torch.finfo(total.dtype).tiny))


def recover_missed(
    image: Tensor,
    models: Tensor,
    peaks: Sequence[NDArray[np.floating]],
    network: Brightest,
    *others: Tensor,
) -> Tensor:
    """Return a model for each peak ``(n, m, bands, y, x)`` that has none yet and where one is.

    The network is shown the pixels that are nearer to the peak than to anything else, within
    `SecondPassConfig.window_radius`: neither can a brighter galaxy draw it away, nor an equal one
    make it waver.
    """
    seeds: list[tuple[int, Tensor]] = []
    wanted: list[NDArray[np.floating]] = []
    for row, xy in enumerate(peaks):
        known = positions_of(models[row].cpu().numpy())
        unseen = _unseen(image[row], models[row], known, xy)
        known = known[np.isfinite(known).all(axis=1)]
        windows = _windows(np.concatenate([xy[unseen], known]), int(unseen.sum()), image)
        seeds.extend((row, image[row] * window) for window in windows)
        wanted.extend(xy[unseen])
    if not seeds:
        return models[:, :0]
    rows = [row for row, _ in seeds]
    shown = torch.stack([shown for _, shown in seeds])
    found = _deblend_near(shown, shown, network, *(other[rows] for other in others))
    moved = np.hypot(*(positions_of(found.cpu().numpy()) - np.array(wanted)).T)
    there: list[list[Tensor]] = [[] for _ in range(len(image))]
    for (row, _), model, distance in zip(seeds, found, moved, strict=True):
        if distance < SOURCES.merge_radius:
            there[row].append(model)
    return _stack(there, models)


def deblend_again(
    image: Tensor, models: Tensor, n_peeled: int, network: Brightest, *others: Tensor
) -> Tensor:
    """Deblend each galaxy again from the image less the others, `SecondPassConfig.sweeps` times.

    Models from `n_peeled` on have been seen in a window only, and are all deblended once.
    """
    models = models.clone()
    peeled = models[:, :n_peeled]
    # What was already taken off when each was deblended: the earlier peels.
    taken = torch.cat([peeled.cumsum(1) - peeled, torch.zeros_like(models[:, n_peeled:])], dim=1)
    new = models.flatten(2).any(2)
    new[:, :n_peeled] = False
    total = models.sum(1)
    for k in list(range(models.shape[1])) * CONFIG.sweeps:
        own, rest = models[:, k], total - models[:, k]
        change = (rest - taken[:, k]).abs()
        again = new[:, k] | (_product(own, change) > CONFIG.max_contamination * _product(own, own))
        if not again.any():
            continue
        before = own[again]
        beside = [other[again] for other in others]
        after = _deblend_near((image - rest)[again], before, network, *beside)
        norms = _product(before, before) * _product(after, after)
        same = _product(before, after) > CONFIG.min_cosine * norms.sqrt()
        models[again, k] = torch.where(same[:, None, None, None], after, before)
        total = rest + models[:, k]
        taken[again, k] = rest[again]
        new[:, k] = False
    return models


def _deblend_near(image: Tensor, about: Tensor, network: Brightest, *others: Tensor) -> Tensor:
    """Deblend the part of each image in which something of `about` is not zero, and a margin.

    In a large stamp that takes less time, and nothing bright elsewhere is in the way.
    """
    frames = [_frame(stamp) for stamp in about]
    size = [max(side) for side in zip(*(size for _, size in frames), strict=True)]
    shape = list(image.shape[2:])
    size = [min(side, most) for side, most in zip(size, shape, strict=True)]
    if size == shape:
        return network(image, *others)
    models = torch.zeros_like(image)
    starts = [
        [max(0, min(m - s // 2, n - s)) for m, s, n in zip(middle, size, shape, strict=True)]
        for middle, _ in frames
    ]
    windows = [(..., slice(y, y + size[0]), slice(x, x + size[1])) for y, x in starts]
    found = network(*(_cut(planes, windows) for planes in (image, *others)))
    for model, window, part in zip(models, windows, found, strict=True):
        model[window] = part
    return models


def _cut(stamps: Tensor, windows: Sequence[tuple[EllipsisType | slice, ...]]) -> Tensor:
    return torch.stack([own[window] for own, window in zip(stamps, windows, strict=True)])


def _frame(stamp: Tensor) -> tuple[list[int], list[int]]:
    """Return middle and size (y, x) of the frame about what is not zero in ``(bands, y, x)``."""
    lit = stamp.any(0)
    ends = [torch.nonzero(lit.any(axis))[[0, -1], 0].tolist() for axis in (1, 0)]
    size = [max(CONFIG.min_side, b - a + 1 + 2 * CONFIG.margin) for a, b in ends]
    return [(a + b + 1) // 2 for a, b in ends], size


def _unseen(
    image: Tensor, models: Tensor, known: NDArray[np.floating], xy: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Tell which peaks ``(m, 2)`` have no model; `known` are the models' positions ``(k, 2)``."""
    unseen = np.zeros(len(xy), dtype=bool)
    for i, (x, y) in enumerate(np.round(xy).astype(int)):
        core = (..., slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2))
        light = models[core].sum((1, 2, 3)).cpu().numpy()
        near = np.hypot(*(known - xy[i]).T) < CONFIG.peak_radius
        left = float(image[core].sum()) - light[~near].sum()
        unseen[i] = not near.any() or light[near].sum() < CONFIG.min_peak_share * left
    return unseen


def _windows(xy: NDArray[np.floating], n: int, image: Tensor) -> list[Tensor]:
    """Return the pixels ``(y, x)`` nearest to each of the first `n` of all positions."""
    y, x = np.indices(image.shape[2:])
    squared = (x - xy[:, 0, None, None]) ** 2 + (y - xy[:, 1, None, None]) ** 2
    nearest = squared.argmin(axis=0) if len(xy) else squared
    return [
        torch.from_numpy((nearest == k) & (squared[k] < CONFIG.window_radius**2)).to(image.device)
        for k in range(n)
    ]


def _stack(models: Sequence[Sequence[Tensor]], like: Tensor) -> Tensor:
    """Return the models of each stamp, padded with zeros to the most of any."""
    most = max((len(own) for own in models), default=0)
    stacked = like.new_zeros((len(models), most, *like.shape[2:]))
    for row, own in zip(stacked, models, strict=True):
        for slot, model in zip(row, own, strict=False):
            slot.copy_(model)
    return stacked


def _choose(which: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Take stamps ``(n, k, …)`` of `one` where `which`, else of `other`, which may have fewer."""
    padding = [0, 0] * 3 + [0, one.shape[1] - other.shape[1]]
    return torch.where(which[:, None, None, None, None], one, nn.functional.pad(other, padding))


def _squared_residual(image: Tensor, models: Tensor) -> Tensor:
    rest = image - models.sum(1)
    return _product(rest, rest)


def _product(one: Tensor, other: Tensor) -> Tensor:
    """Inner product of images ``(n, bands, y, x)``, ``(n,)``."""
    return (one * other).sum((1, 2, 3))
