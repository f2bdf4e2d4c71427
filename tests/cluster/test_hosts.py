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

LEFT_ALONE = ["sh", "-c", "setsid sleep 4321 > /dev/null 2>&1 & sleep 8642"]
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
    wait_for(lambda: len(host.processes("sleep 4321")) and len(host.processes("sleep 8642")), 20)
    return [network.switch.pid, host.holder.pid, host.pid, *host.processes("sleep")]


def test_nothing_is_left_after_an_error():
    with suppress(ZeroDivisionError), hosts.Network() as network:
        pids = at_work(network)
        assert all(map(deaths.alive, pids))
        raise ZeroDivisionError
    wait_for(lambda: not any(map(deaths.alive, pids)), 20)


def test_nothing_is_left_of_a_test_that_was_killed():
    script = [sys.executable, "-c", KILLED.format(path=sys.path)]
    said = subprocess.run(script, capture_output=True, text=True).stdout
    pids = [int(pid) for pid in said.split()]
    assert len(pids) > 4
    wait_for(lambda: not any(map(deaths.alive, pids)), 20)
