"""Epochs on one device without Ray, and two processes that must equal one."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from two_workers import on_two_workers

from raydeblend.errors import ConfigError
from raydeblend.networks.weights import Card, save_weights
from raydeblend.simulate.shards import IsolatedConfig, make_shard, write_shard
from raydeblend.train.blends import IsolatedImages
from raydeblend.train.config import RunConfig, config_hash
from raydeblend.train.counter import CounterData, CounterTraining
from raydeblend.train.data import load_isolated
from raydeblend.train.epoch import descend, run_epoch
from raydeblend.train.networks import get_config, get_training
from raydeblend.train.peeling import PeelBatch, PeelStream
from raydeblend.train.state import TrainState, load_state, save_state
from raydeblend.train.steps import rdn_step
from raydeblend.train.stopping import TrainingDiverged

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("isolated") / "shard.npz")
    write_shard(path, make_shard(IsolatedConfig("LSST", group=32, size=48, faint=24.0), 0))
    return path


@pytest.fixture(scope="module")
def isolated(shard: str) -> IsolatedImages:
    return load_isolated([shard], ("g", "r", "i"))


def data_of(config: RunConfig, isolated: IsolatedImages) -> object:
    return CounterData(isolated, None) if config.network == "counter" else isolated


def train_epochs(
    config: RunConfig, isolated: IsolatedImages, seed: int = 0, state: TrainState | None = None
) -> TrainState:
    training = get_training(config)
    state = training.start(CPU) if state is None else state
    for epoch in range(state.epoch, config.epochs):
        data = data_of(config, isolated)
        step = training.steps(state, state.networks, data, 16, seed + epoch)
        state.history.append(run_epoch(step, epoch * config.steps, config.steps))
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

    resumed = get_training(config).start(CPU)
    load_state(resumed, str(tmp_path / "state.pt"))
    assert resumed.epoch == 1
    train_epochs(config, isolated, state=resumed)
    assert resumed.history == whole.history
    for a, b in zip(parameters(resumed), parameters(whole), strict=True):
        assert torch.equal(a, b)


def parameters(state: TrainState) -> list[torch.Tensor]:
    return [p for name in state.networks for p in state.final(name).parameters()]


def test_checkpoints_of_other_networks_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(get_training(get_config("counter", "tiny")).start(CPU), str(path))
    state = get_training(get_config("rdn", "tiny")).start(CPU)
    with pytest.raises(ConfigError, match="checkpoint of other networks"):
        load_state(state, str(path))
    other = get_config("rdn", "tiny", bands=("g", "r"))
    save_state(get_training(other).start(CPU), str(path))
    with pytest.raises(ConfigError, match="not a checkpoint of this run"):
        load_state(state, str(path))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ConfigError, match="not a checkpoint of this run"):
        load_state(state, str(path))


def test_random_numbers_come_back_with_a_checkpoint(tmp_path: Path) -> None:
    state = get_training(get_config("rdn", "tiny")).start(CPU)
    save_state(state, str(tmp_path / "state.pt"))
    expected = torch.rand(4)
    load_state(state, str(tmp_path / "state.pt"))
    assert torch.equal(torch.rand(4), expected)


def test_a_loss_that_is_not_a_number_stops_the_epoch(isolated: IsolatedImages) -> None:
    broken = dataclasses.replace(isolated, sky_sigma=isolated.sky_sigma * 0)
    with pytest.raises(TrainingDiverged, match="loss is nan by step 1"):
        train_epochs(get_config("rdn", "tiny", steps=4), broken)


def test_average_lags_behind_the_network(isolated: IsolatedImages) -> None:
    state = train_epochs(get_config("rdn", "tiny", epochs=1, ema=0.99, steps=3), isolated)
    assert state.final("rdn") is state.averages["rdn"]
    assert not torch.equal(state.final("rdn").output.weight, state.networks["rdn"].output.weight)
    without = train_epochs(get_config("rdn", "tiny", epochs=1, steps=1), isolated)
    assert without.final("rdn") is without.networks["rdn"]


def test_validation_scores(shard: str) -> None:
    held_out = load_isolated([shard], ("g", "r", "i"), validation=True)
    rdn = get_config("rdn", "tiny", validation=6)
    scores = get_training(rdn).validate(get_training(rdn).start(CPU), held_out)
    assert set(scores) == {"psnr_1", "psnr_2", "flux_error_1", "flux_error_2", "ssim_1"}

    # A counter that always answers 2 is right for the share of blends with two galaxies.
    config = get_config("counter", "tiny", validation=400)
    scores = CounterTraining(config).scores(AlwaysTwo(), CounterData(held_out, None))
    assert scores["accuracy"] == pytest.approx(0.25, abs=0.08)
    assert [scores[f"accuracy_{k}"] for k in range(4)] == [0, 0, 1, 0]
    assert scores["accuracy_noisy"] == pytest.approx(0.25, abs=0.1)

    # With one galaxy peeled, two are left of the blends of three: one in three of those peeled.
    def peel(batch: PeelBatch) -> PeelBatch:
        return batch.peel(batch.sources[:, 0], torch.zeros(len(batch.image), dtype=torch.long))

    scores = CounterTraining(config).scores(AlwaysTwo(), CounterData(held_out, peel))
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
    on_two_workers(follow_batches, 2, str(tmp_path))
    follow_batches(0, 1, str(tmp_path))
    alone = torch.load(tmp_path / "losses-1-0.pt")
    shared = sum(torch.load(tmp_path / f"losses-2-{rank}.pt") for rank in range(2)) / 2
    # bfloat16 rounds differently; without the shared gradients they differ by 3 %.
    assert torch.allclose(shared, alone, rtol=1e-3)


def follow_batches(rank: int, world: int, folder: str) -> None:
    """Train on this worker's part of each stored batch and store the losses."""
    torch.set_num_threads(1)
    config = get_config("rdn", "tiny", batch=8)
    state = get_training(config).start(CPU)
    network = state.networks["rdn"]
    if world > 1:
        init = f"file://{folder}/rendezvous"
        torch.distributed.init_process_group(
            "gloo", init, rank=rank, world_size=world, timeout=timedelta(seconds=60)
        )
        network = DistributedDataParallel(network)
    batches = iter([PeelBatch(**content) for content in torch.load(f"{folder}/batches.pt")])

    losses = []
    for batch in batches:
        part = batch.select(torch.arange(rank, 8, world))
        loss = rdn_step(network, part, config.scaling, config.loss)[0]
        descend(state.optimizers["rdn"], loss, config.learning_rate, config.clip)
        losses.append(loss.detach())
    torch.save(torch.stack(losses), f"{folder}/losses-{world}-{rank}.pt")
    if world > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def test_batches_in_parts_train_the_same_deblender(isolated: IsolatedImages) -> None:
    weights = {}
    for parts in (0, 3, 1):
        config = get_config("rdn", "tiny", batch=8, residual_fraction=0.5, images_at_once=parts)
        training = get_training(config)
        state = training.start(CPU)
        before = _flat(state)
        # SGD, whose steps are as large as the gradients.
        state.optimizers["rdn"] = torch.optim.SGD(state.networks["rdn"].parameters())
        step = training.steps(state, state.networks, isolated, 8, 0)
        loss = torch.stack([step(number)["loss"] for number in range(2)])
        weights[parts] = torch.cat([(_flat(state) - before) / config.learning_rate, 10 * loss])
    change = weights[0].norm()
    # bfloat16 rounds differently; gradients of one part of three alone differ by more than half.
    assert (weights[3] - weights[0]).norm() < 0.03 * change
    assert (weights[1] - weights[0]).norm() < 0.03 * change


def _flat(state: TrainState) -> torch.Tensor:
    parameters = state.networks["rdn"].parameters()
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


def test_how_many_images_are_in_memory_does_not_name_a_run() -> None:
    runs = [get_config("rdn", "paper", images_at_once=count) for count in (0, 4)]
    assert config_hash(runs[0]) == config_hash(runs[1])
    with pytest.raises(ConfigError, match="images_at_once must be positive, or 0 for all, not -1"):
        get_config("rdn", "paper", images_at_once=-1)
    with pytest.raises(ConfigError, match="counter has no training option 'images_at_once'"):
        get_config("counter", "paper", images_at_once=4)


def test_a_counter_learns_from_a_deblender(isolated: IsolatedImages, tmp_path: Path) -> None:
    rdn = get_config("rdn", "tiny")
    card = Card("rdn", dataclasses.asdict(rdn.model), rdn.bands, (0.2, 0.2), rdn.scaling)
    network = get_training(rdn).start(CPU).networks["rdn"]
    path = save_weights(str(tmp_path), "rdn", network, card)
    config = get_config("counter", "tiny", residual_fraction=0.5, deblender=path)
    losses = []
    training = CounterTraining(config)
    for peel in (training.load_peel(CPU), None):
        state = training.start(CPU)
        step = training.steps(state, state.networks, CounterData(isolated, peel), 16, 0)
        losses.append(run_epoch(step, 0, 4)["loss"])
    assert losses[0] != losses[1]

    assert CounterTraining(get_config("counter", "tiny")).load_peel(CPU) is None
    with pytest.raises(ConfigError, match="not the rdn of g, r that is needed"):
        CounterTraining(dataclasses.replace(config, bands=("g", "r"))).load_peel(CPU)
    with pytest.raises(ConfigError, match="no weights called 'nope'"):
        CounterTraining(dataclasses.replace(config, deblender="nope")).load_peel(CPU)
