"""The super-resolution GAN's pairs, steps and scores, on one device without Ray."""

import dataclasses
from pathlib import Path

import galsim
import numpy as np
import pytest
import torch

from raydeblend.deblend.srgan.resolutions import both_found, low_peaks
from raydeblend.errors import ConfigError
from raydeblend.instruments import FACTOR, FINE_SCALE, hst_psf
from raydeblend.networks.srgan import Critic, CriticConfig, Srgan, pair_channels, source_target
from raydeblend.simulate.degrade import sky_sigma
from raydeblend.simulate.sharp import SharpGalaxies, draw_sharp
from raydeblend.survey import get_survey, psf_profile
from raydeblend.train.adversarial import discriminate, discriminator_loss
from raydeblend.train.epoch import run_epoch
from raydeblend.train.networks import get_config, get_training
from raydeblend.train.srgan import SrganRun, SrganTraining, source_loss
from raydeblend.train.srgan_data import PairRecipe, SharpPool, compose_pairs, make_pool
from raydeblend.train.state import TrainState, load_state, save_state

CPU = torch.device("cpu")
RECIPE = PairRecipe(seeing=(1.0, 1.0, 1))


@pytest.fixture(scope="module")
def pool() -> SharpPool:
    return make_pool(draw_sharp(48, ("F775W",), np.random.default_rng(3), faint=24.5), RECIPE)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_galaxy(flux: float) -> SharpGalaxies:
    galaxy = galsim.Convolve(
        galsim.Exponential(half_light_radius=0.25, flux=flux), hst_psf("F775W")
    )
    image = galaxy.drawImage(nx=72, ny=72, scale=FINE_SCALE).array
    return SharpGalaxies(image[None, None].astype(np.float16), np.array([1]), ("F775W",))


def test_the_low_image_is_what_galsim_draws_at_hscs_depth() -> None:
    recipe = dataclasses.replace(RECIPE, spread=0.0)
    pool = make_pool(one_galaxy(3e4), recipe)
    batch = compose_pairs(pool, 64, recipe, generator(), n_sources=1)
    galaxy = galsim.Exponential(half_light_radius=0.25, flux=3e4)
    seen = galsim.Convolve(galaxy, psf_profile(get_survey("HSC"), "i"))
    sigma = sky_sigma(get_survey("HSC"), "i", 0.18)
    truth = seen.drawImage(nx=22, ny=22, scale=0.18).array / sigma
    mean = batch.low[:, 0].mean(dim=0).numpy()
    # Noise of 64 images, photons of the galaxy included, and the kernel's one per cent.
    assert np.abs(mean - truth).max() < 0.01 * truth.max() + 5 * 2 / 8
    corner = batch.low[:, 0, :5, :5] - torch.from_numpy(truth[:5, :5])
    assert float(corner.std()) == pytest.approx(1.0, abs=0.06)
    # The high image has the same flux, over three times as many pixels.
    assert float(batch.high[0].sum()) == pytest.approx(truth.sum(), rel=0.03)


def test_positions_are_where_the_galaxies_are() -> None:
    recipe = dataclasses.replace(RECIPE, spread=5.0)
    pool = make_pool(one_galaxy(3e4), recipe)
    batch = compose_pairs(pool, 16, recipe, generator(4), n_sources=1)
    for image, xy in zip(batch.high[:, 0].numpy(), batch.xy[:, 0].numpy(), strict=True):
        y, x = np.indices(image.shape)
        inside = np.hypot(x - xy[0], y - xy[1]) < 15
        core = np.where(inside, image, 0)
        assert (core * x).sum() / core.sum() == pytest.approx(xy[0], abs=0.1)
        assert (core * y).sum() / core.sum() == pytest.approx(xy[1], abs=0.1)
        found = low_peaks(batch.low[0, 0].numpy())
        assert np.hypot(*(found[0] - batch.xy[0, 0].numpy())) < 1.0
    assert batch.xy[:, 1:].isnan().all()


def test_pairs_depend_on_the_seed_alone(pool: SharpPool) -> None:
    first, again, other = (compose_pairs(pool, 6, RECIPE, generator(s)) for s in (1, 1, 2))
    assert torch.equal(first.low, again.low)
    assert not torch.equal(first.low, other.low)
    assert first.high.shape[-1] == FACTOR * first.low.shape[-1]


def train_epochs(config: SrganRun, pool: SharpPool, state: TrainState | None = None) -> TrainState:
    training = get_training(config)
    state = state or training.start(CPU)
    for epoch in range(state.epoch, config.epochs):
        step = training.steps(state, state.networks, pool, config.batch, epoch)
        state.history.append(run_epoch(step, epoch * config.steps, config.steps))
    return state


def test_the_content_loss_falls(pool: SharpPool) -> None:
    config = get_config("srgan", "tiny", epochs=5, recipe=RECIPE)
    history = train_epochs(config, pool).history
    assert history[-1]["loss_content"] < 0.8 * history[0]["loss_content"]


def test_both_networks_learn_and_the_critic_is_left_alone(pool: SharpPool) -> None:
    config = get_config("srgan", "tiny", recipe=RECIPE)
    state = SrganTraining(config).start(CPU)
    before = {
        name: [p.detach().clone() for p in network.parameters()]
        for name, network in state.networks.items()
    }
    batch = compose_pairs(pool, 4, RECIPE, generator())
    SrganTraining(config).update(state, state.networks, batch, 0, generator())
    for name, network in state.networks.items():
        moved = [
            not torch.equal(a, b) for a, b in zip(before[name], network.parameters(), strict=True)
        ]
        assert all(moved), name
    assert all(p.requires_grad for p in state.networks["discriminator"].parameters())


def test_the_discriminator_learns_to_tell_pairs_apart() -> None:
    """A critic trained on sharp against blurred partners of the same low image separates them."""
    torch.manual_seed(0)
    critic = Critic(CriticConfig(features=8, layers=3, norm=False))
    optimizer = torch.optim.Adam(critic.parameters(), 2e-3)
    low = torch.rand(16, 1, 22, 22)
    real = torch.rand(16, 1, 66, 66)
    fake = torch.nn.functional.avg_pool2d(real, 5, 1, 2)
    for _ in range(40):
        logits = discriminate(critic, pair_channels(low, real), pair_channels(low, fake))
        loss = discriminator_loss(*logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * 2 * np.log(2)


def test_a_resumed_run_equals_an_uninterrupted_one(pool: SharpPool, tmp_path: Path) -> None:
    config = get_config("srgan", "tiny", epochs=2, steps=3, ema=0.9, recipe=RECIPE)
    whole = train_epochs(config, pool)
    half = train_epochs(dataclasses.replace(config, epochs=1), pool)
    save_state(half, str(tmp_path / "state.pt"))
    resumed = SrganTraining(config).start(CPU)
    load_state(resumed, str(tmp_path / "state.pt"))
    resumed = train_epochs(config, pool, resumed)
    assert resumed.history[1] == pytest.approx(whole.history[1])
    for name in ("generator", "discriminator"):
        pairs = zip(whole.final(name).parameters(), resumed.final(name).parameters(), strict=True)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_scores_and_picture(pool: SharpPool) -> None:
    config = get_config("srgan", "tiny", recipe=RECIPE)
    state = SrganTraining(config).start(CPU)
    scores = SrganTraining(config).validate(state, pool)
    assert 0 <= scores["resolved_low"] <= scores["resolved_high"] <= 1
    assert scores["diversity"] > 0
    assert {"brightness", "discriminator_real", "discriminator_fake", "false_peaks"} <= set(scores)
    assert SrganTraining(config).validate(state, pool) == scores
    picture = SrganTraining(config).picture(state, pool)
    assert picture.shape[0] == 3
    assert 0 <= picture.min() <= picture.max() <= 1


def test_both_galaxies_need_peaks_of_their_own() -> None:
    truth = np.array([[10.0, 10.0], [13.0, 10.0]])
    assert both_found(np.array([[13.5, 10.0], [9.5, 10.0]]), truth)
    assert not both_found(np.array([[11.5, 10.0]]), truth)
    assert not both_found(np.array([[11.5, 10.0], [40.0, 40.0]]), truth)


def test_seven_bands_and_files(tmp_path: Path) -> None:
    config = get_config("srgan-multiband", "tiny", n_galaxies=32)
    assert config.model.bands == config.critic.bands == 7
    paths = SrganTraining(config).prepare(str(tmp_path))
    assert SrganTraining(config).prepare(str(tmp_path)) == paths
    train = SrganTraining(config).load(paths, 0, 1, CPU)
    kept = SrganTraining(config).load_validation(paths, CPU)
    assert (len(train.images), len(kept.images)) == (28, 4)
    state = SrganTraining(config).start(CPU)
    step = SrganTraining(config).steps(state, state.networks, train, 2, 0)
    assert all(torch.isfinite(value) for value in step(0).values())


@pytest.mark.parametrize("preset", ["paper", "small", "tiny"])
def test_presets_are_valid(preset: str) -> None:
    for network, bands in (("srgan", 1), ("srgan-multiband", 7)):
        config = get_config(network, preset)
        assert config.model.bands == bands == len(config.bands)
        assert "content loss" in config.describe_data()


def test_unusable_settings_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown HST band"):
        get_config("srgan", "tiny", bands=("i",))
    with pytest.raises(ConfigError, match="unknown adversarial"):
        get_config("srgan", "tiny", adversarial="wasserstein")
    with pytest.raises(ConfigError, match="no usable HST galaxy"):
        SrganTraining(get_config("srgan", "tiny", data=str(tmp_path))).check("")


def test_a_perfect_map_of_sources_costs_nothing() -> None:
    xy = torch.tensor([[[10.0, 12.0], [16.0, 12.0], [float("nan")] * 2]])
    target = source_target(xy, (24, 24))
    assert float(source_loss(torch.logit(target, 1e-6), xy)) == pytest.approx(0, abs=1e-4)
    assert float(source_loss(torch.zeros(1, 1, 24, 24), xy)) > 0.3


def test_a_run_can_start_from_weights(tmp_path: Path) -> None:
    from raydeblend.networks.weights import Card, save_weights

    config = get_config("srgan", "tiny", recipe=RECIPE)
    earlier = Srgan(dataclasses.replace(config.model, sources=False))
    card = Card(
        "srgan", dataclasses.asdict(earlier.config), ("F775W",), (0.18, 0.18), config.scaling
    )
    path = save_weights(str(tmp_path), "srgan", earlier, card)
    state = SrganTraining(dataclasses.replace(config, srgan_weights=path)).start(CPU)
    first = state.networks["generator"].state_dict()
    assert torch.equal(first["head.0.weight"], earlier.state_dict()["head.0.weight"])
    other = get_config("srgan", "small", srgan_weights=path)
    with pytest.raises(ConfigError, match="not a network of this run's size"):
        SrganTraining(other).check("")


def test_seven_bands_can_start_from_one(tmp_path: Path) -> None:
    """At first the network of seven does to each band what that of one does to its own."""
    from raydeblend.networks.weights import Card, save_weights

    config = get_config("srgan-multiband", "tiny", recipe=RECIPE)
    earlier = Srgan(dataclasses.replace(config.model, bands=1, sources=False)).eval()
    card = Card(
        "srgan", dataclasses.asdict(earlier.config), ("F775W",), (0.18, 0.18), config.scaling
    )
    path = save_weights(str(tmp_path), "srgan", earlier, card)
    wider = SrganTraining(dataclasses.replace(config, srgan_weights=path)).start(CPU)
    image = torch.rand(1, 1, 12, 12)
    with torch.no_grad():
        seven = wider.networks["generator"].eval()(image.repeat(1, 7, 1, 1))
        assert torch.allclose(seven[:, :7], earlier(image).repeat(1, 7, 1, 1), atol=1e-5)
        blue = image.repeat(1, 7, 1, 1)
        blue[:, :2] = 0
        assert torch.allclose(wider.networks["generator"](blue)[:, 2], seven[:, 2], atol=1e-5)
