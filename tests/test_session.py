"""A cluster that cannot be used is one sentence, soon."""

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from token_head import Head, free_port

from raydeblend import session
from raydeblend.errors import ConfigError
from raydeblend.session import check_reachable, compare, seconds_ahead


@pytest.mark.parametrize(
    ("there", "ahead"), [(100.0, 0.0), (103.0, 0.0), (110.0, 5.0), (40.0, -60.0)]
)
def test_a_clock_is_ahead_by_what_the_way_does_not_explain(there, ahead):
    assert seconds_ahead(there, before=100.0, after=105.0) == ahead


def test_an_address_where_nobody_answers() -> None:
    start = time.monotonic()
    with pytest.raises(ConfigError, match="no Ray cluster answers at"):
        check_reachable(f"127.0.0.1:{free_port()}")
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://head:10001", "give head:6379, elsewhere .* --address http://head:8265 -- "),
        ("http://127.0.0.1:8265", "ray job submit --address http://127.0.0.1:8265 -- raydeblend"),
        ("https://head", "ray job submit --address https://head -- raydeblend"),
    ],
)
def test_other_doors_of_a_cluster_are_answered_with_what_to_type(address: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_reachable(address)


@pytest.mark.parametrize("address", ["local", "auto"])
def test_names_of_rays_own_are_not_looked_up(address: str) -> None:
    check_reachable(address)


def test_a_version_that_differs_is_named() -> None:
    assert compare({"torch": "2.13"}, {"torch": "2.13"}) == ""
    assert compare({"torch": "2.13"}, {"torch": "2.9"}) == "torch is 2.9 there and 2.13 here"
    assert compare({"torch": "2.13"}, {"torch": ""}) == "torch is missing there and 2.13 here"
    # A working directory that Ray unpacked has modules, but no versions.
    assert compare({"raydeblend": "0.1"}, {"raydeblend": "unversioned"}) == ""


def test_ray_does_not_take_the_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    monkeypatch.setattr(session.ray, "init", init)
    before = signal.getsignal(signal.SIGTERM)
    session._connect("local")
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_waits_until_ray_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def init(**_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        done.append("started")

    monkeypatch.setattr(session.ray, "init", init)
    monkeypatch.setattr(session.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(session.ray, "shutdown", lambda: done.append("shut down"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(KeyboardInterrupt), session.ray_session():
        done.append("never")
    assert done == ["started", "shut down"]


def test_a_ray_that_is_too_slow_to_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because")

    monkeypatch.setattr(session.ray, "init", init)
    with pytest.raises(ConfigError, match="too busy"):
        session._connect("local")


CHATTY = """
import os, sys
from raydeblend.session import CHATTER
from raydeblend.stderr import without_lines

with without_lines(CHATTER):
    os.write(2, b"[x E 1 1] core_worker.cc:1: Actor has arguments and max_restarts > 0. See\\n")
    os.write(2, b"[x E 1 1] core_worker.cc:1: another line\\n")
    print("python's own", file=sys.stderr)
print("after", file=sys.stderr)
"""


def test_the_warning_of_restarts_is_left_out_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", CHATTY], capture_output=True, text=True)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert sorted(lines[:2]) == ["[x E 1 1] core_worker.cc:1: another line", "python's own"]
    assert lines[2:] == ["after"]


def test_so_it_is_in_a_notebook_whose_stderr_is_another() -> None:
    notebook = "import io, sys; sys.modules['ipykernel'] = sys; sys.stderr = cell = io.StringIO()\n"
    said = "print(cell.getvalue())"
    program = notebook + CHATTY + said
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.splitlines() == ["[x E 1 1] core_worker.cc:1: another line"]
    assert done.stdout.split("\n")[:2] == ["python's own", "after"]


@pytest.mark.ray
def test_a_wrong_token_ends_the_command_with_2(token_head: Head, tmp_path: Path) -> None:
    token = tmp_path / "other"
    token.write_text(secrets.token_hex(32))
    command = [sys.executable, "-m", "raydeblend", "simulate", "tiles", str(tmp_path / "sky")]
    done = subprocess.run(
        [*command, "--n-tiles", "2", "--size", "64", "--address", token_head.address],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert (
        f"raydeblend: the Ray cluster at {token_head.address} refuses the connection" in done.stderr
    )


# In a process of its own, since the suite's Ray stays connected in this one.
CLUSTER = """
import os, sys
import ray
from ray.cluster_utils import Cluster
from raydeblend import session
from raydeblend.errors import ConfigError
from raydeblend.session import check_nodes, claim_gpus

head = {"num_cpus": 1, "num_gpus": 2, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
try:
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    print(claim_gpus(), claim_gpus(0), claim_gpus(2))
    session.JOIN_S = 1
    try:
        claim_gpus(3, "auto")
    except ConfigError as error:
        print(error)
    check_nodes()
    # A node whose Python finds the record of another numpy first.
    os.environ["PYTHONPATH"] = sys.argv[1]
    cluster.add_node(num_cpus=1)
    check_nodes()
except ConfigError as error:
    print(error)
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.fixture(scope="module")
def said_of_a_cluster(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Lines about the GPUs of a cluster of one node and about a node with another numpy."""
    folder = tmp_path_factory.mktemp("packages")
    record = folder / "numpy-0.0.1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n")
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(folder)],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.ray
def test_gpus_that_no_node_has_are_refused_with_what_there_is(said_of_a_cluster: list[str]) -> None:
    there, refused = said_of_a_cluster[:2]
    assert there == "2 0 2"
    assert "3 GPU(s) were asked for; the cluster has 2 GPU(s) and 1 CPU(s) on 1 node(s)" in refused


@pytest.mark.ray
def test_a_node_with_other_packages_is_named(said_of_a_cluster: list[str]) -> None:
    assert len(said_of_a_cluster) == 3
    different = "differs from this process: numpy is 0.0.1 there and 2"
    assert different in said_of_a_cluster[2]
