"""A training whose number of workers changes: `min_workers`, on nodes of a real Ray."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raydeblend.errors import ConfigError
from raydeblend.train.config import check_workers
from raydeblend.train.networks import get_config
from raydeblend.train.progress import read_history

# In a process of its own, since the suite's Ray stays connected in this one.  The head has no CPU,
# so that each worker is on one of the two nodes.
RUN = """
import os, sys, threading, time
import ray
from ray.cluster_utils import Cluster
from raydeblend.train.loop import train
from raydeblend.train.progress import read_history

out, shards = sys.argv[1:]
soon = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
plain = {"include_dashboard": False}
cluster = Cluster(True, head_node_args={"num_cpus": 0, "_system_config": soon, **plain})
cluster.add_node(num_cpus=1, **plain)
lost = cluster.add_node(num_cpus=1, **plain)
ray.init(address=cluster.address, log_to_driver=False)

def lose_a_node():
    while len(read_history(os.path.join(out, "history.json"))) < 2:
        time.sleep(0.05)
    cluster.remove_node(lost, allow_graceful=False)
    print("one node less", flush=True)

threading.Thread(target=lose_a_node, daemon=True).start()
train("rdn", out, "tiny", workers=2, min_workers=1, shards=shards, epochs=6, steps=20)
print(int(ray.cluster_resources()["CPU"]), "CPU at the end", flush=True)
os._exit(0)  # Ray's own clean-up stumbles over the dead node
"""


def test_workers_between_two_numbers_need_not_divide_the_batch() -> None:
    config = get_config("rdn", "tiny", batch=8)
    check_workers(config, 3, min_workers=1)
    with pytest.raises(ConfigError, match="8 cannot be shared equally by 3 workers"):
        check_workers(config, 3)
    for workers, fewest in ((2, 3), (9, 1), (2, 0)):
        with pytest.raises(ConfigError, match=f"{fewest} to {workers} workers with a batch of 8"):
            check_workers(config, workers, fewest)


@pytest.mark.cluster
@pytest.mark.cluster_long
def test_a_run_goes_on_with_one_worker_when_the_node_of_the_other_is_lost(tmp_path: Path) -> None:
    """With a fixed number it would wait for a second CPU, which there is no more."""
    out = str(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", RUN, out, str(tmp_path / "isolated")],
        env={
            **os.environ,
            "RAY_AUTH_MODE": "disabled",
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        },
        capture_output=True,
        text=True,
        timeout=400,
    )
    said = done.stdout.splitlines()
    assert {"one node less", "1 CPU at the end"} <= set(said), done.stderr
    history = read_history(os.path.join(out, "history.json"))
    assert len(history) == 6
    assert (Path(out) / "rdn.safetensors").exists()
