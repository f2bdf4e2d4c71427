"""What paths are, for every command that takes one: known, or refused before any work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry
from s3 import s3_server  # noqa: F401

from raydeblend import access, filesystems, storage
from raydeblend.cli.main import main
from raydeblend.errors import ConfigError
from raydeblend.paths import absolute, is_local, parent, same_place

UNKNOWN = (
    "gs://bucket/x",
    "GS://bucket/x",
    "az://box/x",
    "memory://x",
    "http://host/x",
    "hdfs://host/x",
    "sftp://host/x",
    "simplecache::s3://bucket/x",
    " s3://bucket/x",
    "/folder/s3://bucket/x",
    "s3:/bucket/x",
    "s3://",
    "s3:///x",
    "s3://bucket/x?versionId=1",
    "file://host/x",
    "file://x",
    "C:/x",
    "",
    " ",
    "\t",
    "a\nb",
    "a\x00b",
)
COMMANDS = (
    ("catalog", "PATH", "out", "--bands", "i"),
    ("catalog", "tiles", "PATH", "--bands", "i"),
    ("catalog", "tiles", "out", "--bands", "i", "--manifest", "PATH"),
    ("catalog", "tiles", "PATH", "--bands", "i", "--overwrite"),
    ("verify", "PATH"),
    ("verify", "out", "PATH"),
    ("deblend", "PATH", "out.npz"),
    ("deblend", "in.npz", "PATH"),
    ("evaluate", "wang2022", "--out", "PATH"),
    ("evaluate", "wang2022", "--out", "out", "--data", "PATH"),
    ("report", "PATH"),
    ("report", "results", "--out", "PATH"),
    ("export", "hats", "PATH", "hats"),
    ("export", "hats", "out", "PATH"),
    ("inspect", "PATH", "1"),
    ("inspect", "out", "1", "--out", "PATH"),
    ("map", "PATH"),
    ("map", "out", "--out", "PATH"),
    ("simulate", "tiles", "PATH"),
    ("simulate", "blends", "PATH"),
    ("simulate", "blends", "out", "--catalog", "PATH"),
    ("train", "rdn", "--out", "PATH"),
    ("train", "rdn", "--out", "out", "--shards", "PATH"),
    ("train", "gan", "--out", "out", "--data", "PATH"),
)


@pytest.mark.parametrize("path", UNKNOWN)
def test_what_is_on_no_known_storage_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (
        absolute,
        access.check_readable,
        access.check_writable,
        access.check_file_writable,
        storage.exists,
        storage.list_files,
        storage.read_bytes,
        storage.open_file,
        lambda it: storage.write_bytes(it, b""),
        lambda it: storage.remove_files([it]),
    ):
        with pytest.raises(ConfigError) as refused:
            use(path)
        assert "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["gs://bucket/x", "S3A:/bucket", "", "memory://x"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_it_before_any_work(command, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main([path if word == "PATH" else word for word in command])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "valid: a local path" in said or "names no bucket" in said
    assert said.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_spellings_of_one_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    here = f"{tmp_path}/tiles"
    local = ("tiles", "tiles/", "./tiles", ".//tiles//", f"file://{here}", f"file:{here}/",
             f"file://localhost{here}", f"FILE://{here}", "~/tiles")  # fmt: skip
    assert {absolute(path) for path in local} == {here}
    s3 = ("s3://b/x", "s3://b/x/", "S3://b/x", "s3a://b/x", "S3A://b/x//")
    assert {absolute(path) for path in s3} == {"s3://b/x"}
    assert absolute("s3://b/") == "s3://b"
    assert absolute("/") == "/"
    # Names are case-sensitive below the scheme, and colons are no schemes.
    assert absolute("s3://B/X") == "s3://B/X"
    assert absolute("run:1") == f"{tmp_path}/run:1"
    assert [is_local(path) for path in ("a", "file:///a", "s3://b")] == [True, True, False]


def test_two_dots_are_what_the_file_system_takes_them_for(tmp_path, monkeypatch):
    (tmp_path / "disk" / "survey").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "survey")
    monkeypatch.chdir(tmp_path)
    storage.write_bytes("link/../out/file", b"x")
    assert os.path.exists("link/../out/file")
    assert (tmp_path / "disk" / "out" / "file").exists()


def test_folders_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parent("out.npz") == str(tmp_path)
    assert parent("/out.npz") == "/"
    assert parent("s3://b/x/out.npz") == "s3://b/x"
    assert parent("s3://b/out.npz") == "s3://b"


def test_a_link_is_the_same_place(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert same_place(str(tmp_path / "link"), str(tmp_path / "there/"))
    assert not same_place(str(tmp_path / "a"), str(tmp_path / "b"))
    assert same_place("s3://b/x/", "s3://b/x")


def test_a_store_whose_package_is_installed_is_used(tmp_path, monkeypatch):
    class Bucket(DirFileSystem):
        protocol = "gs"

        def __init__(self, **options):
            super().__init__(path=str(tmp_path), fs=LocalFileSystem(auto_mkdir=True), **options)

        @classmethod
        def _strip_protocol(cls, path):
            return path.removeprefix("gs://").rstrip("/")

    monkeypatch.setitem(_registry, "gs", Bucket)
    filesystems._other_filesystem.cache_clear()
    storage.write_bytes("gs://bucket/a/b", b"content")
    assert (tmp_path / "bucket" / "a" / "b").read_bytes() == b"content"
    assert storage.list_files("gs://bucket") == ["gs://bucket/a/b"]
    assert storage.read_bytes("GS://bucket/a/b") == b"content"
    storage.remove_files(["gs://bucket/a/b", "gs://bucket/a/none"])
    assert storage.list_files("gs://bucket/a") == []
    with pytest.raises(ConfigError, match="may not contain"):
        storage.list_files("gs://bucket/a*")


NAMES = ("o?t*", "out[12]", "[o]ut1", "**", "out{1,2}")


@pytest.fixture(params=["local", "s3"])
def root(request, tmp_path):
    if request.param == "s3":
        request.getfixturevalue("s3_server")
        return "s3://tiles/some"
    return str(tmp_path / "some")


@pytest.mark.parametrize("name", NAMES)
def test_no_path_is_a_pattern(root, name):
    neighbors = [f"{root}/{each}/file" for each in ("out1", "out2", "oxtx")]
    for path in neighbors:
        storage.write_bytes(path, b"theirs")
    own = f"{root}/{name}"
    assert not storage.exists(own)
    assert storage.list_files(own) == []
    storage.write_bytes(f"{own}/a", b"own")
    storage.write_bytes(f"{own}/b/c", b"own")
    assert storage.list_files(own) == [f"{own}/a", f"{own}/b/c"]
    assert storage.read_bytes(f"{own}/a") == b"own"
    assert storage.stamp(f"{own}/a").startswith("3:")
    with storage.open_file(f"{own}/a") as file:
        assert file.read() == b"own"
    access.check_readable(own)
    access.check_writable(own)
    storage.remove_files([f"{own}/a"])
    assert storage.list_files(own) == [f"{own}/b/c"]
    # What fsspec's own functions do, which Ray Train calls.
    storage.make_filesystem(root).rm(f"{own}/b", recursive=True)
    assert storage.list_files(root) == neighbors


def test_an_error_names_the_path(root):
    for use in (storage.read_bytes, storage.open_file, storage.stamp):
        with pytest.raises(FileNotFoundError) as missing:
            use(f"{root}/nothing")
        assert missing.value.filename == f"{root}/nothing"
        assert f"{root}/nothing" in str(missing.value)


@pytest.mark.parametrize(
    "command",
    [
        ("catalog", "none", "out", "--bands", "i"),
        ("verify", "none"),
        ("deblend", "none", "out.npz"),
        ("report", "none"),
        ("map", "none"),
        ("inspect", "none", "1"),
        ("simulate", "blends", "out.npz", "--n", "1", "--catalog", "none"),
        ("evaluate", "wang2022", "--out", "out", "--data", "none"),
        ("evaluate", "wang2022", "--out", "out", "--config", "none"),
        ("train", "vae-deblend", "--out", "out", "--preset", "tiny", "--vae-weights", "none"),
        ("train", "branched", "--out", "out", "--preset", "tiny", "--vgg19-weights", "none"),
        ("train", "rdn", "--out", "out", "--preset", "tiny", "--catalog", "none"),
    ],
)
def test_a_missing_input_is_said_with_its_path(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(command)
    said = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2, said
    assert "none" in said
    assert "the storage failed" not in said


def test_a_file_that_is_gone_in_the_middle_is_said_with_its_path(monkeypatch, capsys):
    monkeypatch.setattr("raydeblend.networks.listing.list_shipped",
                        lambda: storage.read_bytes("/no/such/file"))  # fmt: skip
    with pytest.raises(SystemExit) as stopped:
        main(["weights"])
    assert stopped.value.code == 2
    assert "there is no file or directory /no/such/file" in capsys.readouterr().err


def test_a_long_tmpdir_is_said_in_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    script = (
        "from raydeblend.cli.main import main; main(['simulate','tiles','out','--n-tiles','2'])"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_TMPDIR", "RAY_ADDRESS")}
    environment |= {"TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 2
    assert "Ray cannot start with its files in" in done.stderr.splitlines()[-1]
    assert "RAY_TMPDIR" in done.stderr.splitlines()[-1]
