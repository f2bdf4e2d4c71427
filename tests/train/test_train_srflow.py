"""The training of the super-resolution flow, on one device without Ray."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raydeblend.errors import ConfigError
from raydeblend.networks.srflow import Condition, Sampling, Srflow
from raydeblend.networks.weights import shipped_path
from raydeblend.simulate.sharp import draw_sharp
from raydeblend.train.epoch import run_epoch
from raydeblend.train.networks import get_config
from raydeblend.train.srflow import FLOW, SrflowRun, SrflowTraining, matching_loss
from raydeblend.train.srflow_scores import calibrated, decibels
from raydeblend.train.srgan_data import PairRecipe, SharpPool, make_pool
from raydeblend.train.state import TrainState, load_state, save_state

CPU = torch.device("cpu")
RECIPE = PairRecipe(seeing=(1.0, 1.0, 1))


@pytest.fixture(scope="module")
def pool() -> SharpPool:
    return make_pool(draw_sharp(48, ("F775W",), np.random.default_rng(3), faint=24.5), RECIPE)


def train_epochs(config: SrflowRun, pool: SharpPool, state: TrainState | None = None) -> TrainState:
    training = SrflowTraining(config)
    state = state or training.start(CPU)
    for epoch in range(state.epoch, config.epochs):
        step = training.steps(state, state.networks, pool, config.batch, epoch)
        state.history.append(run_epoch(step, epoch * config.steps, config.steps))
    return state


def test_the_loss_falls(pool: SharpPool) -> None:
    history = train_epochs(get_config("srflow", "tiny", epochs=8, recipe=RECIPE), pool).history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


class Known(nn.Module):
    """The best velocity where all paths end at one image: (end - state) / (1 - t)."""

    def __init__(self, end: Tensor) -> None:
        super().__init__()
        self.end = end

    def forward(self, state: Tensor, time: Tensor, channels: Tensor) -> Tensor:
        return (self.end - state) / (1 - time[:, None, None, None])


def test_a_known_end_costs_nothing_and_no_knowledge_costs_both_variances() -> None:
    end = torch.full((64, 1, 6, 6), 0.7)
    condition = Condition(torch.zeros_like(end), torch.zeros(64, 1, 2, 2))

    def loss(network: nn.Module) -> float:
        random = torch.Generator().manual_seed(0)
        return float(matching_loss(network, condition, end, 2, random))

    assert loss(Known(0.7 * torch.ones(1))) == pytest.approx(0, abs=1e-6)
    # The velocity 0 misses all of x_1 - x_0, whose mean square is 0.7² + 1.
    assert loss(Still()) == pytest.approx(1.49, rel=0.05)


class Still(nn.Module):
    """The velocity 0."""

    def forward(self, state: Tensor, time: Tensor, channels: Tensor) -> Tensor:
        return torch.zeros_like(state)


def test_a_resumed_run_equals_an_uninterrupted_one(pool: SharpPool, tmp_path: Path) -> None:
    config = get_config(
        "srflow", "tiny", epochs=2, steps=3, ema=0.9, schedule="constant", recipe=RECIPE
    )
    whole = train_epochs(config, pool)
    half = train_epochs(dataclasses.replace(config, epochs=1), pool)
    save_state(half, str(tmp_path / "state.pt"))
    resumed = SrflowTraining(config).start(CPU)
    load_state(resumed, str(tmp_path / "state.pt"))
    resumed = train_epochs(config, pool, resumed)
    assert resumed.history[1] == pytest.approx(whole.history[1])
    pairs = zip(whole.final(FLOW).parameters(), resumed.final(FLOW).parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_the_generator_is_the_shipped_one_and_is_left_alone(pool: SharpPool) -> None:
    config = get_config("srflow", "small", recipe=RECIPE, batch=2)
    state = SrflowTraining(config).start(CPU)
    flow = state.networks[FLOW]
    assert isinstance(flow, Srflow)
    before = {name: v.clone() for name, v in flow.state_dict().items()}
    SrflowTraining(config).steps(state, state.networks, pool, 2, 0)(0)
    moved = {name for name, v in flow.state_dict().items() if not torch.equal(v, before[name])}
    assert moved
    assert not any(name.startswith("generator.") for name in moved)
    from safetensors.torch import load_file

    for name, values in load_file(shipped_path("srgan")).items():
        assert torch.equal(before[f"generator.{name}"], values)


def test_scores_and_picture(pool: SharpPool) -> None:
    config = get_config("srflow", "tiny", recipe=RECIPE)
    training = SrflowTraining(config)
    state = training.start(CPU)
    scores = training.validate(state, pool)
    assert 0 < scores["inside_68"] < scores["inside_95"] <= 1
    assert training.architecture(FLOW, scores)["inflation"] == scores["inflation"]
    # The mean of samples is nearer to the truth than one of them.
    assert scores["psnr"] > scores["psnr_sample"]
    assert training.validate(state, pool) == scores
    picture = training.picture(state, pool)
    assert picture.shape == (3, 8 * 66, 6 * 66)
    assert 0 <= picture.min() <= picture.max() <= 1


def test_inflation_is_how_much_too_alike_the_samples_are() -> None:
    random = torch.Generator().manual_seed(0)
    errors = 1.7 * torch.randn(100000, generator=random).abs()
    scores = calibrated(errors, 2.0, 1000)
    assert scores["inflation"] == pytest.approx(2 * 1.7, rel=0.01)
    assert scores["inside_68"] == pytest.approx(0.68, abs=0.01)
    assert scores["inside_95"] == pytest.approx(0.95, abs=0.01)


def test_decibels_of_a_known_difference() -> None:
    truth = torch.zeros(2, 1, 6, 6)
    images = torch.stack([torch.full((1, 6, 6), 0.1), torch.full((1, 6, 6), 0.01)])
    assert decibels(images, truth).tolist() == pytest.approx([20, 40], abs=1e-3)


@pytest.mark.parametrize("preset", ["paper", "small", "tiny"])
def test_presets_are_valid(preset: str) -> None:
    config = get_config("srflow", preset)
    assert config.model.bands == config.model.generator.bands == 1
    assert "the generator is" in config.describe_data()


def test_unusable_settings_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="draws must be at least 1"):
        get_config("srflow", "tiny", draws=0)
    with pytest.raises(ConfigError, match="not a network of this run's size"):
        SrflowTraining(get_config("srflow", "tiny", srgan_weights="srgan")).check("")
    with pytest.raises(ConfigError, match="no usable HST galaxy"):
        SrflowTraining(get_config("srflow", "tiny", data=str(tmp_path))).check("")
    assert get_config("srflow", "tiny").sampling == Sampling(4, 2)
