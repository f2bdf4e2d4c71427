"""The bench of the papers' sizes, on a size that takes no time."""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.presets import HEADER, N_GALAXIES, cost_row, few_galaxies, measure, paper_config
from raydeblend.train.networks import get_config


def test_a_preset_is_measured_without_ray(tmp_path: Path) -> None:
    config = get_config("rdn", "tiny", group=N_GALAXIES // 2, images_at_once=4)
    paths = few_galaxies(config, str(tmp_path))
    assert len(paths) == 2
    cost = measure(config, paths, steps=2, cpu_seconds=1e6, threads=1)
    assert len(cost.losses) == 2
    assert np.isfinite(cost.losses).all()
    assert cost.cpu_seconds > 0
    # What this process has now, by another file of the kernel's.
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert cost.memory >= 0.9 * pages * os.sysconf("SC_PAGE_SIZE") / 2**30
    row = dict(zip(HEADER, cost_row("rdn", config, cost), strict=True))
    assert (row["batch"], row["at once"], row["steps"]) == ("16", "4", "2")

    # One step is done however little time there is.
    assert len(measure(config, paths, steps=2, cpu_seconds=0, threads=1).losses) == 1


@pytest.mark.parametrize("network", ["gan", "counter", "branched"])
def test_presets_differ_from_the_paper_in_galaxies_alone(network: str, tmp_path: Path) -> None:
    ours, paper = paper_config(network, str(tmp_path), str(tmp_path)), get_config(network, "paper")
    changed = {name for name, value in vars(paper).items() if vars(ours)[name] != value}
    assert changed <= {"n_galaxies", "group", "data"}
