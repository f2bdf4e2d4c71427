"""A real cluster whose other node has another working directory, or does not share the output."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import survey_sky as sky

from raydeblend import storage
from raydeblend.pipeline.entries import shard_path
from raydeblend.pipeline.ledger import keys, read_plan
from raydeblend.pipeline.survey import finish
from raydeblend.pipeline.verify import verify_catalog

TIMEOUT_S = 400

# In a process of its own, since the suite's Ray stays connected in this one.  The head has no
# CPU: all cells are done on the other node.
CLUSTER = """
import os, subprocess, sys, time
import ray
from ray.cluster_utils import Cluster
from raydeblend.cli.main import main

elsewhere, hidden = sys.argv[1:3]
here = os.getcwd()
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
ray_command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1",
               f"--address={cluster.address}"]
if hidden:
    ray_command = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', hidden,
                   *ray_command]
node = subprocess.Popen(ray_command, cwd=elsewhere, stdout=subprocess.DEVNULL)
try:
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    while not ray.cluster_resources().get("CPU"):
        assert node.poll() is None
        time.sleep(0.2)
    ray.shutdown()
    main(["catalog", "tiles", "out", "--bands", "g,r,i", "--deblender", "sep", "--photometry",
          "mixture", "--cell-size", "150", "--border", "60", "--address", cluster.address])
finally:
    node.terminate()
    node.wait()
    cluster.shutdown()
"""


def run_on_cluster(folder: Path, elsewhere: Path, hidden: str) -> subprocess.CompletedProcess[str]:
    sky.write_tile(folder / "tiles", "whole", size=300)
    elsewhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_AUTH_MODE": "disabled"}
    environment["RAY_raylet_start_wait_time_s"] = "120"  # on a busy machine
    return subprocess.run(
        [sys.executable, "-c", CLUSTER, str(elsewhere), hidden],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def test_a_relative_output_is_that_of_the_driver(tmp_path: Path) -> None:
    done = run_on_cluster(tmp_path, tmp_path / "elsewhere", "")
    assert done.returncode == 0, done.stderr
    out = str(tmp_path / "out")
    assert all(storage.exists(shard_path(out, *key)) for key in keys(read_plan(out)))
    assert len(read_plan(out)) == 4
    assert verify_catalog(out) == []
    assert os.listdir(tmp_path / "elsewhere") == []


def can_hide() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_hide(), reason="needs mount namespaces, which this user may not make")
@pytest.mark.parametrize("hidden", ["out", "tiles"])
def test_a_node_that_does_not_share_a_folder_ends_the_run(tmp_path: Path, hidden: str) -> None:
    folder = tmp_path / hidden
    folder.mkdir()
    done = run_on_cluster(tmp_path, tmp_path / "elsewhere", str(folder))
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("raydeblend: ")]
    assert f"does not see {folder}" in said[-1]
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_worker_that_does_not_see_the_output_writes_nothing(tmp_path: Path) -> None:
    """As one of a node that joined later."""
    out = tmp_path / "out"
    row = finish({"cell": 3, "work": b""}, lambda _: None, str(out), "", "", f"{out}/proof")
    assert row["cell"] == 3
    assert f"does not see {out}" in row["stop"]
    assert not out.exists()
