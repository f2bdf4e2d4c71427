"""The autoencoders' blends, loss, steps, presets and two stages, on one device without Ray."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raydeblend.errors import ConfigError
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.vae import Vae, VaeConfig
from raydeblend.networks.weights import Card, load_weights, save_weights
from raydeblend.simulate.shards import make_shard, write_shard
from raydeblend.train.blends import IsolatedImages
from raydeblend.train.epoch import run_epoch
from raydeblend.train.isolated import isolated_of
from raydeblend.train.networks import get_config, get_training
from raydeblend.train.state import TrainState
from raydeblend.train.vae import VaeRun, as_blend_run
from raydeblend.train.vae_blends import CenteredRecipe, compose_centered
from raydeblend.train.vae_steps import VaeLoss, vae_scores, vae_step

CPU = torch.device("cpu")
TINY = VaeConfig(1, 32, (8, 16), 6, 20, 2, (2.0, 5.0))
ALONE = (1.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def isolated() -> IsolatedImages:
    rng = torch.Generator().manual_seed(0)
    axis = torch.arange(48) - 47 / 2
    width = 1.5 + torch.rand(40, 1, 1, generator=rng)
    peak = 10 ** (1 + 1.5 * torch.rand(40, 1, 1, generator=rng))
    images = (peak * torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * width**2))).half()
    count = torch.tensor([40])
    sky, width = torch.full((1, 1), 1e4), torch.full((1, 1), 1.5)
    return IsolatedImages(images[:, None], torch.tensor([0]), count, sky, width)


def centroid(image: torch.Tensor) -> torch.Tensor:
    """Centroid (x, y) of ``(n, 1, y, x)``."""
    axis = torch.arange(image.shape[-1], dtype=torch.float32)
    total = image.sum(dim=(1, 2, 3))
    x = (image.sum(dim=(1, 2)) * axis).sum(dim=1) / total
    y = (image.sum(dim=(1, 3)) * axis).sum(dim=1) / total
    return torch.stack([x, y], dim=1)


def test_the_target_is_in_the_middle_and_the_neighbor_in_the_ring(
    isolated: IsolatedImages,
) -> None:
    recipe = CenteredRecipe(stamp=40, jitter=0, annulus=(8.0, 11.0))
    batch = compose_centered(isolated, 200, recipe, torch.Generator().manual_seed(1))
    middle = (40 - 1) / 2
    assert (centroid(batch.target) - middle).abs().max() < 0.05
    other = (batch.image - batch.target).clamp(min=0)
    smooth = torch.nn.functional.avg_pool2d(other, 5, stride=1, padding=2)
    place = smooth.flatten(1).argmax(dim=1)
    offset = torch.stack([place % 40, place // 40], dim=1) - middle
    distance = offset.norm(dim=1)
    # Faint galaxies' brightest pixel is where the noise has it.
    assert ((distance > 6.5) & (distance < 12.5)).float().mean() > 0.95
    assert (offset.mean(dim=0).abs() < 1.5).all()


def test_jitter_moves_the_target_by_whole_pixels(isolated: IsolatedImages) -> None:
    recipe = CenteredRecipe(stamp=40, jitter=2, n_neighbors=ALONE)
    batch = compose_centered(isolated, 300, recipe, torch.Generator().manual_seed(2))
    shift = centroid(batch.target) - 19.5
    np.testing.assert_allclose(shift, shift.round(), atol=0.02)
    assert sorted({int(s) for s in shift[:, 0].round()}) == [-2, -1, 0, 1, 2]


def test_noise_is_that_of_sky_and_galaxy_and_stamps_may_end(isolated: IsolatedImages) -> None:
    bright = replace(isolated, images=isolated.images * 0 + 300, sky_sigma=torch.full((1, 1), 10.0))
    whole = CenteredRecipe(stamp=32, n_neighbors=ALONE)
    batch = compose_centered(bright, 50, whole, torch.Generator().manual_seed(3))
    assert float((batch.image - batch.target).std()) == pytest.approx(
        (1 + 300 / 10) ** 0.5, rel=0.02
    )
    ended = compose_centered(
        bright, 50, replace(whole, cropped=1.0), torch.Generator().manual_seed(4)
    )
    assert (ended.image == 0).flatten(1).any(dim=1).float().mean() > 0.9
    assert (ended.target == 300).all()


def test_the_loss_is_least_at_the_truth() -> None:
    target = torch.zeros(1, 1, 8, 8)
    target[0, 0, 4, 4] = 100
    mean, log_sigma = torch.zeros(1, 3), torch.zeros(1, 3)

    def loss(scale: float, log_flux: float) -> float:
        moments = torch.tensor([[[log_flux], [0.1]]])
        return float(VaeLoss()((target * scale, mean, log_sigma, moments), target)[0])

    truth = float(np.log(100))
    best = loss(1.0, truth)
    # By hand: no pixel error, no divergence, ln of the flux's width, with its floor of 1 %.
    assert best == pytest.approx(10 * 0.5 * np.log(0.1**2 + 0.01**2), rel=1e-4)
    assert loss(1.1, truth) > best
    # One pixel wrong by 10 where its error is sqrt(1 + 10^2): half a squared sigma.
    expected = 100 * np.log1p(0.5 * 100 / 101 / 100)
    assert loss(1.1, truth) - best == pytest.approx(expected, rel=1e-3)
    assert loss(1.0, truth + 0.2) - best == pytest.approx(10 * 0.5 * 0.04 / 0.0101, rel=1e-3)


def test_both_stages_learn_and_the_decoder_stays(isolated: IsolatedImages) -> None:
    torch.manual_seed(0)
    net, scaling = Vae(TINY), Scaling("asinh")
    recipe = CenteredRecipe(stamp=32, jitter=1, annulus=(6.0, 12.0), n_neighbors=ALONE)
    blends = replace(recipe, n_neighbors=(0.2, 0.8, 0.0, 0.0))
    generator = torch.Generator().manual_seed(5)
    test = {r: [compose_centered(isolated, 128, r, generator)] for r in (recipe, blends)}

    def train(recipe: CenteredRecipe, steps: int) -> dict[str, float]:
        learning = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(learning, lr=5e-3)
        for _ in range(steps):
            batch = compose_centered(isolated, 32, recipe, generator)
            noise = torch.randn(32, 6, generator=generator)
            loss, _ = vae_step(net, batch, scaling, VaeLoss(), noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return vae_scores(net, test[recipe], scaling, 6)

    first = train(recipe, 150)
    assert first["flux_nmad"] < 0.25
    assert 0.2 < first["flux_pull"] < 5
    before = vae_scores(net, test[blends], scaling, 6)
    net.decoder.requires_grad_(False)
    decoder = {k: v.clone() for k, v in net.decoder.state_dict().items()}
    after = train(blends, 150)
    assert after["flux_std"] < 0.7 * before["flux_std"]
    for name, value in net.decoder.state_dict().items():
        torch.testing.assert_close(value, decoder[name], rtol=0, atol=0)


@pytest.mark.parametrize("network", ["vae", "vae-deblend"])
@pytest.mark.parametrize("preset", ["paper", "small", "tiny"])
def test_presets_are_usable(network: str, preset: str) -> None:
    config = get_config(network, preset)
    # The smallest stage two starts from the first stage that is shipped, of survey images.
    euclid = (network, preset) != ("vae-deblend", "tiny")
    assert config.bands == (("IE",) if euclid else ("g", "r", "i"))
    assert (config.pixel_scale() == (0.1, 0.1)) == euclid
    assert config.model.bands == len(config.bands)
    assert config.recipe.stamp == config.model.stamp


def test_survey_images_bring_their_bands() -> None:
    config = get_config("vae", "small", images="survey")
    assert config.bands == ("g", "r", "i")
    assert config.model.bands == 3
    assert config.pixel_scale() == pytest.approx((0.168, 0.2), abs=0.01)
    assert config.faint == 25.3


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"images": "radio"}, "images"),
        ({"images": "survey", "surveys": ("Nowhere",)}, "Nowhere"),
        ({"recipe": CenteredRecipe(annulus=(9.0, 3.0))}, "annulus"),
        ({"model": replace(TINY, stamp=36)}, "multiple"),
        ({"n_galaxies": 3}, "n_galaxies"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        get_config("vae", "tiny", **change)


def test_stage_two_asks_for_stage_one(tmp_path: Path) -> None:
    config = get_config("vae-deblend", "paper")
    with pytest.raises(ConfigError, match="stage one"):
        get_training(config).check(str(tmp_path))


def test_stage_two_refuses_other_weights(tmp_path: Path) -> None:
    path = export(Vae(replace(TINY, bands=3)), ("g", "r", "i"), tmp_path)
    config = get_config("vae-deblend", "tiny", images="euclid", vae_weights=path)
    with pytest.raises(ConfigError, match="not the vae of IE"):
        get_training(config).check(str(tmp_path))


def export(net: Vae, bands: tuple[str, ...], folder: Path) -> str:
    card = Card("vae", vars(net.config), bands, (0.1, 0.1), Scaling("asinh"))
    return save_weights(str(folder), "vae", net, card)


def render(config: VaeRun, root: Path) -> tuple[str, ...]:
    """Prepare the images; those of a survey without the Ray that `prepare` would use."""
    if config.images == "euclid":
        return get_training(config).prepare(str(root))
    images = isolated_of(as_blend_run(config), str(root))
    paths = tuple(f"{root}/shard-{k}.npz" for k in range(len(images)))
    for path, settings in zip(paths, images.values(), strict=True):
        write_shard(path, make_shard(settings, 0))
    return paths


def train(config: VaeRun, root: Path) -> TrainState:
    training = get_training(config)
    training.check(str(root))
    paths = render(config, root)
    data = training.load(paths, 0, 1, CPU)
    held_out = training.load_validation(paths, CPU)
    state = training.start(CPU)
    for epoch in range(config.epochs):
        step = training.steps(state, state.networks, data, config.batch, epoch)
        scores = run_epoch(step, epoch * config.steps, config.steps)
        state.history.append(scores | training.validate(state, held_out))
    picture = training.picture(state, held_out)
    assert picture.shape[0] == 3
    assert float(picture.min()) >= 0
    assert float(picture.max()) <= 1
    return state


@pytest.mark.parametrize("images", ["euclid", "survey"])
def test_both_stages_train_from_files(images: str, tmp_path: Path) -> None:
    own = {"images": images, "steps": 4, "epochs": 2, "n_galaxies": 64, "group": 32, "ema": 0.9}
    own["surveys"] = ("HSC",)
    one = get_config("vae", "tiny", **own)
    first = train(one, tmp_path)
    assert {"loss", "flux_nmad", "flux_pull"} <= set(first.history[-1])
    net = first.final("vae")
    assert isinstance(net, Vae)
    path = export(net, one.bands, tmp_path)
    two = get_config("vae-deblend", "tiny", vae_weights=path, warm_start=True, **own)
    assert two.model == one.model
    second = train(two, tmp_path).networks["vae-deblend"]
    loaded, _ = load_weights(path)
    decoder = second.get_submodule("decoder").state_dict()
    for name, value in loaded.get_submodule("decoder").state_dict().items():
        torch.testing.assert_close(decoder[name], value, rtol=0, atol=0)


def test_stage_two_goes_on_from_its_own_weights(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = Vae(TINY)
    card = Card("vae-deblend", vars(TINY), ("IE",), (0.1, 0.1), Scaling("asinh"))
    path = save_weights(str(tmp_path), "vae-deblend", net, card)
    config = get_config("vae-deblend", "small", vae_weights=path)
    get_training(config).check(str(tmp_path / "run"))
    started = get_training(config).start(CPU).networks["vae-deblend"]
    for name, value in started.state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[name], rtol=0, atol=0)
    learning = {name for name, p in started.named_parameters() if p.requires_grad}
    assert learning == {f"encoder.{name}" for name, _ in net.encoder.named_parameters()}


def test_the_second_pass_is_scored_where_it_is_trained(tmp_path: Path) -> None:
    own = {"n_galaxies": 64, "group": 32, "steps": 1, "epochs": 1, "images": "euclid"}
    path = export(Vae(TINY), ("IE",), tmp_path)
    config = get_config("vae-deblend", "tiny", vae_weights=path, **own)
    trained = replace(config, recipe=replace(config.recipe, taken_off=0.5))
    names = [set(train(run, tmp_path / "shards").history[-1]) for run in (config, trained)]
    assert names[1] - names[0] == {
        f"second_flux_{name}" for name in ("bias", "nmad", "std", "pull")
    }
