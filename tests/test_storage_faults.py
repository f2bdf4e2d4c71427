"""What the storage does when a writer is killed or an s3 server is in trouble."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from flaky_s3 import flaky_proxy
from s3 import ACCESS_KEY, SECRET_KEY, s3_server  # noqa: F401

from raydeblend import access, storage
from raydeblend.cli import main as cli
from raydeblend.errors import ConfigError

KILLED_WRITER = """
import os, signal, sys
from raydeblend import access, storage
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
storage.write_bytes(sys.argv[1], b"half")
"""


def test_a_killed_writer_leaves_nothing_that_is_taken_for_a_file(tmp_path):
    path = tmp_path / "catalog" / "cell.parquet"
    storage.write_bytes(str(path), b"whole")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], env=environment)
    assert done.returncode == -9
    assert len(list(path.parent.iterdir())) == 2
    assert path.read_bytes() == b"whole"
    assert storage.list_files(str(tmp_path)) == [str(path)]
    assert storage.remove_temporary(str(tmp_path)) == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_stamp_changes_with_the_file(tmp_path):
    path = str(tmp_path / "a")
    storage.write_bytes(path, b"one")
    first = storage.stamp(path)
    assert storage.list_stamps(str(tmp_path)) == {path: first}
    os.utime(path, (1, 1))
    assert storage.stamp(path) != first
    with pytest.raises(FileNotFoundError):
        storage.stamp(str(tmp_path / "b"))


def test_a_stamp_on_s3_is_that_of_the_content(s3_server):  # noqa: F811
    path = "s3://tiles/folder/a"
    stamps = []
    for content in (b"one", b"two", b"one"):
        storage.write_bytes(path, content)
        stamps.append(storage.stamp(path))
        assert storage.list_stamps("s3://tiles/folder") == {path: stamps[-1]}
    assert stamps[0] == stamps[2] != stamps[1]


def test_answers_500_and_slow_down_are_outlived(s3_server, monkeypatch):  # noqa: F811
    with flaky_proxy(s3_server.process.address, share=0.3, seed=1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        paths = [f"s3://tiles/folder/{i}" for i in range(6)]
        for path in paths:
            storage.write_bytes(path, path.encode())
        assert storage.list_files("s3://tiles/folder") == paths
        for path in paths:
            assert storage.exists(path)
            assert storage.read_bytes(path) == path.encode()
        with storage.open_file(paths[0]) as file:
            file.seek(5)
            assert file.read() == paths[0].encode()[5:]
        assert min(proxy.answers[500], proxy.answers[503]) > 0


def test_trouble_without_end_is_an_error_in_bounded_time(s3_server, monkeypatch):  # noqa: F811
    monkeypatch.setattr(storage, "ATTEMPTS", 2)
    with flaky_proxy(s3_server.process.address, share=1.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(storage.READ_ERRORS):
            storage.write_bytes("s3://tiles/a", b"")
        # botocore's two attempts, by s3fs's two on top.
        assert 2 <= sum(proxy.answers.values()) <= 4


@pytest.mark.slow_survey
def test_a_server_that_is_away_for_20_seconds_is_waited_for(s3_server):  # noqa: F811
    storage.write_bytes("s3://tiles/a", b"before")
    s3_server.process.stop()
    back = threading.Timer(20, s3_server.process.start)
    start = time.monotonic()
    back.start()
    storage.write_bytes("s3://tiles/b", b"after")
    assert 20 <= time.monotonic() - start < 120
    back.join()
    assert storage.read_bytes("s3://tiles/a") == b"before"
    assert storage.read_bytes("s3://tiles/b") == b"after"


def test_a_command_says_soon_that_no_server_answers(s3_server, monkeypatch, capsys):  # noqa: F811
    s3_server.process.stop()
    start = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", "s3://tiles/run"])
    assert time.monotonic() - start < 20
    assert ended.value.code == 2
    assert "no s3 server answers" in capsys.readouterr().err


def test_a_server_that_takes_connections_and_is_silent_is_told_too(s3_server, monkeypatch):  # noqa: F811
    monkeypatch.setattr(access, "CHECK_TIMEOUT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        for check in (access.check_answers, access.check_readable, access.check_writable):
            with pytest.raises(ConfigError, match="no s3 server answers"):
                check("s3://tiles/run")
    # Three tries of a second each, and what botocore waits between them.
    assert time.monotonic() - start < 3 * (3 + 3) + 5
    access.check_answers("/no/such/folder")


def test_no_message_holds_keys_or_the_address(s3_server, monkeypatch, capsys):  # noqa: F811
    address = s3_server.process.address
    said = f"{ACCESS_KEY} {SECRET_KEY} http://{address}/tiles/a?x=1 {address} 127.0.0.1 a.fits"
    left = storage.explain(OSError(said))
    assert left.split() == ["(hidden)", "(hidden)", "(address)", "(hidden)", "(hidden)", "a.fits"]
    assert storage.explain(TimeoutError()) == "TimeoutError"

    s3_server.process.stop()
    monkeypatch.setattr(storage, "ATTEMPTS", 1)
    with pytest.raises(storage.READ_ERRORS) as caught:
        storage.read_bytes("s3://tiles/a")
    assert address in str(caught.value)
    assert address not in storage.explain(caught.value)
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", "s3://tiles/a"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("raydeblend: cannot read s3://tiles/a: no s3 server answers")
    assert address not in said
    with pytest.raises(ConfigError) as refused:
        access.check_readable("s3://tiles/a")
    assert address not in str(refused.value)
