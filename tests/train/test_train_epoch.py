"""Epochs on one device without Ray, and two processes that must equal one."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raydeblend.errors import ConfigError
from raydeblend.networks.weights import Card, save_weights
from raydeblend.simulate.shards import IsolatedConfig, make_shard, write_shard
from raydeblend.train.blends import IsolatedImages
from raydeblend.train.config import TrainConfig, get_config
from raydeblend.train.data import load_isolated
from raydeblend.train.epoch import (
    TrainState,
    load_peel,
    load_state,
    run_epoch,
    save_state,
    start_state,
    step_loss,
    train_step,
)
from raydeblend.train.peeling import PeelBatch, PeelStream
from raydeblend.train.steps import rdn_step
from raydeblend.train.validation import validate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("isolated") / "shard.npz")
    write_shard(path, make_shard(IsolatedConfig("LSST", group=32, size=48, faint=24.0), 0))
    return path


@pytest.fixture(scope="module")
def isolated(shard: str) -> IsolatedImages:
    return load_isolated([shard], ("g", "r", "i"))


def train_epochs(config: TrainConfig, isolated: IsolatedImages, seed: int = 0) -> TrainState:
    state = start_state(config, CPU)
    for epoch in range(config.epochs):
        loss = run_epoch(
            state.network, state, step_loss(config, isolated, 16, seed + epoch), config
        )
        state.history.append({"loss": float(loss)})
    return state


@pytest.mark.parametrize("network", ["rdn", "counter"])
def test_loss_goes_down(network: str, isolated: IsolatedImages) -> None:
    config = get_config(network, "tiny", epochs=3, learning_rate=None)
    losses = [scores["loss"] for scores in train_epochs(config, isolated).history]
    assert losses[-1] < losses[0]


def test_training_repeats_itself_exactly(isolated: IsolatedImages) -> None:
    config = get_config("rdn", "tiny", epochs=1, residual_fraction=0.4, steps=4)
    first, again = (train_epochs(config, isolated).history for _ in range(2))
    assert first == again
    assert train_epochs(config, isolated, seed=9).history != first


def test_a_resumed_run_equals_an_uninterrupted_one(
    isolated: IsolatedImages, tmp_path: Path
) -> None:
    config = get_config("rdn", "tiny", epochs=2, ema=0.9, steps=4)
    whole = train_epochs(config, isolated)
    half = train_epochs(dataclasses.replace(config, epochs=1), isolated)
    save_state(half, str(tmp_path / "state.pt"))

    resumed = start_state(config, CPU)
    load_state(resumed, str(tmp_path / "state.pt"))
    assert resumed.epoch == 1
    loss = run_epoch(resumed.network, resumed, step_loss(config, isolated, 16, 1), config)
    assert float(loss) == whole.history[1]["loss"]
    for a, b in zip(resumed.final.parameters(), whole.final.parameters(), strict=True):
        assert torch.equal(a, b)


def test_average_lags_behind_the_network(isolated: IsolatedImages) -> None:
    state = train_epochs(get_config("rdn", "tiny", epochs=1, ema=0.99, steps=3), isolated)
    assert state.final is state.average
    assert not torch.equal(state.average.output.weight, state.network.output.weight)
    assert train_epochs(get_config("rdn", "tiny", epochs=1, steps=1), isolated).average is None


def test_validation_scores(shard: str) -> None:
    held_out = load_isolated([shard], ("g", "r", "i"), validation=True)
    rdn = get_config("rdn", "tiny", validation=6)
    scores = validate(start_state(rdn, CPU).network, rdn, held_out)
    assert set(scores) == {"psnr_1", "psnr_2", "flux_error_1", "flux_error_2", "ssim_1"}

    # A counter that always answers 2 is right for the share of blends with two galaxies.
    counter = get_config("counter", "tiny", validation=400)
    scores = validate(AlwaysTwo(), counter, held_out)
    assert scores["accuracy"] == pytest.approx(0.25, abs=0.08)
    assert [scores[f"accuracy_{k}"] for k in range(4)] == [0, 0, 1, 0]
    assert scores["accuracy_noisy"] == pytest.approx(0.25, abs=0.1)

    # With one galaxy peeled, two are left of the blends of three: one in three of those peeled.
    def peel(batch: PeelBatch) -> PeelBatch:
        return batch.peel(batch.sources[:, 0], torch.zeros(len(batch.image), dtype=torch.long))

    scores = validate(AlwaysTwo(), counter, held_out, peel)
    assert scores["accuracy_peeled"] == pytest.approx(1 / 3, abs=0.1)


class AlwaysTwo(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.eye(4)[2].expand(len(x), 4)


def test_two_workers_equal_one_at_the_same_global_batch(
    isolated: IsolatedImages, tmp_path: Path
) -> None:
    config = get_config("rdn", "tiny", batch=8)
    batches = [PeelStream(isolated, config.recipe, seed).draw(8) for seed in range(4)]
    torch.save([vars(batch) for batch in batches], tmp_path / "batches.pt")
    torch.multiprocessing.spawn(follow_batches, (2, str(tmp_path)), nprocs=2)
    follow_batches(0, 1, str(tmp_path))
    alone = torch.load(tmp_path / "losses-1-0.pt")
    shared = sum(torch.load(tmp_path / f"losses-2-{rank}.pt") for rank in range(2)) / 2
    # bfloat16 rounds differently; without the shared gradients they differ by 3 %.
    assert torch.allclose(shared, alone, rtol=1e-3)


def follow_batches(rank: int, world: int, folder: str) -> None:
    """Train on this worker's part of each stored batch and store the losses."""
    torch.set_num_threads(1)
    config = get_config("rdn", "tiny", batch=8)
    state = start_state(config, CPU)
    network: nn.Module = state.network
    if world > 1:
        init = f"file://{folder}/rendezvous"
        torch.distributed.init_process_group("gloo", init, rank=rank, world_size=world)
        network = DistributedDataParallel(network)
    batches = iter([PeelBatch(**content) for content in torch.load(f"{folder}/batches.pt")])

    def loss(network: nn.Module) -> torch.Tensor:
        part = next(batches).select(torch.arange(rank, 8, world))
        return rdn_step(network, part, config.scaling, config.loss)[0]

    losses = [train_step(network, state, loss, config, step) for step in range(4)]
    torch.save(torch.stack(losses), f"{folder}/losses-{world}-{rank}.pt")
    if world > 1:
        torch.distributed.destroy_process_group()


def test_a_counter_learns_from_a_deblender(isolated: IsolatedImages, tmp_path: Path) -> None:
    rdn = get_config("rdn", "tiny")
    card = Card("rdn", dataclasses.asdict(rdn.model), rdn.bands, (0.2, 0.2), rdn.scaling)
    path = save_weights(str(tmp_path), "rdn", start_state(rdn, CPU).network, card)
    counter = get_config("counter", "tiny", epochs=1, residual_fraction=0.5, deblender=path)
    peel, state = load_peel(counter, CPU), start_state(counter, CPU)
    loss = run_epoch(state.network, state, step_loss(counter, isolated, 16, 0, peel), counter)
    without = start_state(counter, CPU)
    other = run_epoch(without.network, without, step_loss(counter, isolated, 16, 0), counter)
    assert torch.isfinite(loss)
    assert loss != other

    assert load_peel(get_config("counter", "tiny"), CPU) is None
    with pytest.raises(ConfigError, match="not an rdn of"):
        load_peel(dataclasses.replace(counter, bands=("g", "r")), CPU)
    with pytest.raises(ConfigError, match="no weights called 'nope'"):
        load_peel(dataclasses.replace(counter, deblender="nope"), CPU)
