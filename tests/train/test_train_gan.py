"""The GAN's losses, steps, data and health, on one device without Ray."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from two_workers import on_two_workers

from raydeblend.errors import ConfigError
from raydeblend.networks.gan import GanConfig, sample
from raydeblend.networks.scaling import Scaling
from raydeblend.simulate.sky_stamps import SkyStamps
from raydeblend.train.adversarial import adversarial_loss, discriminate, discriminator_loss
from raydeblend.train.epoch import run_epoch
from raydeblend.train.gan import SCALING, GanRun, GanTraining
from raydeblend.train.gan_data import GalaxyImages
from raydeblend.train.gan_scores import COMPARED, likeness_scores
from raydeblend.train.health import discriminator_scores, mean_distance, variety_scores
from raydeblend.train.networks import get_config
from raydeblend.train.state import TrainState, best_epoch, keep_best, load_state, save_state
from raydeblend.train.stopping import TrainingCollapsed, check_health

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def galaxies() -> GalaxyImages:
    """Round Gaussians of all widths and brightnesses, in sky sigmas, without noise."""
    draw = torch.Generator().manual_seed(0)
    axis = torch.arange(64) - 63 / 2
    width = 2 + 4 * torch.rand(128, 1, 1, generator=draw)
    peak = 10 ** (1 + 2 * torch.rand(128, 1, 1, generator=draw))
    shape = peak * torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * width**2))
    return GalaxyImages(shape[:, None].half(), torch.ones(128, 1, 1, 1))


def middle(galaxies: GalaxyImages) -> GalaxyImages:
    return GalaxyImages(galaxies.images[:, :, 24:40, 24:40], galaxies.missing_noise)


def train_epochs(
    config: GanRun, galaxies: GalaxyImages, state: TrainState | None = None
) -> TrainState:
    state = GanTraining(config).start(CPU) if state is None else state
    for epoch in range(state.epoch, config.epochs):
        torch.manual_seed(epoch)
        step = GanTraining(config).steps(state, state.networks, galaxies, config.batch, epoch)
        state.history.append(run_epoch(step, epoch * config.steps, config.steps))
    return state


class Constant(nn.Module):
    """Gives the same logit for every image."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images),), self.logit)


def test_losses_are_those_of_goodfellow() -> None:
    p = 0.8
    logits = torch.full((4,), float(np.log(p / (1 - p))))
    discriminated = discriminator_loss(logits, logits)
    assert discriminated.item() == pytest.approx(-np.log(p) - np.log(1 - p), rel=1e-5)
    assert adversarial_loss(logits, "minimax").item() == pytest.approx(np.log(1 - p), rel=1e-5)
    other = adversarial_loss(logits, "non-saturating")
    assert other.item() == pytest.approx(-np.log(p), rel=1e-5)


@pytest.mark.parametrize("adversarial", ["minimax", "non-saturating"])
def test_each_step_moves_both_networks_and_only_by_their_own_losses(
    adversarial: str, galaxies: GalaxyImages
) -> None:
    config = get_config("gan", "tiny", adversarial=adversarial, steps=1, epochs=1)
    before = GanTraining(config).start(CPU)
    after = train_epochs(config, galaxies)
    for name, network in after.networks.items():
        pairs = zip(network.parameters(), before.networks[name].parameters(), strict=True)
        # Adam's first step moves every weight by the learning rate, whatever its gradient.
        moved = torch.cat([(a - b).detach().abs().flatten() for a, b in pairs])
        assert moved.median().item() == pytest.approx(2e-4, rel=0.05), name
    frozen = get_config("gan", "tiny", learning_rate=1e-30, steps=3, epochs=1)
    state = train_epochs(frozen, galaxies)
    for a, b in zip(
        state.networks["generator"].parameters(),
        GanTraining(frozen).start(CPU).networks["generator"].parameters(),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("sky", [False, True])
def test_samples_become_like_the_real_images(sky: bool, galaxies: GalaxyImages) -> None:
    galaxies = middle(galaxies)
    model = GanConfig(noise=16, size=16, features=8)
    config = get_config("gan", "tiny", model=model, epochs=1, steps=100, learning_rate=2e-3)
    config = dataclasses.replace(config, sky=sky)
    mean = GanTraining(config).scale(galaxies.images).mean(dim=0)

    def error(state: TrainState) -> float:
        samples = sample(state.final("generator"), 64, 0, CPU)
        return float((samples.mean(dim=0) - mean).square().mean() / mean.square().mean())

    before, after = error(GanTraining(config).start(CPU)), error(train_epochs(config, galaxies))
    assert after < 0.5 * before


def test_a_resumed_run_of_two_optimizers_equals_an_unbroken_one(
    galaxies: GalaxyImages, tmp_path: Path
) -> None:
    config = get_config("gan", "tiny", epochs=2, steps=3)
    config = dataclasses.replace(config, ema=0.9, schedule="cosine")
    whole = train_epochs(config, galaxies)
    half = GanTraining(config).start(CPU)
    step = GanTraining(config).steps(half, half.networks, galaxies, config.batch, 0)
    half.history.append(run_epoch(step, 0, config.steps))
    save_state(half, str(tmp_path / "state.pt"))

    resumed = GanTraining(config).start(CPU)
    load_state(resumed, str(tmp_path / "state.pt"))
    train_epochs(config, galaxies, resumed)
    assert resumed.history[1] == whole.history[1]
    for name in whole.networks:
        ours, theirs = resumed.final(name).state_dict(), whole.final(name).state_dict()
        for key, value in ours.items():
            torch.testing.assert_close(value, theirs[key], rtol=1e-5, atol=1e-7)
    memory = [s.optimizers["discriminator"].state_dict()["state"][0] for s in (resumed, whole)]
    torch.testing.assert_close(memory[0]["exp_avg_sq"], memory[1]["exp_avg_sq"])

    # Without the optimizers' memory the second epoch would be another one.
    forgetful = GanTraining(config).start(CPU)
    fresh = {name: optimizer.state_dict() for name, optimizer in forgetful.optimizers.items()}
    load_state(forgetful, str(tmp_path / "state.pt"))
    for name, optimizer in forgetful.optimizers.items():
        optimizer.load_state_dict(fresh[name])
    train_epochs(config, galaxies, forgetful)
    assert forgetful.history[1] != whole.history[1]


def test_the_network_of_the_best_epoch_is_exported(galaxies: GalaxyImages, tmp_path: Path) -> None:
    config = get_config("gan", "tiny", epochs=1, steps=2)
    state = GanTraining(config).start(CPU)
    weights = []
    for epoch, ks in enumerate((0.3, 0.1, 0.2)):
        step = GanTraining(config).steps(state, state.networks, galaxies, config.batch, epoch)
        state.history.append(run_epoch(step, 2 * epoch, config.steps) | {"ks": ks})
        keep_best(state, GanTraining.exported, GanTraining.best)
        weights.append(state.final("generator").layers[0].weight.detach().clone())
    assert best_epoch(state.history, "ks") == 1
    assert best_epoch(state.history, None) == 2
    assert best_epoch([{"ks": 1.0}, {"ks": 1.0}], "ks") == 1
    save_state(state, str(tmp_path / "state.pt"))
    resumed = GanTraining(config).start(CPU)
    load_state(resumed, str(tmp_path / "state.pt"))
    for each in (state, resumed):
        assert torch.equal(each.exported("generator").layers[0].weight, weights[1])
        assert torch.equal(each.final("generator").layers[0].weight, weights[2])


def test_two_workers_with_other_images_keep_the_same_networks(
    galaxies: GalaxyImages, tmp_path: Path
) -> None:
    torch.save(middle(galaxies).images, tmp_path / "images.pt")
    on_two_workers(train_as_worker, str(tmp_path))
    first, second = (torch.load(tmp_path / f"worker-{rank}.pt") for rank in range(2))
    start = GanTraining(worker_config()).start(CPU)
    for name, network in start.networks.items():
        for key, parameter in network.named_parameters():
            assert torch.equal(first[name][key], second[name][key]), (name, key)
            assert not torch.equal(first[name][key], parameter), (name, key)


def worker_config() -> GanRun:
    return get_config("gan", "tiny", model=GanConfig(noise=8, size=16, features=4), steps=3)


def train_as_worker(rank: int, folder: str) -> None:
    """Train on batches of this worker's own seed and store the networks."""
    torch.set_num_threads(1)
    config = worker_config()
    torch.distributed.init_process_group(
        "gloo",
        f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    state = GanTraining(config).start(CPU)
    networks = {
        name: DistributedDataParallel(network, broadcast_buffers=False)
        for name, network in state.networks.items()
    }
    images = torch.load(f"{folder}/images.pt")
    galaxies = GalaxyImages(images, torch.ones(len(images), 1, 1, 1))
    run_epoch(GanTraining(config).steps(state, networks, galaxies, 8, seed=rank), 0, config.steps)
    content = {name: network.state_dict() for name, network in state.networks.items()}
    torch.save(content, f"{folder}/worker-{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_health_of_copies_and_of_collapsed_samples() -> None:
    draw = torch.Generator().manual_seed(1)
    real = torch.rand((32, 1, 16, 16), generator=draw)
    other = torch.rand((32, 1, 16, 16), generator=draw)
    discriminated = discriminator_scores(Constant(0.0), real, other)
    assert discriminated == {"discriminator_real": 0.5, "discriminator_fake": 0.5}
    healthy = variety_scores(real, other)
    assert healthy["diversity"] == pytest.approx(1, abs=0.02)
    assert healthy["brightness"] == pytest.approx(1, abs=0.05)
    alike = variety_scores(real, other[:1].expand(32, -1, -1, -1))
    assert alike["diversity"] == pytest.approx(0, abs=1e-6)
    assert alike["brightness"] == pytest.approx(1, abs=0.2)
    assert variety_scores(real, 0.01 * other)["brightness"] < 0.02
    # Two independent uniform numbers differ by sqrt(1/6) rms.
    assert mean_distance(real).item() == pytest.approx(6**-0.5, rel=0.02)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"diversity": 0.01, "brightness": 1.0}, "epoch 4: the samples are all alike"),
        ({"diversity": 1.0, "brightness": 0.019}, "epoch 4: the samples are all black"),
        ({"diversity": float("nan"), "brightness": 1.0}, "all alike"),
    ],
)
def test_a_collapse_is_said_after_the_grace(scores: dict[str, float], said: str) -> None:
    check_health(scores, epoch=3, grace=3)
    with pytest.raises(TrainingCollapsed, match=said):
        check_health(scores, epoch=4, grace=3)


def test_other_scores_and_healthy_ones_stop_nothing() -> None:
    check_health({"loss": 1.0}, epoch=9, grace=0)
    check_health({"diversity": 0.02, "brightness": 0.02}, epoch=9, grace=0)


def test_tanh_scaling_is_undone() -> None:
    x = torch.tensor([-3.0, 0.0, 0.5, 30.0, 1400.0])
    channels, _ = SCALING.apply(x[None, None, None])
    assert channels.abs().max() <= 1
    np.testing.assert_allclose(channels.flatten(), np.arcsinh(x) / 8, rtol=1e-6)
    torch.testing.assert_close(SCALING.invert(channels).flatten(), x, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="lost"):
        Scaling("maximum").invert(channels)


def test_a_batch_shows_each_orientation_of_a_galaxy() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    galaxy = GalaxyImages(image, torch.zeros(1, 1, 1, 1))
    batch = galaxy.draw(400, torch.Generator().manual_seed(0))
    corners = batch[:, 0, 0, 0]
    np.testing.assert_allclose(
        [(corners == c).float().mean() for c in (0, 3, 12, 15)], 0.25, atol=0.08
    )
    # Of the eight orientations, four keep rows as rows.
    assert ((batch[:, 0, 0, 1] - corners).abs() == 1).float().mean() == pytest.approx(0.5, abs=0.1)


def test_every_image_is_under_a_sky_of_its_own() -> None:
    images = np.zeros((2, 1, 64, 64), dtype=np.float16)
    images[1] = np.random.default_rng(0).normal(0, 0.6, (64, 64))
    stamps = SkyStamps(images, np.array([0, 0.6], dtype=np.float32), np.arange(2))
    galaxies = GalaxyImages.of(stamps, CPU)
    draw = torch.Generator().manual_seed(0)
    first, second = galaxies.under_sky(draw), galaxies.under_sky(draw)
    for seen in (first, second):
        np.testing.assert_allclose(seen.std(dim=(1, 2, 3)), 1, atol=0.04)
    # The stamp's own noise stays, what is added does not.
    correlation = (first * second).mean(dim=(1, 2, 3))
    np.testing.assert_allclose(correlation, [0, 0.36], atol=0.05)


class Brightness(nn.Module):
    """Normalizes each batch, and gives the mean pixel of each image as its logit."""

    def __init__(self) -> None:
        super().__init__()
        self.normal = nn.BatchNorm2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logit: torch.Tensor = self.normal(images).mean(dim=(1, 2, 3))
        return logit


def test_images_that_are_all_too_bright_are_told_apart() -> None:
    dark = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    discriminator = Brightness()
    real, fake = discriminate(discriminator, 3 + dark, dark)
    # In one batch they are a standard deviation above and below the mean, in two they are alike.
    assert real.mean().item() == pytest.approx(1, abs=0.03)
    assert fake.mean().item() == pytest.approx(-1, abs=0.03)
    assert discriminator(dark).mean().item() == pytest.approx(0, abs=0.01)


def test_the_sky_is_added_to_samples_before_they_are_discriminated() -> None:
    config = dataclasses.replace(get_config("gan", "tiny"), sky=True)
    galaxy = torch.full((1, 1, 64, 64), 50.0)
    seen = GanTraining(config).observe(
        GanTraining(config).scale(galaxy), torch.Generator().manual_seed(0)
    )
    pixels = config.scaling.invert(seen)
    assert pixels.mean().item() == pytest.approx(50, abs=0.1)
    assert pixels.std().item() == pytest.approx(1, abs=0.04)
    paper = get_config("gan", "paper")
    assert GanTraining(paper).observe(seen, torch.Generator()) is seen


def test_likeness_compares_four_quantities(galaxies: GalaxyImages) -> None:
    draw = torch.Generator().manual_seed(0)
    seen = [galaxies.under_sky(draw) for _ in range(2)]
    alike = likeness_scores(*seen)
    assert alike["ks"] == pytest.approx(np.mean([alike[f"ks_{name}"] for name in COMPARED]))
    # The same galaxies under two skies differ less than two draws of 128 would.
    assert alike["ks"] < 0.1
    # The distance is the greatest between two cumulative distributions.
    flux = np.sort(galaxies.images.float().sum(dim=(1, 2, 3)).numpy())
    ranks = [np.searchsorted(flux * gain, flux * 10, side="right") for gain in (1, 10)]
    expected = np.abs(ranks[0] - ranks[1]).max() / len(flux)
    brighter = likeness_scores(seen[0], 10 * seen[0])
    assert brighter["ks_flux"] == pytest.approx(expected, abs=0.05)
    assert likeness_scores(seen[0], torch.zeros_like(seen[0]))["ks"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"bands": ("i",)}, "unknown HST band 'i'"),
        ({"adversarial": "wasserstein"}, "known: minimax, non-saturating"),
        ({"n_galaxies": 4}, "at least 16"),
        ({"faint": 18.0}, "beyond magnitude 19"),
        ({"discriminator_rate": -1.0}, "discriminator_rate must be positive"),
        ({"surveys": ("HSC",)}, "gan has no training option 'surveys'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        get_config("gan", "tiny", **arguments)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    config = get_config("gan", "tiny", data=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="there is no folder"):
        GanTraining(config).check(str(tmp_path))


def test_bands_become_channels() -> None:
    config = get_config("gan", "tiny", bands=("F606W", "F814W", "F160W"))
    state = GanTraining(config).start(CPU)
    assert sample(state.final("generator"), 2, 0, CPU).shape == (2, 3, 64, 64)
    held_out = GalaxyImages(torch.rand(5, 3, 64, 64), torch.ones(5, 1, 1, 1))
    picture = GanTraining(config).picture(state, held_out)
    assert picture.shape == (3, 8 * 64, 6 * 64)
