import galsim
import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from raydeblend.fit import scene_fit as joint
from raydeblend.fit.priors import BulgeDiskPriors, log_prior
from raydeblend.fit.psf_wings import fit_wings
from raydeblend.fit.scene import (
    Scene,
    flux_scale,
    light_of,
    render,
    solve_fluxes,
    unit_images,
)
from raydeblend.fit.scene_fit import covariances, evaluate, fit_scene

SCALE = 0.2
SIZE = 48
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
COLORS = np.array([0.6, 1.0, 1.3])
PRIORS = BulgeDiskPriors()
BULGE = 0.1, 0.2


def draw(x, y, flux, radius=0.4, g1=0.0, g2=0.0):
    galaxy = galsim.Exponential(half_light_radius=radius, flux=flux).shear(g1=g1, g2=g2)
    galaxy = galsim.Convolve(galaxy, SEEING)
    middle = (SIZE - 1) / 2
    image = galaxy.drawImage(nx=SIZE, ny=SIZE, scale=SCALE, offset=(x - middle, y - middle))
    return COLORS[:, None, None] * image.array


def make_scene(images, starts, weight=None):
    """Blends ``(n, 3, y, x)`` and expected positions ``(n, K, 2)``, of noise 1."""
    n = len(images)
    mixture = fit_wings(SEEING.drawImage(nx=41, ny=41, scale=SCALE).array)
    c = mixture.covariances
    cov = torch.tensor(np.stack([c[:, 0, 0], c[:, 0, 1], c[:, 1, 1]], 1))
    y, x = np.indices((SIZE, SIZE), dtype=np.float32).reshape(2, -1)
    start = torch.tensor(np.asarray(starts, dtype=np.float64))
    data = torch.tensor(np.asarray(images, dtype=np.float32)).flatten(2)
    return Scene(
        data=data,
        weight=torch.ones_like(data) if weight is None else weight,
        pixels=torch.tensor(np.stack([x, y])).expand(n, 2, -1),
        psf_weight=torch.tensor(mixture.weights).expand(n, start.shape[1], 3, -1),
        psf_cov=cov.expand(n, start.shape[1], 3, -1, 3),
        start=start,
        compact=torch.zeros(start.shape[:2], dtype=torch.bool),
        pixel_scale=SCALE,
        priors=PRIORS,
    )


PAIR = (dict(x=22.2, y=23.6, flux=3000, g1=0.2), dict(x=28.9, y=26.1, flux=1200, radius=0.25))
STARTS = [[22, 24], [29, 26]]


@pytest.fixture(scope="module")
def pair():
    return draw(**PAIR[0]), draw(**PAIR[1])


def test_both_galaxies_of_a_noiseless_blend_come_back(pair):
    scene = make_scene([sum(pair)], [STARTS])
    state, converged, _ = fit_scene(scene)
    assert converged.all()
    models = render(scene, state.theta, state.flux, scene.pixels)[0].reshape(2, 3, SIZE, SIZE)
    for model, truth in zip(models.numpy(), pair, strict=True):
        assert np.abs(model - truth).max() < 0.02 * truth.max()
        np.testing.assert_allclose(model.sum((1, 2)), truth.sum((1, 2)), rtol=0.01)
    np.testing.assert_allclose(state.theta[0, :, :2], [[22.2, 23.6], [28.9, 26.1]], atol=0.05)


def test_the_gradient_is_that_of_the_objective(pair):
    scene = make_scene([sum(pair)], [STARTS])
    scene = scene.__class__(
        **{
            **vars(scene),
            "data": scene.data.double(),
            "weight": scene.weight.double(),
            "pixels": scene.pixels.double(),
        }
    )
    theta = PRIORS.usual(scene.start)
    theta[0, 0, 2:] += torch.tensor([0.1, -0.05, 0.2, 0.1, 0.02, 0.03, -0.1])
    scale = flux_scale(scene, theta)
    state = evaluate(scene, theta, scale)
    for index in range(18):
        step = torch.zeros(18, dtype=torch.float64)
        step[index] = 1e-4
        ahead, behind = (
            evaluate(scene, theta + sign * step.reshape(1, 2, 9), scale).objective
            for sign in (1, -1)
        )
        slope = float((ahead - behind) / 2e-4)
        assert float(state.gradient[0, index]) == pytest.approx(slope, rel=2e-3, abs=0.5)


def test_held_sources_have_their_light_but_do_not_move(pair):
    scene = make_scene([sum(pair)], [STARTS])
    theta = PRIORS.usual(scene.start)
    scale = flux_scale(scene, theta)
    whole = evaluate(scene, theta, scale)
    held = unit_images(light_of(scene, theta[:, 1:], scene.pixels), 1)
    part = evaluate(scene, theta, scale, held)
    torch.testing.assert_close(part.flux, whole.flux)
    torch.testing.assert_close(part.gradient, whole.gradient[:, :9], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(part.curvature, whole.curvature[:, :9, :9], rtol=1e-4, atol=1e-2)
    state, _, evaluations = joint._descend(scene, theta, scale, 3, held)
    torch.testing.assert_close(state.theta[:, 1], theta[:, 1])
    assert state.objective < whole.objective
    assert evaluations.tolist() == [4]


def test_fluxes_are_those_of_nonnegative_least_squares():
    rng = np.random.default_rng(2)
    maps = rng.uniform(size=(4, 60))
    data = np.array([3.0, -1.0, 2.0, 0.4]) @ maps
    scale = torch.tensor([[[2.0, 3.0]]], dtype=torch.float64)
    gram = torch.tensor(maps @ maps.T)[None, None]
    right = torch.tensor(maps @ data)[None, None]
    _, _, flux = solve_fluxes(gram, right, scale, *BULGE)
    # The prior on each bulge as one more row of data; the disks' bound moved to zero.
    rows = np.zeros((2, 4))
    for k in range(2):
        spread = BULGE[1] * float(scale[0, 0, k])
        rows[k, 2 * k : 2 * k + 2] = np.array([-0.1, 0.9]) / spread
    bound = np.zeros(4)
    bound[::2] = 0.01 * scale[0, 0].numpy()
    matrix = np.concatenate([maps.T, rows])
    truth, _ = nnls(matrix, np.concatenate([data, [0, 0]]) - matrix @ bound)
    np.testing.assert_allclose(flux[0, 0], truth + bound, atol=1e-3)


def test_a_source_held_without_light_has_the_error_of_any_other():
    """White noise and orthonormal maps, next to no prior: a flux that is free has an error of 1."""
    maps = np.eye(4, 60)
    data = np.array([30.0, 2.0, -3.0, -1.0]) @ maps
    gram = torch.tensor(maps @ maps.T)[None, None]
    right = torch.tensor(maps @ data)[None, None]
    scale = torch.ones(1, 1, 2, dtype=torch.float64)
    step, free, flux = solve_fluxes(gram, right, scale, BULGE[0], 1e6)
    assert flux[0, 0].tolist() == pytest.approx([30.0, 2.0, 0.01, 0.0], abs=1e-4)
    errors = torch.linalg.inv(free)[0, 0].diagonal().sqrt()
    assert errors.tolist() == pytest.approx([1.0, 1.0, 1.0, 0.0], abs=1e-3)
    assert torch.linalg.inv(step)[0, 0].diagonal()[2:].sqrt().tolist() == pytest.approx(
        [0.0, 0.0], abs=1e-3
    )


def test_the_error_of_a_galaxy_that_is_not_there_is_that_of_a_matched_filter(pair):
    """A flux that noise makes negative is held at its least; its error is not."""
    scene = make_scene([pair[0] - 0.02 * draw(38.0, 10.0, 3000)], [[STARTS[0], [38, 10]]])
    state, _, _ = fit_scene(scene)
    _, flux_cov = covariances(state)
    errors = flux_cov[0].diagonal(dim1=0, dim2=1).sqrt()  # (K, b)
    usual = np.exp(float(state.theta[0, 1, 4]))
    image = draw(38.0, 10.0, 1.0, radius=usual)[1] / COLORS[1]
    least = 1 / np.sqrt((image**2).sum())
    assert state.flux[0, :, 1].sum(-1).max() < least
    assert (errors[1] > 0.8 * least).all()
    assert (errors[1] < 3 * least).all()


def test_prior_derivatives_are_autograds():
    start = torch.zeros(1, 2, 2, dtype=torch.float64)
    compact = torch.tensor([[False, True]])
    theta = PRIORS.usual(start) + 0.1 * torch.arange(18, dtype=torch.float64).reshape(1, 2, 9)
    theta[..., 2:4] *= 0.2
    theta[..., 6:8] *= 0.2
    theta[0, 1, 5] += 1.5  # a bulge far larger than its disk
    theta.requires_grad_()
    penalty, gradient, curvature = log_prior(PRIORS, theta, start, compact)
    (truth,) = torch.autograd.grad(penalty.sum(), theta)
    torch.testing.assert_close(gradient, truth)
    assert torch.linalg.eigvalsh(curvature).min() > 0


def test_a_source_outside_the_domain_is_never_accepted():
    start = torch.zeros(1, 1, 2, dtype=torch.float64)
    theta = PRIORS.usual(start)
    theta[0, 0, 2] = 1.01
    penalty, *_ = log_prior(PRIORS, theta, start, torch.zeros(1, 1, dtype=torch.bool))
    assert penalty.isinf().all()


def test_errors_are_the_scatter_of_repeated_fits(pair):
    rng = np.random.default_rng(7)
    n = 60
    images = sum(pair) + rng.normal(size=(n, 3, SIZE, SIZE))
    state, *_ = fit_scene(make_scene(images, [STARTS] * n))
    shape_cov, flux_cov = covariances(state)
    fluxes = state.flux.sum(3).numpy()
    truth = np.array([image.sum((1, 2)) for image in pair]).T
    errors = flux_cov.diagonal(dim1=1, dim2=2).transpose(1, 2).sqrt().numpy()
    pulls = (fluxes - truth) / errors
    assert 0.8 < pulls.std() < 1.2
    assert abs(pulls.mean()) < 0.3
    # Of 60 fits a correlation is known to 0.12.
    for source in range(2):
        scatter = np.corrcoef(fluxes[:, :, source].T)
        told = (
            flux_cov[..., source] / flux_cov[..., source].diagonal(dim1=1, dim2=2)[:, None]
        ).numpy()
        for a, b in ((0, 1), (0, 2), (1, 2)):
            expected = np.sqrt(told[:, a, b] * told[:, b, a]).mean()
            assert scatter[a, b] == pytest.approx(expected, abs=0.35)
    position = state.theta[:, :, 0].numpy()
    expected = np.sqrt(shape_cov[:, :, 0, 0].numpy())
    assert 0.75 < (position.std(0) / expected.mean(0)).mean() < 1.25


def test_neighbors_part_is_in_the_errors():
    one = draw(24, 24, 2000)
    alone, *_ = fit_scene(make_scene([one], [[[24, 24]]]))
    blend, *_ = fit_scene(make_scene([one + draw(27, 24, 2000)], [[[24, 24], [27, 24]]]))
    assert covariances(blend)[1][0, 1, 1, 0] > 1.3**2 * covariances(alone)[1][0, 1, 1, 0]


def test_what_has_no_weight_has_no_part(pair):
    scene = make_scene([sum(pair)], [STARTS])
    weight = torch.ones_like(scene.data)
    weight[:, 2] = 0
    weight[:, :, :500] = 0
    data = scene.data.clone()
    data[weight == 0] = 1e6
    clean, *_ = fit_scene(make_scene([sum(pair)], [STARTS], weight))
    dirty, *_ = fit_scene(Scene(**{**vars(scene), "data": data, "weight": weight}))
    torch.testing.assert_close(clean.theta, dirty.theta)
    assert float(clean.flux[0, 2].sum()) < 1e-3


def test_blends_do_not_know_of_each_other(pair):
    rng = np.random.default_rng(0)
    images = sum(pair) + rng.normal(size=(3, 3, SIZE, SIZE))
    together, *_ = fit_scene(make_scene(images, [STARTS] * 3))
    alone, *_ = fit_scene(make_scene(images[1:2], [STARTS]))
    # Sums in another order differ in their last bits, which move the step at which a fit stops.
    sigma = covariances(alone)[0].diagonal(dim1=-2, dim2=-1).sqrt().reshape(alone.theta.shape)
    assert float(((together.theta[1:2] - alone.theta) / sigma).abs().max()) < 0.02


def test_two_sources_on_one_spot_do_no_harm():
    state, *_ = fit_scene(make_scene([draw(24, 24, 2000)], [[[24, 24], [24, 24]]]))
    assert state.theta.isfinite().all()
    assert state.flux.min() >= 0
    total = state.flux.sum((2, 3))[0].numpy()
    np.testing.assert_allclose(total, 2000 * COLORS, rtol=0.03)
