"""Blends on their way to the joint fit: which pixels, which PSF, which batch."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from raydeblend.deblend.joint import one_blend
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.compiled.kernel import Fitted
from raydeblend.fit.priors import BulgeDiskPriors
from raydeblend.fit.psf import stack_mixtures
from raydeblend.fit.scene import Scene, render
from raydeblend.fit.scene_fit import SceneState, covariances, fit_scene
from raydeblend.tile import BoolArray, FloatArray

__all__ = ["Fit", "Limit", "Stamp", "Task", "better_of", "draw", "fit_tasks", "refit"]

Array = NDArray[np.float64]

TOGETHER = 6
"""Most sources that are fitted at once; the blocks of a larger blend are fitted in turn."""
SWEEPS = 2
"""How often each block is fitted."""
MOST_WORK = 3e7
"""Limit of the work on a blend, as `Fit.work` counts it: half a minute or more of a busy core."""
MOST_VALUES = 2**26
"""Limit of sources times bands times pixels, which bounds the memory of the models."""
REACH = 0.05
"""A block is fitted where its models exceed this many sigma,"""
CORE = 4.0
"""and this many PSF widths about its sources."""
BATCH_VALUES = 2**21
"""Values of Gaussians that are evaluated together; bounds the memory and fits a CPU's cache."""
_GAUSSIANS = 40
# Samples are padded to sizes of which there are few, the smallest and then four to each doubling.
_SMALLEST = 64


@dataclass(frozen=True)
class Fit:
    """The sources of one blend as fitted.

    Attributes
    ----------
    theta, theta_cov
        ``(k, 8)``, see `raydeblend.fit.bulge_disk`, and the covariances ``(k, 8, 8)``.
    flux, flux_err
        ``(bands, k, 2)`` of disk and bulge, and their total's error ``(bands, k)``.
    compact
        ``(k,)`` sources that were found as points, see `BulgeDiskPriors`.
    bulge
        ``(k,)`` which of `BulgeDiskPriors.bulges` is expected of each.
    prior
        ``(k,)`` −ln prior of each source.
    chi2
        χ² of the whole.
    work
        What it cost, with the trials so far: evaluations of the model times sources, bands and
        samples.  The same on any machine, unlike seconds.
    limited
        Whether the limit of the work ended it: before all sources were fitted if there are none,
        else in the search for more.
    """

    theta: Array
    theta_cov: Array
    flux: Array
    flux_err: Array
    compact: BoolArray
    bulge: NDArray[np.intp]
    prior: Array
    chi2: float
    converged: bool
    work: float = 0.0
    limited: bool = False

    @property
    def objective(self) -> float:
        """χ²/2 − ln prior."""
        return 0.5 * self.chi2 + float(self.prior.sum())

    @property
    def total(self) -> Array:
        """Flux of each source, ``(bands, k)``."""
        return np.asarray(self.flux.sum(-1))

    @property
    def snr(self) -> Array:
        """Flux over error of each source, all bands together, ``(k,)``."""
        error = np.where(self.flux_err > 0, self.flux_err, np.inf)
        return np.asarray(np.sqrt(((self.total / error) ** 2).sum(0)))

    def take(self, index: NDArray[np.intp]) -> Fit:
        """Return some of the sources; χ² is not theirs."""
        return replace(
            self,
            theta=self.theta[index],
            theta_cov=self.theta_cov[index],
            flux=self.flux[:, index],
            flux_err=self.flux_err[:, index],
            compact=self.compact[index],
            bulge=self.bulge[index],
            prior=self.prior[index],
        )

    def add(self, theta: Array, compact: bool) -> Fit:
        """Return the fit with more sources ``(m, 8)``, as yet without light."""
        m, bands = len(theta), len(self.flux)
        return replace(
            self,
            theta=np.concatenate([self.theta, theta]),
            theta_cov=np.concatenate([self.theta_cov, np.zeros((m, 8, 8))]),
            flux=np.concatenate([self.flux, np.zeros((bands, m, 2))], 1),
            flux_err=np.concatenate([self.flux_err, np.zeros((bands, m))], 1),
            compact=np.concatenate([self.compact, np.full(m, compact)]),
            bulge=np.concatenate([self.bulge, np.zeros(m, dtype=np.intp)]),
            prior=np.concatenate([self.prior, np.zeros(m)]),
        )


@dataclass(frozen=True)
class Task:
    """A blend to fit.

    Attributes
    ----------
    start
        ``(k, 2)`` expected positions.
    compact
        ``(k,)`` sources that were found as points.
    base
        An earlier fit to start from.
    changed
        Which of its sources are new or have lost a neighbour; in a large blend only they and
        what is near them are fitted again.
    goal
        A fit that will hardly come below this objective is given up.
    """

    stamp: Stamp
    start: Array
    compact: BoolArray
    base: Fit | None = None
    changed: NDArray[np.intp] | None = None
    goal: float = -np.inf

    @property
    def bulge(self) -> NDArray[np.intp]:
        """Which bulge is expected of each source, the usual one unless the base says otherwise."""
        return np.zeros(len(self.start), dtype=np.intp) if self.base is None else self.base.bulge


def refit(stamp: Stamp, base: Fit, changed: NDArray[np.intp], goal: float = -np.inf) -> Task:
    """Return a task that starts from a fit; see `Task`."""
    return Task(stamp, base.theta[:, :2].copy(), base.compact, base, changed, goal)


def better_of(fit: Fit, trial: Fit, better: bool) -> Fit:
    """Return the trial if it is better, else the fit, with the work of both."""
    return replace(trial if better else fit, work=fit.work + trial.work)


@dataclass(frozen=True)
class Limit:
    """When to stop with a blend.

    Attributes
    ----------
    work
        The most of `Fit.work`.
    deadline
        Of `time.monotonic`, for machines that are far too slow: results then depend on it.
    """

    work: float = MOST_WORK
    deadline: float = np.inf

    def reached(self, work: float) -> bool:
        """Tell whether a blend that cost so much must end."""
        return work > self.work or time.monotonic() > self.deadline


NO_LIMIT = Limit(np.inf)


def fit_tasks(
    tasks: Sequence[Task], priors: BulgeDiskPriors, device: torch.device, limit: Limit = NO_LIMIT
) -> list[Fit]:
    """Fit all blends: on a CPU one after the other, compiled, else many together.

    The limit is for those of more than TOGETHER sources; the others end in any case.
    """
    fits = {i: _without_sources(t.stamp) for i, t in enumerate(tasks) if not len(t.start)}
    for i, task in enumerate(tasks):
        if len(task.start) > TOGETHER:
            fits[i] = _fit_blocks(task, priors, device, limit)
    if device.type == "cpu":
        alone = (i for i, task in enumerate(tasks) if 0 < len(task.start) <= TOGETHER)
        fits.update((i, _fit_alone(tasks[i], priors)) for i in alone)
        return [fits[i] for i in range(len(tasks))]
    for batch in _batches(tasks):
        chosen = [tasks[i] for i in batch]
        scene = make_scene(chosen, priors, device)
        warm = [task.base.theta for task in chosen if task.base is not None]
        goals = [task.goal - 0.5 * task.stamp.scatter for task in chosen]
        goal = torch.tensor(goals, dtype=torch.float64, device=device)
        trial = goal if goal.isfinite().all() else None
        state, converged, evaluations = fit_scene(
            scene, _stack(warm, device) if warm else None, trial
        )
        fits.update(zip(batch, _fits(chosen, state, converged, evaluations), strict=True))
    return [fits[i] for i in range(len(tasks))]


def draw(stamp: Stamp, fit: Fit, device: torch.device) -> FloatArray:
    """Return the sources' images ``(k, bands, y, x)``."""
    shape = stamp.image.shape
    if not len(fit.theta):
        return np.zeros((0, *shape), dtype=np.float32)
    if device.type == "cpu":
        return one_blend.draw(stamp, fit.theta, fit.flux)
    scene = make_scene([Task(stamp, fit.theta[:, :2], fit.compact)], BulgeDiskPriors(), device)
    y, x = np.indices(shape[1:], dtype=np.float32).reshape(2, -1)
    pixels = torch.from_numpy(np.stack([x, y])[None]).to(device)
    parts = [
        render(scene, _stack([fit.theta[i]], device), _stack([fit.flux[:, i]], device), pixels)
        for i in _groups_of(len(fit.theta))
    ]
    return np.concatenate([part[0].cpu().numpy() for part in parts]).reshape(-1, *shape)


def _fit_alone(task: Task, priors: BulgeDiskPriors) -> Fit:
    start = None if task.base is None else task.base.theta
    blend = one_blend.make_blend(task.stamp, task.start, task.compact, task.bulge, priors, start)
    goal = task.goal - 0.5 * task.stamp.scatter
    return _fit_of(task, one_blend.fit(blend, start, goal if np.isfinite(goal) else np.inf))


def _fit_of(task: Task, fitted: Fitted) -> Fit:
    k, bands = len(task.start), len(task.stamp.image)
    return Fit(
        theta=fitted.theta,
        theta_cov=fitted.theta_cov,
        flux=fitted.flux.reshape(bands, k, 2),
        flux_err=fitted.flux_err,
        compact=task.compact,
        bulge=task.bulge,
        prior=fitted.prior,
        chi2=fitted.chi2 + task.stamp.scatter,
        converged=fitted.converged,
        work=float(fitted.evaluations * k * bands * len(task.stamp.starts)),
    )


def _groups_of(k: int) -> Iterator[slice]:
    return (slice(i, i + TOGETHER) for i in range(0, k, TOGETHER))


def _without_sources(stamp: Stamp) -> Fit:
    bands = len(stamp.image)
    return Fit(
        theta=np.zeros((0, 8)),
        theta_cov=np.zeros((0, 8, 8)),
        flux=np.zeros((bands, 0, 2)),
        flux_err=np.zeros((bands, 0)),
        compact=np.zeros(0, dtype=bool),
        bulge=np.zeros(0, dtype=np.intp),
        prior=np.zeros(0),
        chi2=stamp.chi2(stamp.image) + stamp.scatter,
        converged=True,
    )


def _fit_blocks(task: Task, priors: BulgeDiskPriors, device: torch.device, limit: Limit) -> Fit:
    """Fit a blend of many sources by blocks of near ones, each on the image less the others."""
    stamp, fit, sweeps, work = task.stamp, task.base, 1, 0.0
    if len(task.start) * stamp.image.size > MOST_VALUES:
        return replace(_without_sources(stamp), limited=True)
    if fit is None:
        theta = priors.usual(torch.from_numpy(task.start[None])).numpy()[0]
        fit, sweeps = _without_sources(stamp).add(theta, compact=False), SWEEPS
    fit = fit.take(np.arange(len(task.start)))  # A copy: it is written to, block by block.
    models = draw(stamp, fit, device)
    for sweep in range(sweeps):
        for block in blocks(task.start, task.changed):
            others = models.sum(0) - models[block].sum(0)
            part = around(replace(stamp, image=stamp.image - others), models, task.start, block)
            base = fit.take(block) if sweep or task.base is not None else None
            own = Task(part, task.start[block], task.compact[block], base)
            (done,) = fit_tasks([own], priors, device)
            _put(fit, block, done)
            models[block] = draw(stamp, done, device)
            work += done.work
            if limit.reached(work):
                return replace(_without_sources(stamp), work=work, limited=True)
    chi2 = stamp.chi2(stamp.image - models.sum(0)) + stamp.scatter
    return replace(fit, compact=task.compact, chi2=chi2, work=work)


def _put(fit: Fit, block: NDArray[np.intp], done: Fit) -> None:
    """Write the sources of a block into a fit, in place."""
    fit.theta[block], fit.theta_cov[block] = done.theta, done.theta_cov
    fit.flux[:, block], fit.flux_err[:, block] = done.flux, done.flux_err
    fit.prior[block] = done.prior


def blocks(xy: Array, changed: NDArray[np.intp] | None = None) -> Iterator[NDArray[np.intp]]:
    """Yield the indices of up to TOGETHER near sources, until all (changed) ones had a turn."""
    left = np.arange(len(xy))
    due = left if changed is None else changed
    while len(due):
        # A changed source sees all its neighbours; else every source has one block.
        among = left if changed is None else np.arange(len(xy))
        near = np.argsort(cdist(xy[due[:1]], xy[among])[0], kind="stable")[:TOGETHER]
        block = among[near]
        yield block
        left = np.setdiff1d(left, block)
        due = np.setdiff1d(due, block)


def around(stamp: Stamp, models: FloatArray, xy: Array, block: NDArray[np.intp]) -> Stamp:
    """Return the stamp with the samples that matter for a block of sources."""
    xy_samples = stamp.centres.T
    light = stamp.means(models[block].sum(0)).max(0)
    chosen = (cdist(xy_samples, xy[block]).min(1) < CORE * stamp.width) | (light > REACH)
    if not models.any():
        # Nothing is known yet of how far the sources reach.
        chosen |= np.isin(cdist(xy_samples, xy).argmin(1), block)
    return stamp.keep(chosen)


def _batches(tasks: Sequence[Task]) -> Iterator[list[int]]:
    """Yield which blends are fitted together.

    They have the same padded size, so that padding changes no blend's sums.
    """
    groups: dict[tuple[int, int, bool, int], list[int]] = defaultdict(list)
    for i, task in enumerate(tasks):
        k, bands = len(task.start), len(task.stamp.image)
        if 0 < k <= TOGETHER:
            groups[k, bands, task.base is not None, _padded(task.stamp)].append(i)
    for (k, bands, _, size), members in groups.items():
        most = max(1, int(BATCH_VALUES // (k * bands * _GAUSSIANS * size)))
        yield from (members[i : i + most] for i in range(0, len(members), most))


def _padded(stamp: Stamp) -> int:
    samples = max(len(stamp.starts), _SMALLEST)
    step = max(_SMALLEST, 1 << (samples.bit_length() - 3))
    return -(-samples // step) * step


def make_scene(tasks: Sequence[Task], priors: BulgeDiskPriors, device: torch.device) -> Scene:
    n, bands = len(tasks), len(tasks[0].stamp.image)
    size = max(_padded(task.stamp) for task in tasks)
    data = np.zeros((n, bands, size), dtype=np.float32)
    weight, pixels = np.zeros_like(data), np.zeros((n, 2, size), dtype=np.float32)
    for row, task in enumerate(tasks):
        used = slice(len(task.stamp.starts))
        data[row, :, used] = task.stamp.means(task.stamp.image)
        weight[row, :, used] = task.stamp.weights
        pixels[row, :, used] = task.stamp.centres
    psfs = [stack_mixtures(task.stamp.psf) for task in tasks]
    psf_weight, psf_cov = (np.stack(each) for each in zip(*psfs, strict=True))
    return Scene(
        data=torch.from_numpy(data).to(device),
        weight=torch.from_numpy(weight).to(device),
        pixels=torch.from_numpy(pixels).to(device),
        psf_weight=torch.from_numpy(psf_weight).to(device),
        psf_cov=torch.from_numpy(psf_cov).to(device),
        start=_stack([task.start for task in tasks], device),
        compact=torch.from_numpy(np.stack([task.compact for task in tasks])).to(device),
        bulge=torch.tensor(priors.bulges, dtype=torch.float64)[
            np.stack([task.bulge for task in tasks])
        ].to(device),
        pixel_scale=tasks[0].stamp.pixel_scale,
        priors=priors,
        hidden=torch.from_numpy(np.stack([_hidden(task) for task in tasks])).to(device),
    )


def _hidden(task: Task) -> BoolArray:
    """Tell which sources ``(bands, k)`` a band hardly shows, as far as is known before the fit."""
    return task.stamp.hidden(task.start if task.base is None else task.base.theta)


def _stack(arrays: Sequence[Array], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.float64)).to(device)


def _fits(
    tasks: Sequence[Task],
    state: SceneState,
    converged: torch.Tensor,
    evaluations: torch.Tensor,
) -> Iterator[Fit]:
    shape_cov, errors = (each.cpu().numpy() for each in covariances(state))
    theta, flux = state.theta.cpu().numpy(), state.flux.cpu().numpy()
    prior = state.prior.cpu().numpy()
    for row, task in enumerate(tasks):
        values = len(task.start) * len(task.stamp.image) * len(task.stamp.starts)
        yield Fit(
            theta=theta[row],
            theta_cov=shape_cov[row],
            flux=flux[row],
            flux_err=errors[row],
            compact=task.compact,
            bulge=task.bulge,
            prior=prior[row],
            chi2=float(state.chi2[row]) + task.stamp.scatter,
            converged=bool(converged[row]),
            work=float(evaluations[row] * values),
        )
