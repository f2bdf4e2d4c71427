"""A real cluster whose other node has another working directory, or does not share the output."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import survey_sky as sky

from raydeblend import storage
from raydeblend.pipeline.graph import finish
from raydeblend.pipeline.ledger import keys, read_plan
from raydeblend.pipeline.shards import shard_path
from raydeblend.pipeline.verify import verify_catalog

TIMEOUT_S = 400

# In a process of its own, since the suite's Ray stays connected in this one.  The head has no
# CPU: all cells are done on the other node, which has an empty folder in place of `hidden`.
CLUSTER = """
import subprocess, sys, time
import ray
from ray.cluster_utils import Cluster
from raydeblend.cli.main import main

elsewhere, hidden = sys.argv[1:3]
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
    for paths in sys.argv[3:]:
        print("run", paths, file=sys.stderr)
        try:
            main(["catalog", *paths.split(), "--bands", "g,r,i", "--deblender", "sep",
                  "--photometry", "mixture", "--cell-size", "150", "--border", "60",
                  "--address", cluster.address])
        except SystemExit as end:
            print("code", end.code or 0, file=sys.stderr)
finally:
    node.terminate()
    node.wait()
    cluster.shutdown()
"""


@dataclass(frozen=True)
class Runs:
    """Where runs on a cluster were made, with exit code and last sentence by input and output."""

    folder: Path
    ended: dict[str, tuple[int, str]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs with all folders shared, with a hidden output, and with a hidden input."""
    folder = tmp_path_factory.mktemp("cluster")
    for tiles in (folder / "tiles", folder / "hidden" / "tiles"):
        sky.write_tile(tiles, "whole", size=300)
    (folder / "elsewhere").mkdir()
    commands = ["tiles out"]
    if can_hide():
        commands += ["tiles hidden/out", "hidden/tiles other"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_AUTH_MODE": "disabled"}
    environment["RAY_raylet_start_wait_time_s"] = "120"  # on a busy machine
    hidden = str(folder / "hidden") if can_hide() else ""
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(folder / "elsewhere"), hidden, *commands],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    parts = re.split(r"^run (.+)$", done.stderr, flags=re.MULTILINE)
    ended = {}
    for command, said in zip(parts[1::2], parts[2::2], strict=True):
        code = re.search(r"^code (\d+)$", said, re.MULTILINE)
        assert code, said
        sentences = [line for line in said.splitlines() if line.startswith("raydeblend: ")]
        ended[command] = int(code[1]), sentences[-1] if sentences else ""
    return Runs(folder, ended)


@cache
def can_hide() -> bool:
    """Tell whether this user may make mount namespaces."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@pytest.mark.ray
def test_a_relative_output_is_that_of_the_driver(runs: Runs) -> None:
    assert runs.ended["tiles out"] == (0, "")
    out = str(runs.folder / "out")
    assert all(storage.exists(shard_path(out, *key)) for key in keys(read_plan(out)))
    assert len(read_plan(out)) == 4
    assert verify_catalog(out) == []
    assert os.listdir(runs.folder / "elsewhere") == []


@pytest.mark.ray
@pytest.mark.skipif(not can_hide(), reason="needs mount namespaces, which this user may not make")
@pytest.mark.parametrize(
    ("command", "unseen"), [("tiles hidden/out", "out"), ("hidden/tiles other", "tiles")]
)
def test_a_node_that_does_not_share_a_folder_ends_the_run(
    runs: Runs, command: str, unseen: str
) -> None:
    code, said = runs.ended[command]
    assert code == 2
    assert f"does not see {runs.folder}/hidden/{unseen}" in said
    out = runs.folder / command.split()[1]
    assert not (out / "run.json").exists()


def test_a_worker_that_does_not_see_the_output_writes_nothing(tmp_path: Path) -> None:
    """As one of a node that joined later."""
    out = tmp_path / "out"
    row = finish({"cell": 3, "work": b""}, lambda _: None, str(out), "", "", f"{out}/proof")
    assert row["cell"] == 3
    assert f"does not see {out}" in row["stop"]
    assert not out.exists()
