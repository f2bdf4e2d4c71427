"""Hosts of namespaces are taken down to the last process, whatever happens."""

import subprocess
import sys
from contextlib import suppress

import deaths
import hosts
import pytest
from waiting import wait_for

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(hosts.why_not()), reason=f"no namespaces: {hosts.why_not()}"),
]

BUSY_S = 120
LEFT_ALONE = ["sh", "-c", "setsid sleep 4321 > /dev/null 2>&1 & exec sleep 8642"]
"""A child that no longer belongs to who started it, and one that does."""
KILLED = """
import os, signal, sys
sys.path = {path!r}
import test_hosts
with test_hosts.hosts.Network() as network:
    print(*test_hosts.at_work(network), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def at_work(network):
    """Start a host on which something runs; all process ids, also that of the switch."""
    host = network.add("a")
    host.start(LEFT_ALONE)
    wait_for(lambda: not host.processes("sh -c") and len(host.processes("sleep")) == 2, BUSY_S)
    return [network.switch.pid, host.holder.pid, host.pid, *host.processes("sleep")]


def test_nothing_is_left_after_an_error():
    with suppress(ZeroDivisionError), hosts.Network() as network:
        pids = at_work(network)
        assert all(map(deaths.alive, pids))
        raise ZeroDivisionError
    wait_for(lambda: not any(map(deaths.alive, pids)), BUSY_S)


def test_nothing_is_left_of_a_test_that_was_killed():
    script = [sys.executable, "-c", KILLED.format(path=sys.path)]
    done = subprocess.run(script, capture_output=True, text=True)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 5, done.stderr
    wait_for(lambda: not any(map(deaths.alive, pids)), BUSY_S)
