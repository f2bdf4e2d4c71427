"""What is done to a cluster while it makes a catalog."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import hosts
from outcomes import UNDISTURBED
from ray_hosts import Cluster

HOUR = 3600


def leave_alone(cluster):
    pass


@dataclass(frozen=True)
class Disturbance:
    """Something that happens to a cluster in the middle of a run.

    Attributes
    ----------
    done
        What was done, in words.
    act, heal
        Do it to a cluster, and undo it when the run has ended.
    act_again
        Do more when the run goes on.
    refused
        What ``--resume`` says instead of going on before `heal`.
    as_job
        Whether the run is a submitted job.
    """

    done: str
    act: Callable[[Cluster], None]
    heal: Callable[[Cluster], None] = leave_alone
    act_again: Callable[[Cluster], None] = leave_alone
    refused: str = ""
    as_job: bool = False


def cut_for_20_s(cluster):
    cluster.workers["odd"].cut_off()
    time.sleep(20)
    cluster.workers["odd"].join()


def cut_for_good(cluster):
    cluster.workers["odd"].cut_off()


def take_away(cluster):
    """What was cut off for good does not come back; its host is started anew by `join`."""
    cluster.workers["odd"].halt()
    cluster.workers["odd"].join()
    cluster.wait_for_nodes(["steady", "slow"])


def join(cluster):
    cluster.start_worker("odd")


def all_there(cluster):
    cluster.wait_for_nodes(cluster.workers)


def degrade_link(cluster):
    cluster.workers["slow"].degrade(loss=0.05, delay=0.2)


def mend_link(cluster):
    cluster.workers["slow"].degrade(loss=0, delay=0)


def cut_s3(cluster):
    cluster.s3.cut_off()
    time.sleep(30)
    cluster.s3.join()


def kill_driver(cluster):
    cluster.kill_driver()


def put_clock_ahead(cluster):
    cluster.clock.set(HOUR)


def put_clock_right(cluster):
    """Ray's timers on a host whose clock is put back by an hour would wait for that hour."""
    cluster.clock.set(0)
    cluster.restart_worker("odd")


def fill_disk(cluster):
    write = f"""
with open("{hosts.FOLDER}/full", "wb") as file:
    try:
        while True: file.write(bytes(1 << 20)); file.flush()
    except OSError: pass
"""
    cluster.workers["odd"].run([sys.executable, "-c", write])


def empty_disk(cluster):
    cluster.workers["odd"].run(["rm", f"{hosts.FOLDER}/full"])


NOTHING = Disturbance(UNDISTURBED, leave_alone)
SHORT = Disturbance(
    "the driver is killed; when the run goes on, a worker's host is cut off for 20 s",
    kill_driver, act_again=cut_for_20_s,
)  # fmt: skip
LONG = (
    Disturbance(
        "a worker's link loses 5 % of all packets and delays the others by 200 ms",
        degrade_link, mend_link,
    ),
    Disturbance("the host of s3 is cut off for 30 s", cut_s3),
    Disturbance(
        "a worker's clock is put ahead by an hour",
        put_clock_ahead, put_clock_right, refused="the clock of node odd is 3600 s ahead",
    ),
    Disturbance("a worker's disk is full", fill_disk, empty_disk),
    # The last two belong together: the host that is lost is the one that joins.
    Disturbance("a worker's host is cut off for good", cut_for_good, take_away),
    Disturbance("a worker joins in the middle of a submitted job", join, all_there, as_job=True),
)  # fmt: skip
