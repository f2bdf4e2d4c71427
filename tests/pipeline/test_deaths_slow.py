"""A run survives the death of a node, of its driver, and an s3 server in trouble."""

import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import deaths
import numpy as np
import pytest
import survey_sky as sky
from flaky_s3 import flaky_proxy
from in_process import catalogs_in_process
from s3 import ACCESS_KEY, SECRET_KEY, s3_server  # noqa: F401
from typer.testing import CliRunner

from raydeblend.catalog import read_catalog
from raydeblend.cli.main import app
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow_survey,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]

RUN = """
import sys, tempfile
import deaths, ray
from raydeblend.pipeline.survey import run_catalog
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
stages = deaths.watched(deaths.CONFIG, tempfile.mkdtemp(), seconds=0.05)
run_catalog(sys.argv[1], sys.argv[2], deaths.CONFIG, stages=stages)
"""

# The head has no CPU, so that every cell is on one of the two nodes that can be lost.
RUN_ON_NODES = """
import os, sys, tempfile
import deaths, ray
from ray.cluster_utils import Cluster
from raydeblend.pipeline.survey import run_catalog
soon = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
plain = {"include_dashboard": False}
cluster = Cluster(True, head_node_args={"num_cpus": 0, "_system_config": soon, **plain})
cluster.add_node(num_cpus=1, **plain)
cluster.add_node(num_cpus=1, **plain)
ray.init(address=cluster.address, log_to_driver=False)
stages = deaths.watched(deaths.CONFIG, tempfile.mkdtemp(), seconds=0.05)
summary = run_catalog(sys.argv[1], sys.argv[2], deaths.CONFIG, stages=stages)
print("ended with", summary.n_failed, "failed", flush=True)
os._exit(0)  # Ray's own clean-up stumbles over the dead node
"""

# Ray's own limit is 30 minutes; here it is shorter than the time until a worker comes.
RUN_WITHOUT_WORKERS = """
import os, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import deaths, ray
from ray.cluster_utils import Cluster
from ray.data import DataContext
from raydeblend.pipeline.survey import run_catalog
plain = {"include_dashboard": False}
cluster = Cluster(True, head_node_args={"num_cpus": 0, **plain})
ray.init(address=cluster.address, log_to_driver=False)
def run():
    DataContext.get_current().execution_no_progress_timeout_s = 2
    return run_catalog(sys.argv[1], sys.argv[2], deaths.CONFIG)
running = ThreadPoolExecutor().submit(run)
deaths.wait_for(lambda: Path(sys.argv[2], "run.json").exists() or running.done(), 200)
time.sleep(8)
cluster.add_node(num_cpus=2, **plain)
print("ended with", running.result().n_failed, "failed", flush=True)
os._exit(0)
"""


def same(out, undisturbed):
    """Tell whether a catalog is complete and equals the undisturbed one."""
    assert verify_catalog(out) == []
    assert read_catalog(out).equals(read_catalog(undisturbed))
    return deaths.shards(out) == deaths.shards(undisturbed)


def end(run):
    """End what is left of a test's own run: its process group."""
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def test_a_node_may_die(undisturbed, tiles, tmp_path):
    out, log = str(tmp_path / "out"), tmp_path / "log"
    rng = np.random.default_rng(3)
    run = deaths.start_run(RUN_ON_NODES, tiles, out, log=log)
    try:
        moment = int(rng.integers(2, 8))
        deaths.wait_for(lambda: deaths.n_recorded(out) >= moment, 400, log)
        _, *nodes = deaths.raylets(run.pid)
        deaths.kill(int(rng.choice(nodes)))
        run.wait(timeout=500)
        assert "ended with 0 failed" in log.read_text()
    finally:
        end(run)
    assert same(out, undisturbed)


def test_a_run_waits_for_workers_that_come_late(undisturbed, tiles, tmp_path):
    out, log = str(tmp_path / "out"), tmp_path / "log"
    run = deaths.start_run(RUN_WITHOUT_WORKERS, tiles, out, log=log)
    try:
        run.wait(timeout=500)
    finally:
        end(run)
    assert "ended with 0 failed" in log.read_text()
    assert same(out, undisturbed)


def test_an_s3_server_in_trouble_and_nothing_of_it_in_the_logs(
    undisturbed,
    tiles,
    tmp_path,
    s3_server,  # noqa: F811
):
    """It answers 500 or SlowDown to one request in ten, and is away for 10 seconds."""
    source, out, log = "s3://tiles/sky", "s3://tiles/run", tmp_path / "log"
    sky.write_tile(source, "whole")
    rclone, local = s3_server.process, tmp_path / "s3" / "tiles" / "run"
    sessions = Path(tempfile.mkdtemp(prefix="r"))  # short: Ray makes sockets below it
    with flaky_proxy(rclone.address, share=0.1, seed=2) as proxy:
        run = deaths.start_run(
            RUN, source, out, log=log, AWS_ENDPOINT_URL=proxy.endpoint, RAY_TMPDIR=str(sessions)
        )
        try:
            deaths.wait_for(lambda: deaths.n_recorded(local) >= 4, 400, log)
            rclone.stop()
            threading.Timer(10, rclone.start).start()
            assert run.wait(timeout=500) == 0, log.read_text()
        finally:
            end(run)
        assert min(proxy.answers[500], proxy.answers[503]) > 0
        assert same(out, undisturbed)

        code, said = deaths.raydeblend("verify", out, AWS_ENDPOINT_URL=proxy.endpoint)
        assert code == 0, said
        rclone.stop()
        again = ["catalog", source, out, "--bands", "g,r,i", "--resume"]
        code, refused = deaths.raydeblend(*again, AWS_ENDPOINT_URL=proxy.endpoint)
        assert code == 2, refused
    hidden = [word.encode() for word in (ACCESS_KEY, SECRET_KEY, proxy.endpoint[7:])]
    files = [path for path in [*sessions.rglob("*"), *local.rglob("*"), log] if path.is_file()]
    assert len(files) > 2 * deaths.N_CELLS
    assert not [path for path in files if any(word in path.read_bytes() for word in hidden)]
    assert not [word for word in hidden if word in (said + refused).encode()]
    shutil.rmtree(sessions)


def test_forty_tiles_and_three_random_kills(tmp_path, ray_local):
    """Two workers or actors and the driver are killed; the run that goes on has two CPUs."""
    tiles, out, whole = str(tmp_path / "tiles"), str(tmp_path / "out"), str(tmp_path / "whole")
    for i in range(40):
        sky.write_tile(tiles, f"t{i:02d}", 58 * (i % 7), 58 * (i // 7), size=70)
    options = ["--bands", "g,r,i", "--deblender", "sep", "--photometry", "mixture"]
    command = ["catalog", tiles, out, *options, "--cell-size", "70"]
    rng = np.random.default_rng(40)
    moments = np.sort(rng.choice(np.arange(1, 32), 3, replace=False))
    script = "import sys; from raydeblend.cli.main import main; sys.argv[0] = 'raydeblend'; main()"
    run = deaths.start_run(script, *command, log=tmp_path / "log")
    try:
        for n in moments[:2]:
            deaths.wait_for(lambda n=n: deaths.n_recorded(out) >= n, 400)
            deaths.kill_busy(run.pid, "any", rng)
        deaths.wait_for(lambda: deaths.n_recorded(out) >= moments[2], 400)
        orphans = deaths.tree(run.pid)
        deaths.kill(run.pid)
        run.wait()
    finally:
        end(run)
    deaths.wait_for(lambda: not any(map(deaths.alive, orphans)), 120)
    done = {path: os.stat(path).st_mtime_ns for path in deaths.recorded(out)}
    assert moments[2] <= len(done) < 40
    resumed = CliRunner().invoke(app, [*command, "--resume"])
    assert resumed.exit_code == 0, resumed.output
    assert {path: os.stat(path).st_mtime_ns for path in done} == done
    assert not list(tmp_path.rglob("*.tmp"))
    verified = CliRunner().invoke(app, ["verify", out])
    assert verified.exit_code == 0
    assert verified.output.splitlines()[-1] == f"{out} is complete"

    config = replace(deaths.CONFIG, cell_size=70, border=96)
    with catalogs_in_process():
        assert run_catalog(tiles, whole, config, progress=False).n_cells == 40
    assert deaths.shards(out) == deaths.shards(whole)
    assert len({path.split("/")[1] for path in deaths.shards(out)}) == 40
