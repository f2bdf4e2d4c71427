"""Blends on their way to the joint fit: which pixels, which PSF, which batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from raydeblend.measure.joint import JointState, Scene, fit_joint, flux_errors, render
from raydeblend.measure.joint_priors import JointPriors
from raydeblend.measure.psf import PsfMixture
from raydeblend.tile import BoolArray, FloatArray

Array = NDArray[np.float64]

LIGHT = 2.5
"""Pixels are fitted where the smoothed image exceeds this many sigma,"""
MARGIN = 3.0
"""and this many PSF widths about them."""
TOGETHER = 6
"""Most sources that are fitted at once; the blocks of a larger blend are fitted in turn."""
SWEEPS = 2
"""How often each block is fitted."""
REACH = 0.05
"""A block is fitted where its models exceed this many sigma,"""
CORE = 4.0
"""and this many PSF widths about its sources."""
BATCH_VALUES = 2**21
"""Values of Gaussians that are evaluated together; bounds the memory and fits a CPU's cache."""
_GAUSSIANS = 40
# Batches are padded to multiples of this many pixels.
_ROUND = 64


@dataclass(frozen=True)
class Stamp:
    """One blend in noise units.

    Attributes
    ----------
    image, weight
        ``(bands, y, x)`` and its inverse variance, 0 where unusable.
    psf
        One mixture per band.
    width
        Standard deviation in pixels of a Gaussian that stands for the PSF.
    pixel_scale
        Arcsec per pixel.
    pixels
        Indices of the pixels to fit, in the flattened image.
    """

    image: FloatArray
    weight: FloatArray
    psf: tuple[PsfMixture, ...]
    width: float
    pixel_scale: float
    pixels: NDArray[np.intp]

    @property
    def n_values(self) -> int:
        """Pixels that are fitted, counted in each band."""
        return int((self.at_pixels(self.weight) > 0).sum())

    def at_pixels(self, images: FloatArray) -> FloatArray:
        """Return the fitted pixels ``(..., p)`` of images ``(..., y, x)``."""
        return images.reshape(*images.shape[:-2], -1)[..., self.pixels]


@dataclass(frozen=True)
class Fit:
    """The sources of one blend as fitted.

    Attributes
    ----------
    theta
        ``(k, 8)``, see `raydeblend.measure.bulge_disk`.
    flux
        ``(bands, k, 2)`` of disk and bulge, and their total's error ``(bands, k)``.
    compact
        ``(k,)`` sources that were found as points, see `JointPriors`.
    objective, chi2
        χ²/2 − ln prior, and χ².
    """

    theta: Array
    flux: Array
    flux_err: Array
    compact: BoolArray
    objective: float
    chi2: float
    converged: bool

    @property
    def total(self) -> Array:
        """Flux of each source, ``(bands, k)``."""
        return np.asarray(self.flux.sum(-1))

    @property
    def snr(self) -> Array:
        """Flux over error of each source, all bands together, ``(k,)``."""
        error = np.where(self.flux_err > 0, self.flux_err, np.inf)
        return np.asarray(np.sqrt(((self.total / error) ** 2).sum(0)))


@dataclass(frozen=True)
class Task:
    """A blend to fit with sources at `start` ``(k, 2)``, from `theta` ``(k, 8)`` if known.

    A fit that will hardly come below the objective `goal` is given up.
    """

    stamp: Stamp
    start: Array
    compact: BoolArray
    theta: Array | None = None
    goal: float = -np.inf


def fit_tasks(tasks: Sequence[Task], priors: JointPriors, device: torch.device) -> list[Fit]:
    """Fit all blends, those of equal source count and similar size together."""
    fits = {i: _empty(task.stamp) for i, task in enumerate(tasks) if not len(task.start)}
    for i, task in enumerate(tasks):
        if len(task.start) > TOGETHER:
            fits[i] = _fit_blocks(task, priors, device)
    for batch in _batches(tasks):
        chosen = [tasks[i] for i in batch]
        scene = _scene(chosen, priors, device)
        warm = [task.theta for task in chosen if task.theta is not None]
        goal = torch.tensor([task.goal for task in chosen], dtype=torch.float64, device=device)
        trial = goal if goal.isfinite().all() else None
        state, converged = fit_joint(scene, _stack(warm, device) if warm else None, trial)
        fits.update(zip(batch, _fits(chosen, state, converged), strict=True))
    return [fits[i] for i in range(len(tasks))]


def draw(stamp: Stamp, fit: Fit, device: torch.device) -> FloatArray:
    """Return the sources' images ``(k, bands, y, x)``."""
    shape = stamp.image.shape
    if not len(fit.theta):
        return np.zeros((0, *shape), dtype=np.float32)
    scene = _scene([Task(stamp, fit.theta[:, :2], fit.compact)], JointPriors(), device)
    y, x = np.indices(shape[1:], dtype=np.float32).reshape(2, -1)
    pixels = torch.from_numpy(np.stack([x, y])[None]).to(device)
    parts = [
        render(scene, _stack([fit.theta[i]], device), _stack([fit.flux[:, i]], device), pixels)
        for i in _groups_of(len(fit.theta))
    ]
    return np.concatenate([part[0].cpu().numpy() for part in parts]).reshape(-1, *shape)


def lit_pixels(significance: FloatArray, width: float, usable: BoolArray) -> NDArray[np.intp]:
    """Return the indices of the usable pixels ``(y, x)`` in or near the light of sources.

    All of them where nothing is lit, since a source may be asked for all the same.
    """
    lit = significance > LIGHT
    if lit.any():
        usable = usable & (ndimage.distance_transform_edt(~lit) <= MARGIN * width)
    return np.flatnonzero(usable)


def _groups_of(k: int) -> Iterator[slice]:
    return (slice(i, i + TOGETHER) for i in range(0, k, TOGETHER))


def _empty(stamp: Stamp) -> Fit:
    bands = len(stamp.image)
    square = stamp.at_pixels(stamp.weight * stamp.image**2)
    chi2 = float(square.sum(dtype=np.float64))
    none = np.zeros((bands, 0, 2))
    compact = np.zeros(0, dtype=bool)
    return Fit(np.zeros((0, 8)), none, none[..., 0], compact, 0.5 * chi2, chi2, True)


def _fit_blocks(task: Task, priors: JointPriors, device: torch.device) -> Fit:
    """Fit a blend of many sources by blocks of near ones, each on the image less the others."""
    stamp, k = task.stamp, len(task.start)
    bands = len(stamp.image)
    known = task.theta is not None
    models = np.zeros((k, *stamp.image.shape), dtype=np.float32)
    fit = replace(
        _empty(stamp),
        theta=np.zeros((k, 8)),
        flux=np.zeros((bands, k, 2)),
        flux_err=np.zeros((bands, k)),
        compact=task.compact,
    )
    prior = np.zeros(k)
    for sweep in range(SWEEPS):
        for block in _blocks(task.start):
            others = models.sum(0) - models[block].sum(0)
            part = _around(replace(stamp, image=stamp.image - others), models, task.start, block)
            theta = fit.theta[block] if sweep else task.theta[block] if known else None
            own = Task(part, task.start[block], task.compact[block], theta)
            (done,) = fit_tasks([own], priors, device)
            fit.theta[block], fit.flux[:, block] = done.theta, done.flux
            fit.flux_err[:, block] = done.flux_err
            models[block] = draw(stamp, done, device)
            prior[block] = (done.objective - 0.5 * done.chi2) / len(block)
    square = stamp.at_pixels(stamp.weight * (stamp.image - models.sum(0)) ** 2)
    chi2 = float(square.sum(dtype=np.float64))
    return replace(fit, chi2=chi2, objective=0.5 * chi2 + float(prior.sum()))


def _blocks(xy: Array) -> Iterator[NDArray[np.intp]]:
    """Yield the indices of up to TOGETHER near sources; every source is in one block."""
    left = np.arange(len(xy))
    while len(left):
        near = np.argsort(cdist(xy[left[:1]], xy[left])[0], kind="stable")[:TOGETHER]
        yield left[near]
        left = np.delete(left, near)


def _around(stamp: Stamp, models: FloatArray, xy: Array, block: NDArray[np.intp]) -> Stamp:
    """Return the stamp with the pixels that matter for a block of sources."""
    y, x = np.indices(stamp.image.shape[1:]).reshape(2, -1)[:, stamp.pixels]
    distance = cdist(np.stack([x, y], 1), xy[block]).min(1)
    light = stamp.at_pixels(models[block].sum(0)).max(0)
    chosen = (distance < CORE * stamp.width) | (light > REACH)
    if not models.any():
        # Nothing is known yet of how far the sources reach.
        nearest = cdist(np.stack([x, y], 1), xy).argmin(1)
        chosen |= np.isin(nearest, block)
    return replace(stamp, pixels=stamp.pixels[chosen])


def _batches(tasks: Sequence[Task]) -> Iterator[list[int]]:
    groups: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    for i, task in enumerate(tasks):
        key = (len(task.start), len(task.stamp.image), task.theta is not None)
        if 0 < key[0] <= TOGETHER:
            groups[key].append(i)
    for (k, bands, _), members in groups.items():
        members.sort(key=lambda i: len(tasks[i].stamp.pixels))
        batch: list[int] = []
        for i in members:
            values = k * bands * _GAUSSIANS * len(tasks[i].stamp.pixels) * (len(batch) + 1)
            if batch and values > BATCH_VALUES:
                yield batch
                batch = []
            batch.append(i)
        yield batch


def _scene(tasks: Sequence[Task], priors: JointPriors, device: torch.device) -> Scene:
    n, bands = len(tasks), len(tasks[0].stamp.image)
    size = -(-max(len(task.stamp.pixels) for task in tasks) // _ROUND) * _ROUND
    data = np.zeros((n, bands, size), dtype=np.float32)
    weight, pixels = np.zeros_like(data), np.zeros((n, 2, size), dtype=np.float32)
    for row, task in enumerate(tasks):
        used, width = task.stamp.pixels, task.stamp.image.shape[2]
        data[row, :, : len(used)] = task.stamp.at_pixels(task.stamp.image)
        weight[row, :, : len(used)] = task.stamp.at_pixels(task.stamp.weight)
        pixels[row, :, : len(used)] = used % width, used // width
    psf_weight, psf_cov = _psf_arrays([task.stamp.psf for task in tasks])
    return Scene(
        data=torch.from_numpy(data).to(device),
        weight=torch.from_numpy(weight).to(device),
        pixels=torch.from_numpy(pixels).to(device),
        psf_weight=torch.from_numpy(psf_weight).to(device),
        psf_cov=torch.from_numpy(psf_cov).to(device),
        start=_stack([task.start for task in tasks], device),
        compact=torch.from_numpy(np.stack([task.compact for task in tasks])).to(device),
        pixel_scale=tasks[0].stamp.pixel_scale,
        priors=priors,
    )


def _psf_arrays(psfs: Sequence[tuple[PsfMixture, ...]]) -> tuple[Array, Array]:
    most = max(len(mixture.weights) for psf in psfs for mixture in psf)
    weight = np.zeros((len(psfs), len(psfs[0]), most))
    cov = np.tile([1.0, 0.0, 1.0], (*weight.shape, 1))
    for n, psf in enumerate(psfs):
        for b, mixture in enumerate(psf):
            k, c = len(mixture.weights), mixture.covariances
            weight[n, b, :k] = mixture.weights
            cov[n, b, :k] = np.stack([c[:, 0, 0], c[:, 0, 1], c[:, 1, 1]], 1)
    return weight, cov


def _stack(arrays: Sequence[Array], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.float64)).to(device)


def _fits(
    tasks: Sequence[Task], state: JointState, converged: torch.Tensor
) -> Iterator[Fit]:
    errors = flux_errors(state).cpu().numpy()
    theta, flux = state.theta.cpu().numpy(), state.flux.cpu().numpy()
    for row, task in enumerate(tasks):
        yield Fit(
            theta=theta[row],
            flux=flux[row],
            flux_err=errors[row],
            compact=task.compact,
            objective=float(state.objective[row]),
            chi2=float(state.chi2[row]),
            converged=bool(converged[row]),
        )
