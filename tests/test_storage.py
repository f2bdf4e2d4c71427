import os
import subprocess
import sys
from pathlib import Path

import pytest
from flaky_s3 import flaky_proxy
from s3 import s3_server  # noqa: F401

from raydeblend import access, storage
from raydeblend.errors import ConfigError
from raydeblend.filesystems import _checksums


@pytest.fixture(params=["local", "s3"])
def root(request, tmp_path):
    """The same tests for both kinds of path."""
    if request.param == "s3":
        request.getfixturevalue("s3_server")
        return "s3://tiles/some/prefix"
    return str(tmp_path / "some" / "prefix")


def test_round_trip(root):
    path = storage.join(root, "a", "b.bin")
    assert not storage.exists(path)
    storage.write_bytes(path, b"first")
    storage.write_bytes(path, b"second, longer")
    assert storage.read_bytes(path) == b"second, longer"
    assert storage.exists(path)
    assert storage.exists(storage.join(root, "a"))
    with storage.open_file(path) as file:
        file.seek(8)
        assert file.read() == b"longer"


def test_list_files_is_recursive_sorted_and_filtered(root):
    for name in ("z.parquet", "a/y.parquet", "a/b/x.parquet", "note.txt"):
        storage.write_bytes(storage.join(root, name), b"")
    names = ["a/b/x.parquet", "a/y.parquet", "z.parquet"]
    assert storage.list_files(root, ".parquet") == [storage.join(root, name) for name in names]
    assert len(storage.list_files(root)) == 4
    assert storage.list_files(storage.join(root, "nothing")) == []


def test_listings_are_never_stale(root):
    """Another process writes and removes between two listings."""
    storage.write_bytes(storage.join(root, "one"), b"")
    assert len(storage.list_files(root)) == 1
    script = "import sys; from raydeblend import storage as s; s.write_bytes(sys.argv[1], b'')"
    path = storage.join(root, "two")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, path], check=True, env=environment)
    assert storage.exists(path)
    assert len(storage.list_files(root)) == 2


def test_a_missing_file_is_said(root):
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(root, "nothing"))


def test_checks_pass_and_leave_nothing(root):
    access.check_writable(root)
    assert storage.list_files(root) == []
    storage.write_bytes(storage.join(root, "a"), b"")
    access.check_readable(root)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    storage.write_bytes(str(path), b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        storage.write_bytes(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_local_roots_that_cannot_be_used(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing does not exist$"):
        access.check_readable(str(tmp_path / "nothing"))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write .*file: "):
        access.check_writable(str(tmp_path / "file"))


def test_relative_local_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage.write_bytes("here/file", b"")
    assert storage.list_files("here") == [str(tmp_path / "here" / "file")]
    assert storage.absolute("here") == str(tmp_path / "here")
    assert storage.absolute("s3://bucket/here") == "s3://bucket/here"


CHECKS = [access.check_readable, access.check_writable]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("variables", "path", "sentence"),
    [
        ({}, "s3://nosuchbucket/a", "there is no bucket 'nosuchbucket'"),
        ({}, "s3://", "names no bucket"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "s3://tiles/a", "refused the credentials"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, "s3://tiles/a", "refused the credentials"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "s3://tiles/a", "no s3 credentials"),
        (
            {"AWS_SECRET_ACCESS_KEY": None, "AWS_ACCESS_KEY_ID": None},
            "s3://tiles/a",
            "no s3 credentials",
        ),
        ({"AWS_ENDPOINT_URL": "nonsense"}, "s3://tiles/a", r"Invalid endpoint: \(hidden\)"),
    ],
)
def test_s3_that_cannot_be_used(s3_server, monkeypatch, check, variables, path, sentence):  # noqa: F811
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match=sentence) as caught:
        check(path)
    assert "\n" not in str(caught.value)


def test_an_s3_server_that_does_not_answer(s3_server, monkeypatch):  # noqa: F811
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="no s3 server answers at the address") as caught:
        access.check_writable("s3://tiles/a")
    assert "127.0.0.1" not in str(caught.value)


def test_a_prefix_without_objects_does_not_exist(s3_server):  # noqa: F811
    with pytest.raises(ConfigError, match="s3://tiles/nothing does not exist"):
        access.check_readable("s3://tiles/nothing")


def test_corrected_credentials_work_in_the_same_process(s3_server, monkeypatch):  # noqa: F811
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(ConfigError):
            access.check_writable("s3://tiles/a")
    access.check_writable("s3://tiles/a")


def test_a_relative_folder_above_this_one_lists_plain_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.fits").write_bytes(b"a")
    monkeypatch.chdir(tmp_path / "here")
    assert storage.list_files("../there") == [str(tmp_path / "there" / "a.fits")]


def test_a_server_of_ones_own_needs_no_variables_for_checksums(s3_server, monkeypatch):  # noqa: F811
    monkeypatch.delenv("AWS_REQUEST_CHECKSUM_CALCULATION")
    monkeypatch.delenv("AWS_RESPONSE_CHECKSUM_VALIDATION")
    root = "s3://tiles/checksums"
    with flaky_proxy(s3_server.process.address, share=0.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        storage.write_bytes(f"{root}/a", b"some bytes")
        assert storage.read_bytes(f"{root}/a") == b"some bytes"
        storage.remove_files([f"{root}/a"])
        assert storage.list_files(root) == []
    assert "x-amz-date" in proxy.headers
    assert not [name for name in proxy.headers if "checksum" in name]


def test_what_the_users_variables_say_of_checksums_stands():
    own = {"AWS_ENDPOINT_URL": "http://x", "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported"}
    assert _checksums(own) == {"response_checksum_validation": "when_required"}
    assert _checksums({"AWS_REGION": "us-west-2"}) == {}
