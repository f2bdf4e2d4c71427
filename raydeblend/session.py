"""The one place where Ray is started, and where a cluster is looked at before any work."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.stderr import without_lines

QUIET = ("ray.data", "ray.train")
CHATTER = re.compile(rb"core_worker\.cc.* max_restarts ")
"""Ray's core warns of each actor of Ray Data that its arguments lie in the object store, which is
so by Ray Data's own design; it asks no logger."""
TIMED_OUT = "timed out during startup"
CONNECT_S = 10.0
"""Ray itself tries for two minutes where nobody answers, and then ends the process."""
ANSWER_S = 60.0
"""Nodes that take longer to start a process are not waited for."""
JOIN_S = 50.0
"""New nodes of a cloud take minutes; Kubernetes with idle machines does not."""
PINNED_PACKAGES = ("raydeblend", "numpy", "pyarrow", "torch")
"""Ray compares its own version and Python's when it connects."""
UNVERSIONED = "unversioned"
CLOCK_S = 300.0
"""s3 refuses requests whose time is 15 minutes off: such a machine fails all the cells it takes."""

Versions = Mapping[str, str]

log = logging.getLogger(__name__)


@contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """Connect to the cluster at `address`, else to ``RAY_ADDRESS``, else start a local one.

    A Ray that runs already is used and left running.

    Raises
    ------
    ConfigError
        If nobody answers at the address, the cluster refuses the connection, the packages of one
        of its nodes are missing or of another version than here, or Ray cannot start.
    """
    if ray.is_initialized():
        yield
        return
    # Without "local", the stale address file of a dead cluster would be followed.
    address = cluster_address(address) or "local"
    try:
        _connect(address)
        if address != "local":
            check_nodes()
        with without_lines(CHATTER):
            yield
    finally:
        ray.shutdown()


def cluster_address(address: str | None) -> str | None:
    """Return the address to connect to, None for this machine alone."""
    return address or os.environ.get("RAY_ADDRESS") or None


def _connect(address: str) -> None:
    local = {"include_dashboard": False} if address == "local" else {}
    check_reachable(address)
    log.info("connecting to Ray: %s", "this machine alone" if local else address)
    try:
        with _signals_put_off():
            ray.init(address=address, logging_level="ERROR", log_to_driver=False, **local)
    # RuntimeError: a cluster of another version of Ray or Python; its text says which.
    except (ConnectionError, RuntimeError) as error:
        raise ConfigError(
            f"the Ray cluster at {address} refuses the connection ({_one_line(error)}); if it uses "
            "authentication, RAY_AUTH_MODE=token and its token are needed here"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"Ray cannot start with its files in {_ray_folder()} ({_one_line(error)}); set "
            "RAY_TMPDIR to a folder that this user may write and whose path is as short as /tmp"
        ) from error
    except Exception as error:
        # Ray has no kind of its own for this.
        if TIMED_OUT not in str(error):
            raise
        raise ConfigError(
            "Ray did not start in time: this machine is too busy, or out of memory; try again"
        ) from error
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def _signals_put_off() -> Iterator[None]:
    """Do what this process does on Ctrl-C and SIGTERM when Ray has started; a second one ends it.

    Ray sets handlers of its own, and its core now and then crashes where its start is cut short.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    came = []

    def put_off(number: int, _: object) -> None:
        came.append(number)
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    for number in before:
        signal.signal(number, put_off)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _ray_folder() -> str:
    """Return where Ray keeps logs and sockets; a socket's path takes 107 bytes in all."""
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"


def check_kind(address: str | None) -> None:
    """Check that an address is none of a cluster's other doors; a ConfigError says what to type."""
    given = cluster_address(address)
    if given is not None and "://" in given:
        raise ConfigError(_other_door(given))


def check_reachable(address: str) -> None:
    """Check that somebody listens at ``host:port``.

    Other addresses (``local``, ``auto``) are Ray's to understand.

    Raises
    ------
    ConfigError
        If nobody does, or if the address is that of a cluster's client server or dashboard.
    """
    check_kind(address)
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}); start one with `ray start --head`, or "
            "leave out the address to use only this machine"
        ) from error


def _other_door(address: str) -> str:
    """Say what to type in place of ``ray://host:10001`` or ``http://host:8265``."""
    scheme, _, place = address.partition("://")
    host = place.partition("/")[0].rpartition(":")[0] or place
    if scheme in ("http", "https"):
        return (
            f"{address} is a cluster's dashboard, which takes jobs: ray job submit --address "
            f"{address} -- raydeblend …; on a machine of the cluster the address is HOST:6379"
        )
    return (
        f"{address} is no address of a whole node of Ray; on a machine of the cluster give "
        f"{host}:6379, elsewhere submit a job: ray job submit --address http://{host}:8265 -- "
        "raydeblend …"
    )


def check_nodes() -> None:
    """Check that every node of the cluster has this process's packages and time of day.

    Raises
    ------
    ConfigError
        Naming the first node that has not, and what differs; or whose clock is wrong.
    """
    ask = _version_probe()
    here = ask(PINNED_PACKAGES)
    for node, there in _answers(ask, PINNED_PACKAGES, _nodes()):
        different = compare(here, there)
        if different:
            raise ConfigError(
                f"node {node} of the cluster differs from this process: {different}; "
                "use one image or environment on all nodes"
            )
    _check_clocks()


def _check_clocks() -> None:
    before = time.time()
    for node, there in _answers(_clock(), (), _nodes()):
        ahead = seconds_ahead(there, before, time.time())
        if abs(ahead) > CLOCK_S:
            where = "ahead of" if ahead > 0 else "behind"
            raise ConfigError(
                f"the clock of node {node} is {abs(ahead):.0f} s {where} the one here; correct it, "
                "since s3 refuses requests from such a node"
            )


def seconds_ahead(there: float, before: float, after: float) -> float:
    """Return how far a clock is ahead at least, which was read between two times here."""
    return min(0.0, there - before) + max(0.0, there - after)


def _nodes() -> list[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _answers(
    ask: Callable[[Sequence[str]], Any], names: Sequence[str], nodes: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[str, Any]]:
    """Yield the name of each node that answers in time, and what it says of `names`."""
    remote = ray.remote(num_cpus=0, max_retries=0)(ask)
    asked = {
        remote.options(scheduling_strategy=_on(node)).remote(names): node["NodeManagerHostname"]
        for node in nodes
    }
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    for answer in done:
        yield asked[answer], ray.get(answer)


@contextmanager
def shared_folder(out: str, inputs: Sequence[str] = ()) -> Iterator[str]:
    """Keep a file in `out` by which every machine can tell that it sees the same folder.

    Parameters
    ----------
    inputs
        Files that every machine must see too.

    Yields
    ------
    str
        The file's path, for `unseen_by_this_node`; empty if `out` is no local folder.

    Raises
    ------
    ConfigError
        If a node on which there can be work does not see one of them.
    """
    local = [storage.absolute(path) for path in inputs if storage.is_local(path)]
    if not storage.is_local(out):
        _check_nodes_see(out, local)
        yield ""
        return
    proof = storage.join(storage.absolute(out), storage.temporary_name("shared"))
    storage.write_bytes(proof, b"")
    try:
        _check_nodes_see(out, [proof, *local])
        yield proof
    finally:
        storage.remove_files([proof])


def _check_nodes_see(out: str, paths: Sequence[str]) -> None:
    here = ray.get_runtime_context().get_node_id()
    nodes = [node for node in _nodes() if node["Resources"].get("CPU")]
    if not paths or [node["NodeID"] for node in nodes] == [here]:
        return
    for node, unseen in _answers(_looker(), paths, nodes):
        if unseen:
            first = out if storage.is_temporary(unseen[0]) else unseen[0]
            raise ConfigError(not_shared(node, first))


def not_shared(node: str, path: str) -> str:
    """Say that a node does not see a path that this process sees."""
    return (
        f"node {node} of the cluster does not see {path} as this process does; all nodes must "
        "share that folder, or the path must be one of s3://"
    )


def unseen_by_this_node(proof: str, out: str) -> str:
    """Say that this machine does not see the folder of `shared_folder`; empty if it does."""
    if not proof or os.path.exists(proof):
        return ""
    return not_shared(socket.gethostname(), out)


def _looker() -> Callable[[Sequence[str]], list[str]]:
    """Return a function that gives those of the paths that are not there; see `_version_probe`."""

    def look(paths: Sequence[str]) -> list[str]:
        from os.path import exists

        return [path for path in paths if not exists(path)]

    return look


def _clock() -> Callable[[Sequence[str]], float]:
    """Return a function that gives the time of day; see `_version_probe`."""

    def tell(_: Sequence[str]) -> float:
        from time import time

        return time()

    return tell


def claim_gpus(wanted: int | None = None, address: str | None = None) -> int:
    """Return how many GPUs of the cluster to use: those that are there, or as many as wanted.

    The autoscaler of a cluster is asked for those that are missing, and given `JOIN_S`.

    Raises
    ------
    ConfigError
        If there are fewer than wanted; the text says what there is.
    """
    if wanted is None:
        return _count("GPU")
    if wanted > _count("GPU") and cluster_address(address):
        request_resources(bundles=[{"GPU": 1}] * wanted)
        end = time.monotonic() + JOIN_S
        while wanted > _count("GPU") and time.monotonic() < end:
            time.sleep(1)
    if wanted > _count("GPU"):
        raise ConfigError(
            f"{wanted} GPU(s) were asked for; the cluster has {_count('GPU')} GPU(s) and "
            f"{_count('CPU')} CPU(s) on {len(ray.nodes())} node(s). Nodes that are still joining "
            "show up in `ray status`"
        )
    return wanted


def _count(resource: str) -> int:
    return int(ray.cluster_resources().get(resource, 0))


def _on(node: Mapping[str, Any]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)


def _version_probe() -> Callable[[Sequence[str]], Versions]:
    """Return a function that gives the version of each package, empty for one that is missing.

    It is pickled by value, since it is made here: a node without raydeblend could not import it.
    """

    def ask(names: Sequence[str]) -> Versions:
        from importlib import metadata, util

        found = {}
        for name in names:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                # A job's working directory has modules that nobody installed.
                found[name] = UNVERSIONED if util.find_spec(name) else ""
        return found

    return ask


def compare(here: Versions, there: Versions) -> str:
    """Say in what the versions on a node differ from those here; empty if in nothing known."""
    return ", ".join(
        f"{name} is {there[name] or 'missing'} there and {here[name] or 'missing'} here"
        for name in here
        if there[name] != here[name] and UNVERSIONED not in (there[name], here[name])
    )


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
