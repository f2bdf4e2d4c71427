"""What is written about a run is what other tools say of this machine and checkout."""

import hashlib
import json
import os
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

from raydeblend.errors import ConfigError
from raydeblend.evaluate.common import provenance
from raydeblend.evaluate.common.provenance import NAME, describe_run, read_provenance, to_file
from raydeblend.evaluate.common.request import Request
from raydeblend.networks.weights import shipped_weights

ROOT = Path(__file__).parents[3]


def test_changed_code_makes_a_commit_dirty_and_changed_documents_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    package = tmp_path / "package"
    package.mkdir()
    for path in package / "code.py", tmp_path / "README.md":
        path.write_text("one")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    (tmp_path / "README.md").write_text("two")
    assert provenance.commit() == git("rev-parse", "--short", "HEAD")
    (package / "code.py").write_text("two")
    assert provenance.commit() == git("rev-parse", "--short", "HEAD") + "-dirty"


def test_says_what_git_and_the_files_say(tmp_path: Path) -> None:
    run = describe_run(["raydeblend", "evaluate", "a file.npz"], 12.345)
    assert shlex.split(run["command"]) == ["raydeblend", "evaluate", "a file.npz"]
    assert run["seconds"] == 12.3
    head = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    if (ROOT / ".git").exists():
        full = subprocess.run(head, capture_output=True, text=True, check=True).stdout
        assert full.startswith(run["commit"].removesuffix("-dirty"))
    assert f"{len(os.sched_getaffinity(0))} cores" in run["hardware"]
    assert run["versions"]["numpy"] == np.__version__
    path = shipped_weights()["rdn"]
    assert run["weights"]["rdn"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    (tmp_path / NAME).write_bytes(to_file(run))
    assert read_provenance(str(tmp_path)) == run


def test_a_directory_without_provenance_is_empty_and_a_damaged_one_refused(tmp_path: Path) -> None:
    assert read_provenance(str(tmp_path)) == {}
    for content in ("{", json.dumps([1])):
        (tmp_path / NAME).write_text(content)
        with pytest.raises(ConfigError, match=NAME):
            read_provenance(str(tmp_path))


def test_the_command_names_what_differs_from_the_defaults() -> None:
    words = Request("wang2022", ("joint", "sep"), None, 3, "out", seed=2).command()
    assert words[:7] == [
        "raydeblend",
        "evaluate",
        "wang2022",
        "--deblender",
        "joint",
        "--deblender",
        "sep",
    ]
    assert words[7:] == ["--n", "3", "--seed", "2", "--out", "out"]
    assert "--seed" not in Request("hsc-blends", (), "data", None, "out").command()
