"""A catalog on hosts of their own, to which things happen, is the one of an undisturbed run."""

import hashlib
import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import deaths
import hosts
import pytest
import survey_sky as sky
from disturbances import LONG, NOTHING, SHORT, leave_alone
from in_process import catalogs_in_process
from outcomes import outcome, record
from ray_hosts import running_cluster

from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog
from raydeblend.train.progress import read_history

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(hosts.why_not()), reason=f"no namespaces: {hosts.why_not()}"),
]

BANDS = ("i",)
"""One, and small tiles: the slow link carries 20 kB a second."""
CONFIG = replace(deaths.CONFIG, bands=BANDS, cell_size=64)
OPTIONS = ("--bands", "i", "--deblender", "sep", "--photometry", "mixture",
           "--cell-size", "64", "--border", "30")  # fmt: skip
N_CELLS = 64
AT = 8
"""Cells that are done when something happens."""
RUN_S = 900
"""On a busy machine."""
EPOCHS = 8
TRAINING = "a training on three hosts: a worker is killed; later a host is cut off for good"
DOCUMENT = Path(__file__).parents[2] / "docs/howto/cluster.md"


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Sixteen tiles of four cells that overlap."""
    folder = tmp_path_factory.mktemp("tiles")
    for i in range(16):
        sky.write_tile(folder, f"t{i:02}", 96 * (i % 4), 96 * (i // 4), size=128, bands=BANDS)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tiles, tmp_path_factory):
    """The hash of the catalog that one process makes, without Ray."""
    out = tmp_path_factory.mktemp("run") / "out"
    with catalogs_in_process():
        summary = run_catalog(str(tiles), str(out), CONFIG, progress=False)
    assert (summary.n_cells, summary.n_failed) == (N_CELLS, 0)
    return hash_of(out)


@pytest.fixture(scope="module")
def cluster(tiles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    with running_cluster(folder) as cluster:
        for name in ("sky", "runs"):
            (folder / "s3" / name).mkdir()
        for path in tiles.iterdir():
            (folder / "s3" / "sky" / path.name).write_bytes(path.read_bytes())
        yield cluster


def note(done, came, seconds, catalog=""):
    """Write what came of something into the table, if RAYDEBLEND_CLUSTER_TABLE is set."""
    if os.environ.get("RAYDEBLEND_CLUSTER_TABLE"):
        record(DOCUMENT, outcome(done, came, seconds, catalog))


def hash_of(out):
    """One hash of the names and bytes of all shards below a local folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(out, "catalog").rglob("*.parquet")):
        digest.update(str(path.relative_to(out)).encode() + path.read_bytes())
    return digest.hexdigest()


class Writes(threading.Thread):
    """Looks again and again at the shards below a folder, and keeps the hashes of each."""

    def __init__(self, out):
        super().__init__(daemon=True)
        self.out, self.ended = Path(out, "catalog"), threading.Event()
        self.times, self.hashes = {}, {}

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()

    def run(self):
        while not self.ended.wait(0.1):
            for path in self.out.rglob("*.parquet"):
                written = path.stat().st_mtime_ns
                if self.times.get(path) != written:
                    self.times[path] = written
                    self.hashes.setdefault(path, []).append(
                        hashlib.sha256(path.read_bytes()).hexdigest()
                    )

    @property
    def twice(self):
        """Number of shards that were written more than once."""
        return sum(len(hashes) > 1 for hashes in self.hashes.values())

    @property
    def different(self):
        """Shards that were written with different bytes."""
        return [path for path, hashes in self.hashes.items() if len(set(hashes)) > 1]


def disturbed(cluster, disturbance, name):
    """Make a catalog to which something happens; returns what came of it, and in which time."""
    log, out = cluster.folder / f"{name}.log", cluster.folder / "s3" / "runs" / name
    command = ["catalog", "s3://sky", f"s3://runs/{name}", *OPTIONS, "--address", cluster.address]

    def run(n, act):
        """Act when so many cells are recorded; returns exit code and seconds of the run."""
        start = time.monotonic()
        driver = cluster.start_command(*command, log=log, as_job=disturbance.as_job)
        hosts.wait_for(lambda: deaths.n_recorded(out) >= n or driver.poll() is not None, RUN_S)
        assert act is leave_alone or driver.poll() is None, log.read_text()
        act(cluster)
        return driver.wait(RUN_S), time.monotonic() - start

    with Writes(out) as writes:
        code, seconds = run(AT, disturbance.act)
        came = f"exit code {code}"
        if code:
            came = f"{came} with {n_done(out)} of {N_CELLS} cells done; `--resume`"
            command.append("--resume")
        if disturbance.refused:
            assert run(N_CELLS, leave_alone)[0] == 2
            assert disturbance.refused in log.read_text()
            came = f"{came}: exit code 2, the host is named; mended, `--resume`"
        disturbance.heal(cluster)
        if code:
            code, more = run(3 * AT, disturbance.act_again)
            seconds += more
            came = f"{came}: exit code {code}"
    assert code == 0, log.read_text()
    assert not writes.different
    return came + again(log.read_text()), seconds, out


def n_done(out):
    """Number of cells that a local ledger calls done."""
    return sum(entry.done for entry in read_entries(str(out)))


def again(said):
    """Say which cells were done again, by what a run said."""
    lost = re.findall(r"(\d+) cells were lost with their workers", said)
    return f"; cells done again: {', then '.join(lost)}" if lost else ""


def check(out, undisturbed):
    """Check that a catalog is complete, with the bytes of the undisturbed one."""
    assert verify_catalog(str(out)) == []
    assert hash_of(out) == undisturbed


def cluster_long(disturbance):
    return pytest.param(disturbance, marks=pytest.mark.cluster_long)


@pytest.mark.parametrize(
    "disturbance",
    # Of nothing, only the time: what it gives is what the others must give, to whom more happens.
    [cluster_long(NOTHING), SHORT, *map(cluster_long, LONG)],
    ids=lambda d: d.done,
)
def test_the_catalog_does_not_depend_on_what_happens(cluster, disturbance, undisturbed):
    name = f"r{[NOTHING, SHORT, *LONG].index(disturbance)}"
    came, seconds, out = disturbed(cluster, disturbance, name)
    check(out, undisturbed)
    note(disturbance.done, came, seconds, hash_of(out))


@pytest.mark.cluster_long
def test_a_training_goes_on_when_a_worker_is_killed_and_when_a_host_is_cut_off(cluster):
    """The last test: the host that is cut off stays so, and two others finish the work."""
    out, log = cluster.folder / "training", cluster.folder / "training.log"
    start = time.monotonic()
    history = str(out / "history.json")
    options = ["--preset", "tiny", "--workers", "3", "--min-workers", "2",
               "--epochs", str(EPOCHS), "--steps", "40"]  # fmt: skip
    job = cluster.start_script("train_rdn", *options, "--out", str(out), log=log)

    def epochs(n):
        hosts.wait_for(lambda: len(read_history(history)) >= n or job.poll() is not None, RUN_S)
        assert job.poll() is None, log.read_text()

    epochs(2)
    at_work = cluster.trainers()
    assert len({host.name for host, _ in at_work}) == len(at_work) == 3
    os.kill(at_work[0][1], signal.SIGKILL)
    epochs(len(read_history(history)) + 2)
    cluster.trainers()[-1][0].cut_off()
    assert job.wait(RUN_S) == 0, log.read_text()
    assert len(read_history(history)) == EPOCHS
    assert (out / "rdn.safetensors").exists()
    came = f"exit code 0; {EPOCHS} of {EPOCHS} epochs, the last on two hosts"
    note(TRAINING, came, time.monotonic() - start)
