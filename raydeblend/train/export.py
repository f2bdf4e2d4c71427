"""The networks that a training exports: their weights, their cards and their sizes."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import asdict

import torch

from raydeblend.networks.weights import Card, build_network, save_weights
from raydeblend.train.config import RunConfig
from raydeblend.train.networks import get_training
from raydeblend.train.run import Run
from raydeblend.train.state import TrainState, best_epoch


def count_parameters(config: RunConfig) -> dict[str, int]:
    """Return the number of parameters of each network that a run exports, by its file's name."""
    training = get_training(config)
    if ":" in config.network:
        networks = {file: training.build()[name] for name, file in training.exported_as().items()}
    else:
        with torch.device("meta"):
            networks = {
                file: build_network(file, config.architecture(name))
                for name, file in training.exported_as().items()
            }
    return {
        file: sum(parameter.numel() for parameter in network.parameters())
        for file, network in networks.items()
    }


def export_weights(run: Run, state: TrainState) -> str:
    """Write the weights of all networks of a run; return the path of the first."""
    names = get_training(run.config).exported_as()
    paths = [
        save_weights(run.out, file, state.exported(name), _card(run.config, state, name, file))
        for name, file in names.items()
    ]
    return paths[0]


def _card(config: RunConfig, state: TrainState, name: str, file: str) -> Card:
    training = get_training(config)
    epoch = best_epoch(state.history, training.best)
    done = {"data": config.describe_data(), "epochs_done": epoch + 1}
    return Card(
        network=file,
        architecture=training.architecture(name, state.history[epoch]),
        bands=config.bands,
        pixel_scale=config.pixel_scale(),
        scaling=config.scaling_of(name),
        training=asdict(config) | done,
        scores={"galaxies kept for validation": state.history[epoch]},
        commit=_commit(),
    )


def _commit() -> str:
    """Return the commit of this checkout; empty for an installed package."""
    folder = os.path.dirname(os.path.abspath(__file__))
    if shutil.which("git") is None:
        return ""
    command = ["git", "-C", folder, "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
