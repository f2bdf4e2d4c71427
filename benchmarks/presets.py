"""What the papers' own sizes cost to train: ``python -m benchmarks.presets [NETWORK ...]``.

Does a few steps of each preset ``paper`` at its batch, each network in a process of its own, and
prints the largest resident memory and the time of a step.  Only the galaxies are fewer than the
paper's, and of random weights the networks that go on from others.  No step begins after
``--cpu-seconds`` of a network: on a busy machine some have fewer steps.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from benchmarks.circumstances import circumstances
from raydeblend.evaluate.common.tables import markdown
from raydeblend.networks.weights import Card, save_weights
from raydeblend.simulate.shards import make_shard, write_shard
from raydeblend.train.config import RunConfig
from raydeblend.train.epoch import training_mode
from raydeblend.train.isolated import BlendRun, isolated_of
from raydeblend.train.loop import count_parameters
from raydeblend.train.networks import NETWORKS, get_config, get_training

N_GALAXIES, GROUP = 64, 32
FIRST = {
    "rdn-joint": {"rdn_weights": "rdn", "counter_weights": "counter"},
    "vae-deblend": {"vae_weights": "vae"},
}
"""Which networks a network goes on from, by the option that names their weights."""
HEADER = ["network", "parameters", "batch", "at once", "steps", "GiB", "CPU s / step", "s / step"]


@dataclass(frozen=True)
class Cost:
    """What the steps of one preset took.

    Attributes
    ----------
    losses
        Of each step done.
    memory
        Largest resident memory of the process, GiB.
    cpu_seconds, seconds
        Of all threads, and by the clock, for one step.
    """

    losses: tuple[float, ...]
    memory: float
    cpu_seconds: float
    seconds: float


def paper_config(
    network: str, root: str, zoo: str | None = None, batch: int | None = None
) -> RunConfig:
    """Return the preset with few galaxies; weights to go on from are written into `root`."""
    names = {field.name for field in fields(NETWORKS[network].presets["paper"])}
    few: dict[str, Any] = {"n_galaxies": N_GALAXIES, "group": GROUP}
    options = {name: value for name, value in few.items() if name in names}
    if network == "branched":
        options |= {"blends": "survey"} if zoo is None else {"data": zoo}
    first = FIRST.get(network, {})
    options |= {option: random_weights(root, earlier) for option, earlier in first.items()}
    config: RunConfig = get_config(network, "paper", batch=batch, **options)
    return config


def random_weights(root: str, network: str) -> str:
    """Write random weights of the preset's size into `root`; return their path."""
    config = get_config(network, "paper")
    training = get_training(config)
    name = training.exported[0]
    card = Card(
        network, config.architecture(name), config.bands, config.pixel_scale(), config.scaling
    )
    return save_weights(root, network, training.build()[name], card)


def few_galaxies(config: RunConfig, root: str) -> tuple[str, ...]:
    """Make the training data in `root` without Ray, which then finds nothing left to do."""
    if isinstance(config, BlendRun) and getattr(config, "data", None) is None:
        for folder, isolated in isolated_of(config, root).items():
            for index in range(N_GALAXIES // GROUP):
                write_shard(f"{folder}/shard-{index:05d}.npz", make_shard(isolated, index))
    return get_training(config).prepare(root)


def measure(
    config: RunConfig, paths: tuple[str, ...], steps: int, cpu_seconds: float, threads: int
) -> Cost:
    """Do at most so many steps; only the first one begins after so many CPU seconds."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    cpu = torch.device("cpu")
    training = get_training(config)
    state = training.start(cpu)
    data = training.load(paths, 0, 1, cpu)
    training_mode(state.networks)
    step = training.steps(state, state.networks, data, config.batch, config.seed)
    losses, began, cpu_began = [], time.monotonic(), time.process_time()
    while not losses or (len(losses) < steps and time.process_time() - cpu_began < cpu_seconds):
        losses.append(float(step(len(losses))["loss"]))
    n = len(losses)
    spent = (time.process_time() - cpu_began) / n, (time.monotonic() - began) / n
    return Cost(tuple(losses), peak_memory(), *spent)


def peak_memory() -> float:
    """Return the largest resident memory of this process so far, GiB."""
    # ru_maxrss would not do: it includes what the parent had when it started this process.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**20
    raise OSError("/proc/self/status does not say VmHWM")


def in_own_process(task: Callable[..., Cost], *arguments: Any) -> Cost:
    """Run `task` in a new process, whose memory is nobody else's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(task, arguments)


def cost_row(network: str, config: RunConfig, cost: Cost) -> list[str]:
    """Return one line of the table."""
    return [
        network,
        f"{sum(count_parameters(config).values()):,}",
        str(config.batch),
        str(getattr(config, "images_at_once", 0) or config.batch),
        str(len(cost.losses)),
        f"{cost.memory:.1f}",
        f"{cost.cpu_seconds:.2f}",
        f"{cost.seconds:.2f}",
    ]


def measure_all(networks: Sequence[str], options: argparse.Namespace) -> list[list[str]]:
    """Return a line for each network."""
    rows = []
    with tempfile.TemporaryDirectory() as root:
        configs = {
            name: paper_config(name, root, options.galaxy_zoo, options.batch) for name in networks
        }
        for name, config in configs.items():
            paths = few_galaxies(config, f"{root}/{name}")
            limits = options.steps, options.cpu_seconds, options.threads
            cost = in_own_process(measure, config, paths, *limits)
            rows.append(cost_row(name, config, cost))
            print(" ".join(rows[-1]))
            print(f"{name}: losses {', '.join(f'{loss:.4g}' for loss in cost.losses)}", flush=True)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cpu-seconds", type=float, default=6000.0, help="for each network")
    parser.add_argument("--batch", type=int, help="instead of the preset's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--galaxy-zoo", help="folder of pictures for branched; else survey blends")
    options = parser.parse_args()
    rows = measure_all(options.networks, options)
    print(f"\n{circumstances(options.threads)}\n\n{markdown(HEADER, rows)}")


if __name__ == "__main__":
    main()
