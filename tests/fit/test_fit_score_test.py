"""What one more source would gain, to first order."""

import galsim
import numpy as np
import pytest
import torch

from raydeblend.fit.priors import BulgeDiskPriors, log_prior
from raydeblend.fit.psf_wings import fit_wings
from raydeblend.fit.scene import Scene, flux_scale, render
from raydeblend.fit.scene_fit import fit_scene
from raydeblend.fit.score_test import score_gains

SCALE, SIZE, WIDTH = 0.2, 40, 1.8
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
COLORS = np.array([0.6, 1.0, 1.3])
MIDDLE = (SIZE - 1) / 2


def draw(x: float, y: float, flux: float, radius: float = 0.4) -> np.ndarray:
    galaxy = galsim.Convolve(galsim.Exponential(half_light_radius=radius, flux=flux), SEEING)
    image = galaxy.drawImage(nx=SIZE, ny=SIZE, scale=SCALE, offset=(x - MIDDLE, y - MIDDLE))
    return COLORS[:, None, None] * image.array


def make_scene(image: np.ndarray, starts: list[list[float]]) -> Scene:
    mixture = fit_wings(SEEING.drawImage(nx=41, ny=41, scale=SCALE).array)
    c = mixture.covariances
    cov = torch.tensor(np.stack([c[:, 0, 0], c[:, 0, 1], c[:, 1, 1]], 1))
    y, x = np.indices((SIZE, SIZE), dtype=np.float32).reshape(2, -1)
    start = torch.tensor([starts], dtype=torch.float64)
    data = torch.tensor(image[None].astype(np.float32)).flatten(2)
    return Scene(
        data=data,
        weight=torch.ones_like(data),
        pixels=torch.tensor(np.stack([x, y])[None]),
        psf_weight=torch.tensor(mixture.weights).expand(1, len(starts), 3, -1),
        psf_cov=cov.expand(1, len(starts), 3, -1, 3),
        start=start,
        compact=torch.zeros(start.shape[:2], dtype=torch.bool),
        pixel_scale=SCALE,
        priors=BulgeDiskPriors(),
    )


def gains(scene: Scene, theta: torch.Tensor, places: np.ndarray) -> np.ndarray:
    scale = flux_scale(scene, theta)
    return score_gains(scene, theta, scale, torch.tensor(places[None]), WIDTH)[0].numpy()


@pytest.fixture(scope="module")
def faint_beside_bright() -> tuple[Scene, torch.Tensor]:
    """A fit of one galaxy to the image of a bright and, 2.6 pixels away, a fainter one."""
    rng = np.random.default_rng(5)
    image = draw(20.0, 19.0, 4000) + draw(22.5, 19.7, 600, 0.2)
    scene = make_scene(image + rng.normal(size=image.shape), [[20.0, 19.0]])
    state, *_ = fit_scene(scene)
    return scene, state.theta


def fitted_rows(scene: Scene, theta: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return design matrix and residual of all that the fit may move, its priors as more rows.

    Derivatives by theta are numerical; fluxes that are held at zero do not move.
    """
    state, *_ = fit_scene(scene, theta)
    priors, scale = scene.priors, flux_scale(scene, theta)[0, :, 0].numpy()
    columns, offsets = [], []
    for i in range(9):
        step = torch.zeros(1, 1, 9, dtype=torch.float64)
        step[..., i] = 1e-3
        ahead, behind = (
            render(scene, theta + sign * step, state.flux, scene.pixels)[0, 0] for sign in (1, -1)
        )
        columns.append(((ahead - behind) / 2e-3).numpy().ravel())
    for b in range(3):
        for c in range(2):
            flux = torch.zeros_like(state.flux)
            flux[0, b, 0, c] = 1.0
            image = render(scene, theta, flux, scene.pixels)[0, 0].numpy().ravel()
            columns.append(image * (float(state.flux[0, b, 0, c]) > 0))
    model = render(scene, theta, state.flux, scene.pixels)[0, 0]
    residual = (scene.data[0] - model).numpy().ravel().astype(np.float64)
    _, pull, stiffness = log_prior(priors, theta, scene.start, scene.compact)
    root = np.linalg.cholesky(stiffness[0, 0].numpy()).T
    rows = np.zeros((9 + 3, 15))
    rows[:9, :9] = root
    offsets = [*np.linalg.solve(root.T, -pull[0, 0].numpy())]
    for b in range(3):
        bulge = np.array([-0.1, 0.9]) / (priors.bulge_scatter * scale[b])
        rows[9 + b, 9 + 2 * b : 11 + 2 * b] = bulge
        offsets.append(-bulge @ state.flux[0, b, 0].numpy())
    design = np.concatenate([np.array(columns, dtype=np.float64).T, rows])
    return design, np.concatenate([residual, offsets])


def test_it_is_what_linear_least_squares_gains(faint_beside_bright) -> None:
    """A second method: one design matrix of the fit and the new source, solved with numpy."""
    scene, theta = faint_beside_bright
    design, residual = fitted_rows(scene, theta)
    y, x = np.indices((SIZE, SIZE)).reshape(2, -1)
    places = np.array([[22.5, 19.7], [18.0, 21.0], [30.0, 30.0], *[[v, 8.0] for v in (8, 16, 24)]])
    expected = []
    for px, py in places:
        blob = np.exp(-0.5 * ((x - px) ** 2 + (y - py) ** 2) / WIDTH**2)
        new = np.concatenate([np.kron(np.eye(3), blob).T, np.zeros((12, 3))])
        both = np.concatenate([design, new], 1)
        solved = [np.linalg.lstsq(m, residual, rcond=1e-12)[0] for m in (design, both)]
        left = [
            ((residual - m @ s) ** 2).sum() for m, s in zip((design, both), solved, strict=True)
        ]
        expected.append(0.5 * (left[0] - left[1]) * (solved[1][-3:].sum() > 0))
    assert expected[0] > 10
    assert min(expected) == 0
    np.testing.assert_allclose(gains(scene, theta, places), expected, rtol=0.1, atol=0.2)


def test_it_points_at_the_galaxy_that_is_missing(faint_beside_bright) -> None:
    scene, theta = faint_beside_bright
    near = np.stack(np.meshgrid(np.arange(15, 26.0), np.arange(14, 25.0)), -1).reshape(-1, 2)
    found = gains(scene, theta, near)
    assert np.hypot(*(near[found.argmax()] - [22.5, 19.7])) < 1.5
    both = make_scene(scene.data[0].numpy().reshape(3, SIZE, SIZE), [[20.0, 19.0], [22.5, 19.7]])
    two, *_ = fit_scene(both)
    assert gains(both, two.theta, near).max() < 0.2 * found.max()


def test_a_band_without_pixels_counts_for_nothing(faint_beside_bright) -> None:
    scene, theta = faint_beside_bright
    weight = scene.weight.clone()
    weight[:, 1] = 0
    data = scene.data.clone()
    data[:, 1] = 1e5
    place = np.array([[22.5, 19.7]])
    one, other = (
        gains(Scene(**{**vars(scene), "weight": weight, "data": d}), theta, place)
        for d in (data, scene.data)
    )
    assert one == pytest.approx(other)
    assert 0 < one[0] < gains(scene, theta, place)[0]
