"""The compiled fit against the torch path, finite differences, GalSim, and bad input."""

import dataclasses

import galsim
import numpy as np
import pytest
import torch

from raydeblend.fit import scene as joint_model
from raydeblend.fit import scene_fit as joint
from raydeblend.fit import score_test as joint_score
from raydeblend.fit.compiled.blend import Blend, make_mixture, make_prior
from raydeblend.fit.compiled.gaussians import BLOCK
from raydeblend.fit.compiled.kernel import Fitted, fit_blend, render
from raydeblend.fit.compiled.samples import make_samples
from raydeblend.fit.compiled.score import score_gains
from raydeblend.fit.priors import BulgeDiskPriors
from raydeblend.fit.psf_wings import fit_wings
from raydeblend.fit.shear import rest_of, shear_response

SCALE, SIZE = 0.2, 40
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
MIXTURE = fit_wings(SEEING.drawImage(nx=41, ny=41, scale=SCALE).array)
COLORS = np.array([0.6, 1.0, 1.3])
PRIORS = BulgeDiskPriors()
PLACES = np.array([[15.2, 17.6], [21.9, 20.1], [26.3, 14.8]])


def draw(x: float, y: float, flux: float, radius: float = 0.4, g1: float = 0.0) -> np.ndarray:
    galaxy = galsim.Exponential(half_light_radius=radius, flux=flux).shear(g1=g1, g2=0.05)
    middle = (SIZE - 1) / 2
    image = galsim.Convolve(galaxy, SEEING).drawImage(
        nx=SIZE, ny=SIZE, scale=SCALE, offset=(x - middle, y - middle)
    )
    return COLORS[:, None, None] * image.array


def make_scene(image: np.ndarray, start: np.ndarray, bands: int = 3) -> joint_model.Scene:
    """A single blend as torch takes it, of noise 1."""
    c = MIXTURE.covariances
    cov = torch.tensor(np.stack([c[:, 0, 0], c[:, 0, 1], c[:, 1, 1]], 1))
    y, x = np.indices(image.shape[1:], dtype=np.float32).reshape(2, -1)
    data = torch.tensor(image[None, :bands].astype(np.float32)).flatten(2)
    k = len(start)
    return joint_model.Scene(
        data=data,
        weight=torch.ones_like(data),
        pixels=torch.tensor(np.stack([x, y])[None]),
        psf_weight=torch.tensor(MIXTURE.weights).expand(1, k, bands, -1),
        psf_cov=cov.expand(1, k, bands, -1, 3),
        start=torch.tensor(start[None], dtype=torch.float64),
        compact=torch.tensor([[False] * (k - 1) + [k > 2]]),
        pixel_scale=SCALE,
        priors=PRIORS,
    )


def compiled(scene: joint_model.Scene) -> Blend:
    """The same as the compiled fit takes it."""
    arrays = {
        f.name: getattr(scene, f.name)[0].numpy()
        for f in dataclasses.fields(scene)
        if isinstance(getattr(scene, f.name), torch.Tensor)
    }
    none = np.zeros((len(arrays["data"]), len(arrays["start"])), dtype=bool)
    return Blend(
        make_samples(arrays["data"], arrays["weight"], arrays["pixels"]),
        # Each source has a PSF of its own, be they alike.
        make_mixture(*(arrays[f"psf_{name}"].swapaxes(0, 1) for name in ("weight", "cov")), SCALE),
        make_prior(scene.priors),
        arrays["start"].copy(),
        np.tile(np.arange(len(arrays["start"])), (len(arrays["data"]), 1)),
        arrays["compact"].copy(),
        arrays.get("hidden", none).copy(),
    )


def cold(blend: Blend, goal: float = np.inf) -> Fitted:
    return fit_blend(blend, np.zeros((len(blend.start), 9)), False, goal)


def noisy(k: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    light = sum(
        draw(*(place + rng.uniform(-0.3, 0.3, 2)), flux, radius, g1)
        for place, flux, radius, g1 in zip(
            PLACES[:k], (2500, 900, 500), (0.5, 0.3, 0.2), (0.2, 0.0, -0.1), strict=False
        )
    )
    return light + rng.normal(size=(3, SIZE, SIZE))


def errors(flux_cov: np.ndarray) -> np.ndarray:
    """Return ``(b, K)`` from covariances ``(b, b, K)``."""
    return np.sqrt(np.diagonal(flux_cov, axis1=0, axis2=1).T)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_it_finds_what_the_torch_path_finds(k: int) -> None:
    for seed in range(4):
        scene = make_scene(noisy(k, seed), PLACES[:k])
        with torch.inference_mode():
            state, _, _ = joint.fit_scene(scene)
            theta_cov, flux_cov = joint.covariances(state)
        fitted = cold(compiled(scene))
        assert fitted.converged
        # Both stop where a step promises less than 0.01.
        assert fitted.objective < float(state.objective[0]) + 0.02
        flux = fitted.flux.reshape(3, k, 2).sum(2)
        error = errors(flux_cov[0].numpy())
        off = np.abs(flux - state.flux[0].sum(2).numpy()) / error
        assert np.median(off) < 0.02
        assert off.max() < 0.2
        np.testing.assert_allclose(errors(fitted.flux_cov), error, rtol=0.05)
        correlated, same = (
            cov / error[:, None] / error for cov in (fitted.flux_cov, flux_cov[0].numpy())
        )
        np.testing.assert_allclose(correlated, same, atol=0.1)
        sigma, other = (
            np.sqrt(np.diagonal(each, axis1=-2, axis2=-1))
            for each in (fitted.theta_cov, theta_cov[0].numpy())
        )
        np.testing.assert_allclose(sigma, other, rtol=0.2)


def test_each_source_has_the_psf_of_its_place() -> None:
    """One of two sources behind a wider PSF than the data: smaller, and the other as it was."""
    scene = make_scene(noisy(2, 2), PLACES[:2])
    wider = scene.psf_cov.clone()
    wider[:, 1] *= 1.15
    other = dataclasses.replace(scene, psf_cov=wider)
    with torch.inference_mode():
        state, _, _ = joint.fit_scene(other)
    usual, fitted = (cold(compiled(each)) for each in (scene, other))
    assert fitted.objective == pytest.approx(float(state.objective[0]), abs=0.02)
    flux, same = fitted.flux.reshape(3, 2, 2).sum(2), state.flux[0].sum(2).numpy()
    assert np.abs((flux - same) / errors(fitted.flux_cov)).max() < 0.2
    log_radius = fitted.theta[:, 4] - usual.theta[:, 4]
    assert log_radius[1] < -0.1
    assert abs(log_radius[0]) < 0.03


def test_responses_and_last_steps_are_those_of_the_torch_path() -> None:
    scene = make_scene(noisy(3, 1), PLACES)
    fitted = cold(compiled(scene))
    theta = torch.tensor(fitted.theta[None])
    with torch.inference_mode():
        state = joint.evaluate(scene, theta, joint_model.flux_scale(scene, theta))
        response, rest = shear_response(scene, state), rest_of(state)
    np.testing.assert_allclose(fitted.response, response[0].numpy(), atol=0.01)
    np.testing.assert_allclose(fitted.rest, rest[0].numpy(), atol=0.02)


def hiding(seed: int) -> joint_model.Scene:
    """Two sources, of which the first band shows only the second."""
    scene = make_scene(noisy(2, seed), PLACES[:2])
    scene.weight[0, 0, scene.pixels[0, 0] < 20] = 0
    return dataclasses.replace(scene, hidden=torch.tensor([[[True, False]] + [[False] * 2] * 2]))


def test_a_flux_that_a_band_hides_is_that_of_torch() -> None:
    for seed in range(3):
        scene = hiding(seed)
        with torch.inference_mode():
            state, _, _ = joint.fit_scene(scene)
            _, flux_cov = joint.covariances(state)
        fitted = cold(compiled(scene))
        assert fitted.objective < float(state.objective[0]) + 0.02
        flux = fitted.flux.reshape(3, 2, 2).sum(2)
        error = errors(flux_cov[0].numpy())
        off = np.abs(flux - state.flux[0].sum(2).numpy()) / error
        assert off.max() < 0.2
        np.testing.assert_allclose(errors(fitted.flux_cov), error, rtol=0.05)


def test_one_step_is_that_of_torch() -> None:
    """From a given start the first evaluation, and so what a fit is given up for, is the same."""
    scene = make_scene(noisy(2, 5), PLACES[:2])
    theta = PRIORS.usual(scene.start)
    state = joint.evaluate(scene, theta, joint_model.flux_scale(scene, theta))
    fitted = fit_blend(compiled(scene), theta[0].numpy().copy(), True, -np.inf)
    assert fitted.evaluations == 1 + joint.TRIAL_STEPS
    assert not fitted.converged
    assert fitted.objective < float(state.objective[0])


def test_the_minimum_is_one() -> None:
    """Of the torch path's objective in float64: no parameter moved by 0.3 sigma lowers it."""
    scene = make_scene(noisy(2, 1), PLACES[:2])
    fitted = cold(compiled(scene))
    exact = dataclasses.replace(
        scene,
        data=scene.data.double(),
        weight=scene.weight.double(),
        pixels=scene.pixels.double(),
    )
    theta = torch.tensor(fitted.theta[None])
    scale = joint_model.flux_scale(scene, theta)
    here = float(joint.evaluate(exact, theta, scale).objective[0])
    sigma = np.sqrt(np.diagonal(fitted.theta_cov, axis1=1, axis2=2))
    for k, i in np.ndindex(2, 9):
        for sign in (-0.3, 0.3):
            moved = theta.clone()
            moved[0, k, i] += sign * sigma[k, i]
            assert float(joint.evaluate(exact, moved, scale).objective[0]) > here - 0.02


def test_images_are_those_of_torch_and_galsim() -> None:
    theta = np.array([[15.2, 17.6, 0.2, 0.05, np.log(0.4), -1.6, 0.1, 0.0, 0.0]])
    scene = make_scene(noisy(1, 0), PLACES[:1])
    y, x = np.indices((SIZE, SIZE), dtype=np.float32).reshape(2, -1)
    flux = np.array([[[3000.0, 400.0]], [[100.0, 0.0]], [[0.0, 200.0]]])
    assert len(x) % BLOCK == 0
    blend = compiled(scene)
    images = render(blend.mixture, blend.place, theta, flux, x, y)
    other = joint_model.render(
        scene, torch.tensor(theta[None]), torch.tensor(flux[None]), scene.pixels
    )
    np.testing.assert_allclose(images, other[0].numpy(), atol=2e-6 * float(other.max()))
    disk = render(blend.mixture, blend.place, theta, flux * [1, 0], x, y).reshape(3, SIZE, SIZE)[0]
    truth = draw(15.2, 17.6, 3000, 0.4, 0.2)[1]
    assert np.abs(disk - truth).max() < 0.02 * truth.max()


def both_scores(scene: joint_model.Scene) -> tuple[np.ndarray, np.ndarray]:
    """What the compiled score test and that of torch say of 40 places."""
    with torch.inference_mode():
        state, _, _ = joint.fit_scene(scene)
        scale = joint_model.flux_scale(scene, state.theta)
        places = np.random.default_rng(0).uniform(10, 30, (40, 2))
        expected = joint_score.score_gains(
            scene, state.theta, scale, torch.tensor(places[None]), 1.8
        )[0].numpy()
    theta, scales = state.theta[0].numpy().copy(), scale[0].numpy().copy()
    return score_gains(compiled(scene), theta, scales, places, 1.8), expected


def test_the_score_is_that_of_torch() -> None:
    found, expected = both_scores(make_scene(noisy(3, 2), PLACES[:2]))
    assert expected.max() > 20
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.05)


def test_the_score_of_a_band_that_hides_is_that_of_torch() -> None:
    found, expected = both_scores(hiding(1))
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.05)


def test_equal_blends_get_equal_bytes() -> None:
    blends = [compiled(make_scene(noisy(2, seed), PLACES[:2])) for seed in (0, 1, 0)]
    first, _, again = (cold(blend) for blend in blends)
    for one, other in zip(first, again, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_one_compilation_serves_every_blend() -> None:
    """A second one would cost half a minute in every process."""
    cold(compiled(make_scene(noisy(1, 0)[:, :1, :1], PLACES[:1], bands=1)))
    cold(compiled(make_scene(noisy(3, 0), PLACES)))
    assert len(fit_blend.signatures) == len(score_gains.signatures or [1]) == 1


@pytest.mark.parametrize(
    ("what", "size", "bands"),
    [
        ("nan", SIZE, 3),
        ("no weight", SIZE, 3),
        ("one spot", SIZE, 3),
        ("pixel", 1, 3),
        ("band", SIZE, 1),
        ("large", 256, 1),
        ("nothing", 0, 1),
    ],
)
def test_bad_input_ends_in_numbers_or_no_convergence(what: str, size: int, bands: int) -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(3, size, size))
    image[:, : min(size, SIZE), : min(size, SIZE)] += noisy(2, 0)[:, :size, :size]
    start = PLACES[[0, 0]] if what == "one spot" else PLACES[:2]
    scene = make_scene(image, start, bands)
    if what == "nan":
        scene.data[0, 0, 5] = torch.nan
    if what == "no weight":
        scene.weight[:] = 0
    fitted = cold(compiled(scene))
    assert np.isfinite(fitted.theta).all()
    assert np.isfinite(fitted.objective) or what == "nan"
    assert (fitted.flux >= 0).all() or what == "nan"
    gains = score_gains(compiled(scene), fitted.theta, np.full((bands, 2), 10.0), PLACES, 2.0)
    assert np.isfinite(gains).all()


def test_shapes_outside_the_domain_are_not_accepted() -> None:
    scene = make_scene(noisy(1, 3), PLACES[:1])
    theta = PRIORS.usual(scene.start)[0].numpy().copy()
    theta[0, 2] = 1.01
    fitted = fit_blend(compiled(scene), theta, True, np.inf)
    assert np.isinf(fitted.objective) or abs(fitted.theta[0, 2]) < 1
