"""Where the compiled code is kept, and who waits for whom."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from raydeblend.fit.compiled import cache as compiled
from raydeblend.fit.compiled.start import prepare_fit


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch):
    """Forget the folder before and after."""
    monkeypatch.setattr(compiled.numba.config, "CACHE_DIR", "")
    compiled.code_folder.cache_clear()
    yield monkeypatch
    compiled.code_folder.cache_clear()


def test_it_is_below_the_users_cache(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fresh.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled.code_folder().parent == tmp_path / "raydeblend"


@pytest.mark.parametrize("told", ["", "relative/cache"])
def test_no_absolute_folder_is_none(fresh: pytest.MonkeyPatch, tmp_path: Path, told: str) -> None:
    fresh.setenv("XDG_CACHE_HOME", told)
    fresh.setenv("HOME", str(tmp_path))
    assert compiled.code_folder().parent == tmp_path / ".cache" / "raydeblend"


def test_where_that_cannot_be_written_it_is_a_temporary_one(
    fresh: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    fresh.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    fresh.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path))
    assert compiled.code_folder().is_relative_to(tmp_path / f"raydeblend-{os.getuid()}")


def test_numbas_own_folder_goes_first(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fresh.setattr(compiled.numba.config, "CACHE_DIR", str(tmp_path))
    assert compiled.code_folder().is_relative_to(tmp_path)


def test_other_sources_have_another_folder(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text("pass")
    before = compiled._fingerprint()
    fresh.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    one = compiled._fingerprint()
    (tmp_path / "kernel.py").write_text("pass  # changed")
    assert len({before, one, compiled._fingerprint()}) == 3


def test_one_compiles_and_the_others_wait(
    fresh: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fresh.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, at_once = threading.Event(), []

    def call() -> None:
        at_once.append("begins")
        if not first.is_set():
            first.set()
            at_once.append("compiled")

    with caplog.at_level(logging.INFO):
        workers = [threading.Thread(target=compiled.ready, args=[call]) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert at_once == ["begins", "compiled", *["begins"] * 3]
    assert [r.getMessage() for r in caplog.records if "compiling" in r.getMessage()] == [
        "compiling the joint fit, once for this machine and version: about a minute"
    ]


def test_a_second_process_does_not_compile() -> None:
    prepare_fit()
    code = (
        "import time, raydeblend.fit.compiled.kernel as k, raydeblend.fit.compiled.start as s\n"
        "start = time.process_time(); s.prepare_fit(); spent = time.process_time() - start\n"
        "print(sum(k.fit_blend.stats.cache_hits.values()),"
        " sum(k.fit_blend.stats.cache_misses.values()), spent)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    ).stdout.split()
    assert out[:2] == ["1", "0"]
    assert float(out[2]) < 5
