"""Phase two against Eqs. 3 and 4 of Wang et al. 2022, on one device without Ray."""

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raydeblend.errors import ConfigError
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.weights import build_network
from raydeblend.train.blends import IsolatedImages
from raydeblend.train.epoch import run_epoch
from raydeblend.train.losses import DeblendLoss
from raydeblend.train.networks import get_config
from raydeblend.train.peeling import PeelBatch
from raydeblend.train.rdn_joint import RdnJointRun, RdnJointTraining
from raydeblend.train.state import TrainState, load_state, save_state

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def isolated() -> IsolatedImages:
    draw = torch.Generator().manual_seed(0)
    axis = torch.arange(96) - 95 / 2
    width = 1.5 + 2 * torch.rand(40, 1, 1, generator=draw)
    peak = 10 ** (1 + torch.rand(40, 3, 1, 1, generator=draw))
    shape = torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * width**2))
    images = (peak * shape[:, None]).half()
    sky, width = torch.full((1, 3), 200.0), torch.full((1, 3), 1.5)
    return IsolatedImages(images, torch.tensor([0]), torch.tensor([40]), sky, width)


def small_run(**overrides: object) -> RdnJointRun:
    return dataclasses.replace(get_config("rdn-joint", "tiny", steps=2, batch=4), **overrides)


def train_epochs(
    config: RdnJointRun, isolated: IsolatedImages, state: TrainState, until: int
) -> TrainState:
    for epoch in range(state.epoch, until):
        torch.manual_seed(epoch)
        step = RdnJointTraining(config).steps(state, state.networks, isolated, 4, epoch)
        state.history.append(run_epoch(step, epoch * config.steps, config.steps))
    return state


def test_batches_in_parts_train_the_same_networks(isolated: IsolatedImages) -> None:
    scores = []
    for parts in (0, 3):
        config = small_run(images_at_once=parts, learning_rate=1e-3, counter_rate=1e-3)
        training = RdnJointTraining(config)
        step = training.steps(state := training.start(CPU), state.networks, isolated, 4, 0)
        scores.append([step(number) for number in range(2)])
    for alone, parted in zip(*scores, strict=True):
        for name, value in alone.items():
            assert float(parted[name]) == pytest.approx(float(value), rel=0.02), name


def test_phase_two_is_trained_as_in_the_paper() -> None:
    config = get_config("rdn-joint")
    assert (config.learning_rate, config.counter_rate) == (1e-5, 1e-6)
    assert (config.trade_off, config.batch, config.epochs) == (1e-4, 8, 10)
    assert config.steps * config.batch == 50_000
    assert config.recipe.n_sources == (0, 0, 1, 0, 0)
    assert (config.loss.kind, config.scaling.kind, config.recipe.stamp) == ("l1", "maximum", 80)


def test_paper_size_is_that_of_phase_one() -> None:
    config = get_config("rdn-joint")
    with torch.device("meta"):
        for name, file, other in (("rdn", "rdn-joint", "rdn"), ("counter",) * 3):
            network = build_network(
                "rdn-joint-counter" if file == "counter" else file, config.architecture(name)
            )
            alone = build_network(other, dataclasses.asdict(get_config(other).model))
            counts = [sum(p.numel() for p in each.parameters()) for each in (network, alone)]
            assert counts[0] == counts[1]


class Half(nn.Module):
    """A deblender that keeps what is left of the middle, whatever the scaling."""

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        model = channels[:, :3].clone()
        model[..., 8:] = 0
        return model


class Peaks(nn.Module):
    """A counter whose logits are a fixed function of the image."""

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        mean = channels.mean(dim=(1, 2, 3))
        return torch.stack([mean, 2 * mean, -mean, mean**2], dim=1)


def pair() -> PeelBatch:
    """Two blends of two galaxies: the brighter on the left, the fainter on the right."""
    draw = torch.Generator().manual_seed(3)
    sources = torch.zeros(2, 4, 3, 16, 16)
    sources[:, 0, :, 5:9, 3:6] = 50 + 50 * torch.rand((2, 3, 4, 3), generator=draw)
    sources[:, 1, :, 5:9, 10:13] = 10 + 10 * torch.rand((2, 3, 4, 3), generator=draw)
    blend = sources.sum(dim=1)
    return PeelBatch(blend, sources, torch.tensor([2, 2]), blend[:, :0])


def test_losses_are_equations_3_and_4() -> None:
    plain = {"scaling": Scaling("maximum"), "counter_scaling": Scaling("maximum")}
    config = small_run(trade_off=0.7, loss=DeblendLoss("l1"), **plain)
    batch = pair()
    loss, deblend, peels = RdnJointTraining(config).deblender_loss(Half(), Peaks(), batch)

    # Written out once more.  The first peel is perfect; the second finds nothing on the left.
    truth, blend = batch.sources, batch.image
    first, second = truth[:, 0], torch.zeros_like(blend)
    residuals = [blend - first, blend - first]

    def ce(image: torch.Tensor, n: int) -> torch.Tensor:
        scaled = image / image.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1)
        return F.cross_entropy(Peaks()(scaled), torch.full((2,), n))

    # bfloat16 in the forward passes.
    assert deblend.item() == pytest.approx(0, abs=1e-3)
    expected = 0.7 * (ce(first, 1) + ce(second, 1)) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=0.01)
    torch.testing.assert_close(peels.residuals[0], residuals[0], atol=0.3, rtol=0.01)

    ones = sum(ce(image, 1) for image in (first, second, residuals[0], truth[:, 0], truth[:, 1]))
    expected = ce(blend, 2) + ce(residuals[1], 0) + 0.2 * ones
    assert RdnJointTraining(config).counter_loss(Peaks(), peels).item() == pytest.approx(
        expected.item(), rel=0.01
    )


def test_each_network_is_moved_by_its_own_loss_at_its_own_rate(isolated: IsolatedImages) -> None:
    config = small_run(steps=1)
    before, after = RdnJointTraining(config).start(CPU), RdnJointTraining(config).start(CPU)
    train_epochs(config, isolated, after, 1)
    for name, rate in (("rdn", 1e-5), ("counter", 1e-6)):
        pairs = zip(
            after.networks[name].parameters(), before.networks[name].parameters(), strict=True
        )
        moved = torch.cat([(a - b).detach().abs().flatten() for a, b in pairs])
        # Adam's first step is the learning rate, whatever the gradient; clipped ones too.
        assert moved[moved > 0].median().item() == pytest.approx(rate, rel=0.1), name
    # Batch statistics stay those of phase one.
    ours, theirs = (dict(s.networks["counter"].named_buffers()) for s in (after, before))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    scores = RdnJointTraining(config).validate(after, isolated)
    assert {"psnr_1", "psnr_2", "accuracy", "accuracy_peeled"} <= set(scores)
    assert RdnJointTraining(config).picture(after, isolated).shape == (3, 6 * 48, 4 * 48)


def test_a_resumed_run_of_two_optimizers_equals_an_unbroken_one(
    isolated: IsolatedImages, tmp_path: Path
) -> None:
    config = small_run(learning_rate=1e-3, counter_rate=1e-3)
    whole = train_epochs(config, isolated, RdnJointTraining(config).start(CPU), 2)
    half = train_epochs(config, isolated, RdnJointTraining(config).start(CPU), 1)
    save_state(half, str(tmp_path / "state.pt"))
    resumed = RdnJointTraining(config).start(CPU)
    load_state(resumed, str(tmp_path / "state.pt"))
    train_epochs(config, isolated, resumed, 2)
    assert resumed.history == whole.history
    for name in ("rdn", "counter"):
        ours, theirs = resumed.final(name).state_dict(), whole.final(name).state_dict()
        for key, value in ours.items():
            torch.testing.assert_close(value, theirs[key], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"preset": "paper"}, "--rdn-weights must name a trained rdn"),
        ({"preset": "paper", "rdn_weights": "rdn"}, "not a rdn of the preset paper"),
        ({"preset": "tiny", "counter_weights": "rdn"}, "not the counter of g, r, i"),
        ({"preset": "tiny", "rdn_weights": "nope"}, "no weights called 'nope'"),
        ({"preset": "tiny", "bands": ("g", "r")}, "not the rdn of g, r that is needed"),
    ],
)
def test_phase_one_must_fit(arguments: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        RdnJointTraining(get_config("rdn-joint", **arguments)).check(str(tmp_path))
