"""Many blends in one scene: which are fitted together on a GPU, and how they are padded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit import scene as scenes
from raydeblend.fit.priors import BulgeDiskPriors
from raydeblend.fit.psf import stack_places
from raydeblend.fit.scene import Scene
from raydeblend.fit.scene_fit import SceneState, covariances, fit_scene
from raydeblend.fit.shear import rest_of, shear_response
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]

BATCH_VALUES = 2**21
"""Values of Gaussians that are evaluated together; bounds the memory and fits a CPU's cache."""
RENDERED_TOGETHER = 6
"""Sources whose images are drawn together."""
_GAUSSIANS = 40
# Samples are padded to sizes of which there are few, the smallest and then four to each doubling.
_SMALLEST = 64


def fit_batches(
    requests: Sequence[FitRequest], chosen: Sequence[int], settings: FitSettings
) -> Iterator[tuple[int, BlendFit]]:
    """Fit the chosen ones, many together; yield which it is and its fit."""
    for batch in _batches(requests, chosen):
        yield from zip(batch, _fit_batch([requests[i] for i in batch], settings), strict=True)


def _fit_batch(requests: Sequence[FitRequest], settings: FitSettings) -> Iterator[BlendFit]:
    device = settings.device
    scene = make_scene(requests, settings.priors, device)
    warm = [request.base.theta for request in requests if request.base is not None]
    goals = [request.sample_goal for request in requests]
    goal = torch.tensor(goals, dtype=torch.float64, device=device)
    trial = goal if goal.isfinite().all() else None
    fitted = fit_scene(scene, _stack(warm, device) if warm else None, trial)
    return _fits(requests, scene, *fitted)


def _batches(requests: Sequence[FitRequest], chosen: Sequence[int]) -> Iterator[list[int]]:
    """Yield which blends are fitted together.

    They have the same padded size, so that padding changes no blend's sums.
    """
    groups: dict[tuple[int, int, bool, int], list[int]] = defaultdict(list)
    for i in chosen:
        request = requests[i]
        k, bands = len(request.start), len(request.stamp.image)
        groups[k, bands, request.base is not None, _padded(request.stamp)].append(i)
    for (k, bands, _, size), members in groups.items():
        most = max(1, int(BATCH_VALUES // (k * bands * _GAUSSIANS * size)))
        yield from (members[i : i + most] for i in range(0, len(members), most))


def _padded(stamp: Stamp) -> int:
    samples = max(len(stamp.starts), _SMALLEST)
    step = max(_SMALLEST, 1 << (samples.bit_length() - 3))
    return -(-samples // step) * step


def make_scene(
    requests: Sequence[FitRequest], priors: BulgeDiskPriors, device: torch.device
) -> Scene:
    """Return blends of equally many sources and bands, padded to the most samples of any."""
    n, bands = len(requests), len(requests[0].stamp.image)
    size = max(_padded(request.stamp) for request in requests)
    data = np.zeros((n, bands, size), dtype=np.float32)
    weight, pixels = np.zeros_like(data), np.zeros((n, 2, size), dtype=np.float32)
    for row, request in enumerate(requests):
        stamp = request.stamp
        used = slice(len(stamp.starts))
        data[row, :, used] = stamp.means(stamp.image)
        weight[row, :, used] = stamp.weights
        pixels[row, :, used] = stamp.centers
    psfs = [_psf_of_each(request) for request in requests]
    psf_weight, psf_cov = (np.stack(each) for each in zip(*psfs, strict=True))

    def tensor(array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    return Scene(
        data=tensor(data),
        weight=tensor(weight),
        pixels=tensor(pixels),
        psf_weight=tensor(psf_weight),
        psf_cov=tensor(psf_cov),
        start=_stack([request.start for request in requests], device),
        compact=tensor(np.stack([request.compact for request in requests])),
        pixel_scale=requests[0].stamp.pixel_scale,
        priors=priors,
        hidden=tensor(np.stack([request.hidden for request in requests])),
    )


def _psf_of_each(request: FitRequest) -> tuple[Array, Array]:
    """Return the PSF's weights ``(k, b, c)`` and covariances ``(k, b, c, 3)`` at each source."""
    weight, cov = stack_places(request.stamp.psf)
    band = np.arange(len(weight))
    return weight[band, request.place.T], cov[band, request.place.T]


def _stack(arrays: Sequence[Array], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.float64)).to(device)


def _fits(
    requests: Sequence[FitRequest],
    scene: Scene,
    state: SceneState,
    converged: torch.Tensor,
    evaluations: torch.Tensor,
) -> Iterator[BlendFit]:
    shape_cov, flux_cov = (each.cpu().numpy() for each in covariances(state))
    response = shear_response(scene, state).cpu().numpy()
    rest = torch.where(converged[:, None, None], rest_of(state), 0.0).cpu().numpy()
    theta, flux = state.theta.cpu().numpy(), state.flux.cpu().numpy()
    prior = state.prior.cpu().numpy()
    for row, request in enumerate(requests):
        yield BlendFit(
            theta=theta[row],
            theta_cov=shape_cov[row],
            flux=flux[row],
            flux_cov=flux_cov[row],
            response=response[row],
            rest=rest[row],
            compact=request.compact,
            place=request.place,
            prior=prior[row],
            chi2=float(state.chi2[row]) + request.stamp.scatter,
            converged=bool(converged[row]),
            work=float(evaluations[row] * request.values),
        )


def render(stamp: Stamp, fit: BlendFit, device: torch.device) -> FloatArray:
    """Return the images ``(k, bands, y, x)`` of the sources of a fit."""
    shape = stamp.image.shape
    scene = make_scene([FitRequest(stamp, fit.xy, fit.compact)], BulgeDiskPriors(), device)
    y, x = np.indices(shape[1:], dtype=np.float32).reshape(2, -1)
    pixels = torch.from_numpy(np.stack([x, y])[None]).to(device)
    parts = []
    for first in range(0, len(fit.theta), RENDERED_TOGETHER):
        own = slice(first, first + RENDERED_TOGETHER)
        theta, flux = (_stack([each], device) for each in (fit.theta[own], fit.flux[:, own]))
        parts.append(scenes.render(scene, theta, flux, pixels, first)[0].cpu().numpy())
    return np.concatenate(parts).reshape(-1, *shape)
