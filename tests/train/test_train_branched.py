"""Losses, streams and steps of the branched network, on one device without Ray."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

from raydeblend.errors import ConfigError
from raydeblend.networks.branched import Branched, Discriminator
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.vgg import load_features
from raydeblend.simulate.galaxy_zoo import compose_zoo
from raydeblend.train.adversarial import adversarial_loss, discriminator_loss
from raydeblend.train.blends import BlendRecipe, IsolatedImages
from raydeblend.train.branched import PRESETS, BranchedRun, BranchedTraining
from raydeblend.train.branched_data import (
    PairBatch,
    SurveyStream,
    ZooStream,
    survey_validation,
    zoo_pairs,
)
from raydeblend.train.branched_scores import pair_scores
from raydeblend.train.branched_steps import (
    BranchedLoss,
    discriminate,
    feature_loss,
    generator_loss,
    pixel_loss,
)
from raydeblend.train.epoch import run_epoch
from raydeblend.train.networks import get_config
from raydeblend.train.state import TrainState, load_state, save_state

CPU = torch.device("cpu")
RECIPE = BlendRecipe(stamp=32, max_shift=6, n_sources=(0, 0.2, 0.4, 0.3, 0.1), brighten=0.0)


@pytest.fixture(scope="module")
def isolated() -> IsolatedImages:
    rng = torch.Generator().manual_seed(0)
    axis = torch.arange(48) - 47 / 2
    width = 1.5 + 2 * torch.rand(40, 1, 1, generator=rng)
    peak = 10 ** (1 + torch.rand(40, 3, 1, 1, generator=rng))
    shape = torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * width**2))
    images = (peak * shape[:, None]).half()
    sky, width = torch.full((1, 3), 200.0), torch.full((1, 3), 1.5)
    return IsolatedImages(images, torch.tensor([0]), torch.tensor([40]), sky, width)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Round galaxies of different size, color and brightness on a dark sky."""
    rng = torch.Generator().manual_seed(1)
    axis = torch.arange(80) - 79 / 2
    width = 4 + 6 * torch.rand(16, 1, 1, 1, generator=rng)
    peak = 80 + 170 * torch.rand(16, 3, 1, 1, generator=rng)
    shape = torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * width**2))
    sky = 4 * torch.rand(16, 3, 80, 80, generator=rng)
    return (peak * shape + sky).clamp(0, 255).to(torch.uint8)


def pair(*values: float) -> Tensor:
    return torch.stack([torch.full((3, 8, 8), v) for v in values])[None]


def batch_of(galaxies: Tensor) -> PairBatch:
    return PairBatch(galaxies.amax(dim=1), galaxies, torch.ones(len(galaxies), 1, 1, 1))


def test_pixel_errors_are_in_the_papers_unit_and_averaged_over_the_branches() -> None:
    truth, model = pair(0.5, 0.2), pair(0.6, 0.4)
    # In [-1, 1] the distances are 0.2 and 0.4.
    value = pixel_loss(model, batch_of(truth), BranchedLoss())
    assert value.item() == pytest.approx((0.2**2 + 0.4**2) / 2)
    logarithm = pixel_loss(model, batch_of(truth), BranchedLoss("log_mse", floor=0.0))
    assert logarithm.item() == pytest.approx((math.log(0.2) + math.log(0.4)) / 2, rel=1e-4)


def test_ssim_is_that_of_the_protocol_on_models_clipped_at_zero(pictures: Tensor) -> None:
    batch = zoo_pairs(compose_zoo(pictures, 3, torch.Generator().manual_seed(0)))
    noise = torch.randn(batch.galaxies.shape, generator=torch.Generator().manual_seed(1))
    model = batch.galaxies + 0.02 * noise
    plain = pixel_loss(model, batch, BranchedLoss())
    both = pixel_loss(model, batch, BranchedLoss(ssim_weight=3.0))
    similar = [
        structural_similarity(t, m, data_range=1, channel_axis=0)
        for t, m in zip(
            batch.galaxies.flatten(0, 1).double().numpy(),
            model.clip(min=0).flatten(0, 1).double().numpy(),
            strict=True,
        )
    ]
    assert np.mean(similar) < 0.95
    assert (both - plain).item() == pytest.approx(3 * (1 - np.mean(similar)), abs=1e-4)


def test_below_black_is_no_error_where_models_are_clipped() -> None:
    truth, model = pair(0.0, 0.2), pair(-0.3, -0.1)
    clipped = BranchedLoss(clipped=True)
    # The second is light that is missing: twice 0.3, and its gradient is not lost.
    assert pixel_loss(model, batch_of(truth), clipped).item() == pytest.approx(0.6**2 / 2)
    brighter = pair(0.1, 0.2)
    assert pixel_loss(brighter, batch_of(truth), clipped).item() == pytest.approx(0.2**2 / 2)
    assert pixel_loss(model, batch_of(truth), BranchedLoss()).item() == pytest.approx(0.6**2)


def test_only_galaxies_of_like_flux_may_change_branches() -> None:
    loss = BranchedLoss(tie_ratio=0.8)
    like, unlike = pair(0.5, 0.45), pair(0.5, 0.35)
    assert pixel_loss(like.flip(1), batch_of(like), loss).item() == pytest.approx(0, abs=1e-9)
    assert pixel_loss(unlike.flip(1), batch_of(unlike), loss).item() == pytest.approx(0.3**2)


def test_a_missing_galaxy_has_no_flux_error() -> None:
    loss = BranchedLoss(flux_weight=1.0)
    truth = pair(0.5, 0.0)
    assert pixel_loss(pair(0.5, 0.0), batch_of(truth), loss).item() == pytest.approx(0)
    # 20 % too much in the first image; the second is dark and must not count.
    value = pixel_loss(pair(0.6, 0.0), batch_of(truth), loss).item()
    assert value == pytest.approx((0.2**2 + 0.2) / 2, rel=1e-4)


def test_adversarial_losses_are_those_of_equation_one() -> None:
    real, fake = torch.tensor([0.3, 2.0]), torch.tensor([-1.0, 0.5])
    d_real, d_fake = torch.sigmoid(real), torch.sigmoid(fake)
    eq1 = torch.log(d_real).mean() + torch.log(1 - d_fake).mean()
    torch.testing.assert_close(discriminator_loss(real, fake), -eq1)
    torch.testing.assert_close(adversarial_loss(fake, "minimax"), torch.log(1 - d_fake).mean())
    expected = -torch.log(d_fake).mean()
    torch.testing.assert_close(adversarial_loss(fake, "non_saturating"), expected)


def tiny_networks(run: BranchedRun) -> tuple[Branched, Discriminator]:
    torch.manual_seed(0)
    return Branched(run.model), Discriminator(run.discriminator)


def test_the_generator_follows_the_discriminator_but_does_not_move_it(pictures: Tensor) -> None:
    run = get_config("branched", "tiny")
    generator, discriminator = tiny_networks(run)
    batch = zoo_pairs(compose_zoo(pictures, 2, torch.Generator().manual_seed(0)))
    # Six channels: twice the image.
    model = generator(batch.channels)
    quiet = generator_loss(model, batch, replace(run.loss, adversarial_weight=0.0), discriminator,
                           None)["loss"]  # fmt: skip
    full = generator_loss(model, batch, run.loss, discriminator, None)["loss"]
    _, logits = discriminate(discriminator, batch.galaxies, model)
    expected = quiet + 1e-3 * adversarial_loss(logits, "minimax")
    torch.testing.assert_close(full, expected, rtol=1e-3, atol=1e-5)
    full.backward()
    assert all(p.grad is None for p in discriminator.parameters())
    assert all(p.requires_grad for p in discriminator.parameters())
    assert generator.first[1].weight.grad.abs().sum() > 0


def test_the_burn_in_lowers_the_distance_of_deep_features_alone(pictures: Tensor) -> None:
    features = load_features(None)
    batch = zoo_pairs(compose_zoo(pictures, 2, torch.Generator().manual_seed(0)))
    run = get_config("branched", "tiny")
    generator, discriminator = tiny_networks(run)
    losses = generator_loss(generator(batch.channels), batch, run.loss, discriminator, features)
    truth, model = batch.galaxies.flatten(0, 1), generator(batch.channels).flatten(0, 1)
    sigmas = torch.full((4, 1, 1, 1), 80.0)
    with torch.no_grad():
        expected = (features(truth, sigmas) - features(model.clamp(0, 1), sigmas)).square().mean()
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=0.05)
    assert feature_loss(batch.galaxies, batch, features).item() == 0


def test_black_images_are_no_minimum_of_the_burn_in(pictures: Tensor) -> None:
    batch = zoo_pairs(compose_zoo(pictures, 4, torch.Generator().manual_seed(0)))
    features = load_features(None)
    black = torch.zeros_like(batch.galaxies)
    assert feature_loss(0.7 * batch.galaxies, batch, features) < 0.5 * feature_loss(
        black, batch, features
    )


def test_survey_pairs_are_the_two_brightest_and_residuals_follow(isolated: IsolatedImages) -> None:
    scaling = Scaling("maximum")
    stream = SurveyStream(isolated, RECIPE, scaling, seed=5, residual_fraction=0.5)
    first = stream.draw(16)
    flux = first.galaxies.sum(dim=(2, 3, 4))
    assert (flux[:, 0] >= flux[:, 1]).all()
    stream.feed_back(first.galaxies)
    second = stream.draw(16)
    left = first.channels * first.sigmas - (first.galaxies * first.sigmas[:, None]).sum(dim=1)
    torch.testing.assert_close(
        second.channels[8:] * second.sigmas[8:], left[:8], atol=1e-3, rtol=1e-4
    )
    # What is left of a blend of four holds two, of one nothing.
    count = (second.galaxies[8:].amax(dim=(2, 3, 4)) > 0).sum(dim=1)
    again = SurveyStream(isolated, RECIPE, scaling, seed=5)
    torch.testing.assert_close(again.draw(16).channels, first.channels)
    assert set(count.tolist()) <= {0, 1, 2}
    assert 0 in count.tolist()
    assert count.max() > 0


def test_what_a_black_model_leaves_is_not_called_empty(isolated: IsolatedImages) -> None:
    pairs = replace(RECIPE, n_sources=(0, 0, 1, 0, 0))
    stream = SurveyStream(isolated, pairs, Scaling("maximum"), seed=5, residual_fraction=0.5)
    black = torch.zeros_like(stream.draw(16).galaxies)
    stream.feed_back(black)
    second = stream.draw(16)
    assert (second.galaxies.amax(dim=(2, 3, 4)) > 0).all()
    # Half of each galaxy is a quarter of its power, still too much; a tenth is not.
    stream.feed_back(0.5 * second.galaxies)
    third = stream.draw(16)
    assert (third.galaxies.amax(dim=(2, 3, 4)) > 0).all()
    stream.feed_back(0.9 * third.galaxies)
    empty = stream.draw(16).galaxies.amax(dim=(1, 2, 3, 4)) == 0
    assert empty.tolist() == [False] * 8 + [True] * 8


def mean_loss(run: BranchedRun, data: IsolatedImages, part: float, haze: float) -> float:
    """Loss of a network that returns `part` of each galaxy on a haze, from its second batch on."""
    stream = SurveyStream(data, run.recipe, run.scaling, 3, run.residual_fraction)
    values = []
    for _ in range(9):
        batch = stream.draw(32)
        model = part * batch.galaxies + haze
        values.append(pixel_loss(model, batch, run.loss).item())
        stream.feed_back(model)
    return float(np.mean(values[1:]))


def test_no_black_network_lowers_the_loss_that_is_shipped(isolated: IsolatedImages) -> None:
    # A run of `small` on survey images collapsed: black had the lower loss of the two.
    run = get_config("branched", "small", blends="survey")
    run = replace(run, recipe=replace(run.recipe, stamp=32, max_shift=6))
    assert mean_loss(run, isolated, 0.7, 3e-3) < mean_loss(run, isolated, 0.0, 0.0) - 0.5


def test_faint_galaxies_do_not_outweigh_bright_ones() -> None:
    # The gradients of a black model of either galaxy; the second branch of a run stayed black.
    loss = get_config("branched", "small", blends="survey").loss
    axis = torch.arange(64) - 63 / 2
    shape = torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 3.0**2)).expand(3, 64, 64)

    def pull(peak: float) -> float:
        model = torch.stack([shape, 1e-6 * shape])[None].requires_grad_(True)
        pixel_loss(model, batch_of(torch.stack([shape, peak * shape])[None]), loss).backward()
        assert model.grad is not None
        return float(model.grad[:, 1].norm())

    assert pull(0.03) < 8 * pull(0.7)
    assert pull(0.003) < 8 * pull(0.7)


def test_flux_errors_are_over_the_flux_of_both_galaxies() -> None:
    loss = BranchedLoss(flux_weight=1.0)
    # 0.1 and 0.2 too much, over 0.7.
    value = pixel_loss(pair(0.6, 0.4), batch_of(pair(0.5, 0.2)), loss).item()
    assert value == pytest.approx((0.2**2 + 0.4**2 + 0.1 / 0.7 + 0.2 / 0.7) / 2)


def test_health_and_scores_of_known_outputs(isolated: IsolatedImages) -> None:
    class Half(torch.nn.Module):
        """Half of the image in either branch."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x / 2, x / 2], dim=1)

    class Bright(torch.nn.Module):
        """Says real of what is brighter than the others on average."""

        def forward(self, x: Tensor) -> Tensor:
            return 100 * x.mean(dim=(1, 2, 3)) + 25

    galaxies = torch.rand(8, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = batch_of(galaxies.expand(-1, 2, -1, -1, -1))
    scores = pair_scores(Half(), Bright(), [batch])
    error = (galaxies / 2).square().mean(dim=(1, 2, 3, 4))
    assert scores["psnr_1"] == pytest.approx(-10 * torch.log10(error).mean().item(), abs=0.1)
    assert scores["flux_error_2"] == pytest.approx(0.5, abs=0.01)
    assert scores["brightness"] == pytest.approx(0.5, abs=0.01)
    assert scores["diversity"] == pytest.approx(0.5, abs=0.01)
    assert scores["discriminator_real"] > 0.95 > scores["discriminator_fake"]


def run_epochs(
    run: BranchedRun, data: object, state: TrainState | None = None, until: int | None = None
) -> TrainState:
    state = state or BranchedTraining(run).start(CPU)
    for epoch in range(state.epoch, until or run.epochs):
        step = BranchedTraining(run).steps(state, state.networks, data, run.batch, 100 + epoch)
        state.history.append(run_epoch(step, epoch * run.steps, run.steps))
    return state


def test_it_learns_from_survey_images(isolated: IsolatedImages) -> None:
    run = get_config("branched", "tiny", steps=20, epochs=2, learning_rate=4e-3)
    before = BranchedTraining(run).validate(BranchedTraining(run).start(CPU), isolated)
    state = run_epochs(run, isolated)
    after = BranchedTraining(run).validate(state, isolated)
    assert after["psnr_1"] > before["psnr_1"] + 3
    assert after["psnr_2"] > before["psnr_2"] + 1
    assert {"loss", "loss_pixel", "loss_discriminator"} <= set(state.history[0])
    assert BranchedTraining(run).picture(state, isolated).shape == (3, 6 * 32, 5 * 32)


def test_it_learns_from_pictures(pictures: Tensor) -> None:
    small = PRESETS["small"]
    model = replace(small.model, root=1, branch=1, features=16, fine=8)
    sizes = {"steps": 20, "epochs": 1, "batch": 6, "warmup": 0, "ema": 0.0, "validation": 16}
    run = replace(small, model=model, learning_rate=3e-3, **sizes).fitted()
    before = BranchedTraining(run).validate(BranchedTraining(run).start(CPU), pictures)
    after = BranchedTraining(run).validate(run_epochs(run, pictures), pictures)
    assert after["psnr_1"] > before["psnr_1"] + 2
    assert after["psnr_2"] > before["psnr_2"] + 2


def test_an_interrupted_run_ends_as_an_unbroken_one(
    isolated: IsolatedImages, tmp_path: Path
) -> None:
    run = get_config("branched", "tiny", steps=3, epochs=2, ema=0.9)
    whole = run_epochs(run, isolated)
    save_state(run_epochs(run, isolated, until=1), str(tmp_path / "state.pt"))
    resumed = BranchedTraining(run).start(CPU)
    load_state(resumed, str(tmp_path / "state.pt"))
    run_epochs(run, isolated, resumed)
    for name in ("generator", "discriminator"):
        for a, b in zip(whole.final(name).state_dict().values(),
                        resumed.final(name).state_dict().values(), strict=True):  # fmt: skip
            torch.testing.assert_close(a, b)


def test_a_zoo_stream_repeats_with_its_seed(pictures: Tensor) -> None:
    first, again = ZooStream(pictures, 3), ZooStream(pictures, 3)
    first.draw(4)
    again.draw(4)
    torch.testing.assert_close(first.draw(4).channels, again.draw(4).channels)


def test_validation_blends_hold_two_galaxies(isolated: IsolatedImages) -> None:
    batches = list(survey_validation(isolated, RECIPE, Scaling("maximum"), 70))
    assert [len(batch.channels) for batch in batches] == [64, 6]
    assert (batches[0].galaxies.amax(dim=(2, 3, 4)) > 0).all()


def test_presets_take_the_channels_of_their_data() -> None:
    zoo = get_config("branched", "paper")
    assert (zoo.model.in_channels, zoo.model.out_channels, zoo.model.head) == (3, 3, "tanh")
    assert (zoo.model.root, zoo.model.branch, zoo.batch, zoo.steps * zoo.epochs) == (
        10, 6, 16, 200_000,
    )  # fmt: skip
    assert (zoo.model.stretch, zoo.model.stem, zoo.model.refine) == (0, 0, 0)
    assert (zoo.loss.ssim_weight, zoo.loss.clipped, zoo.loss.pixel) == (0, False, "mse")
    small = get_config("branched", "small")
    assert min(small.model.stretch, small.model.stem, small.model.refine) > 0
    assert small.loss.ssim_weight > 0
    survey = get_config("branched", "small", blends="survey", bands=("g", "r", "i", "z"))
    assert (survey.model.in_channels, survey.model.out_channels) == (8, 4)
    assert survey.model.head == "linear"
    assert (survey.model.stretch, survey.model.stem, survey.model.refine) == (0, 0, 0)
    assert survey.loss.ssim_weight == 0
    assert survey.discriminator.in_channels == 4
    assert survey.pixel_scale()[0] > 0
    assert zoo.pixel_scale() == (0.0, 0.0)


def test_bad_configurations_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown blends 'sdss'"):
        get_config("branched", "tiny", blends="sdss")
    with pytest.raises(ConfigError, match="not survey"):
        get_config("branched", "tiny", data=str(tmp_path))
    with pytest.raises(ConfigError, match="multiple of the network's downscale, 2, not 33"):
        get_config("branched", "tiny", recipe=BlendRecipe(stamp=33))
    with pytest.raises(ConfigError, match="folder of Galaxy Zoo pictures"):
        BranchedTraining(get_config("branched", "small")).check(str(tmp_path))
    with pytest.raises(ConfigError, match=r"no \.jpg"):
        BranchedTraining(get_config("branched", "small", data=str(tmp_path))).check(str(tmp_path))
    Image.fromarray(np.zeros((50, 50, 3), dtype=np.uint8)).save(tmp_path / "100000.jpg")
    with pytest.raises(ConfigError):
        BranchedTraining(get_config("branched", "small", data=str(tmp_path))).check(str(tmp_path))
    missing = get_config("branched", "tiny", vgg19_weights=str(tmp_path / "vgg19.pth"))
    with pytest.raises(ConfigError, match="no file"):
        BranchedTraining(missing).check(str(tmp_path))
