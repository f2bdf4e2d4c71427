"""Where the compiled code is kept, and who waits for whom."""

import errno
import logging
import os
import shutil
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

import pytest

import raydeblend
from raydeblend.fit.compiled import cache as compiled


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


def test_where_files_cannot_be_locked_it_is_another_one(
    fresh: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def flock(file: BinaryIO, how: int) -> None:
        if tmp_path / "cache" in Path(os.readlink(f"/proc/self/fd/{file.fileno()}")).parents:
            raise OSError(errno.ENOLCK, "No locks available")

    fresh.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fresh.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path / "other"))
    fresh.setattr(compiled.fcntl, "flock", flock)
    assert compiled.code_folder().is_relative_to(tmp_path / "other")


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


def test_another_installation_of_equal_sources_has_another_folder(
    fresh: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = set()
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        source = tmp_path / place / "kernel.py"
        for seconds in (1, 2):
            source.write_text("pass")
            os.utime(source, (seconds, seconds))
            fresh.setattr(compiled, "__file__", str(tmp_path / place / "cache.py"))
            found.add(compiled._fingerprint())
    assert len(found) == 4


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
        workers = [
            threading.Thread(target=compiled.ready, args=[call, "the joint fit"]) for _ in range(4)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert at_once == ["begins", "compiled", *["begins"] * 3]
    assert [r.getMessage() for r in caplog.records if "compiling" in r.getMessage()] == [
        "compiling the joint fit, once for this machine and version: about a minute"
    ]


def test_two_parts_are_compiled_at_the_same_time(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fresh.setenv("XDG_CACHE_HOME", str(tmp_path))
    both = threading.Barrier(2, timeout=30)
    parts = ("the joint fit", "the photometry")
    workers = [threading.Thread(target=compiled.ready, args=[both.wait, what]) for what in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not both.broken
    assert all((compiled.code_folder() / f"{what} is compiled").exists() for what in parts)


SECOND = """
import time
from {module} import {prepare}, {entries}
start = time.process_time()
{prepare}()
spent = time.process_time() - start
for entry in ({entries}):
    print(sum(entry.stats.cache_hits.values()), sum(entry.stats.cache_misses.values()), spent)
"""


@pytest.mark.parametrize(
    ("module", "prepare", "entries"),
    [
        ("start", "prepare_fit", "fit_blend, score_gains, render"),
        ("start_photometry", "prepare_photometry", "fit_summed, fit_windows, refit"),
    ],
)
def test_a_second_process_does_not_compile(module: str, prepare: str, entries: str) -> None:
    package = "raydeblend.fit.compiled"
    code = SECOND.format(module=f"{package}.{module}", prepare=prepare, entries=entries)
    getattr(import_module(f"{package}.{module}"), prepare)()
    out = _python(code).split()
    assert [out[0::3], out[1::3]] == [["1"] * 3, ["0"] * 3]
    assert float(out[2]) < 5


def _python(code: str, folder: Path | None = None, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=folder,
        env=os.environ | variables,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


COMPILE = """
import numpy as np
import raydeblend.fit.compiled.cache as cache
from raydeblend.fit.compiled.gaussians import power_of_two

@cache.entry
def quarter(x):
    return power_of_two(x)

print(cache.__file__, cache.code_folder(), quarter(np.float32(-2)))
"""


def test_a_package_that_cannot_be_written_to_is_left_as_it_is(tmp_path: Path) -> None:
    """Copied and made read-only; to root that means little, so what is there is compared."""
    site = tmp_path / "site"
    shutil.copytree(
        Path(raydeblend.__file__).parent,
        site / "raydeblend",
        ignore=shutil.ignore_patterns("__pycache__", "weights", "data"),
    )
    for path in [*site.rglob("*"), site]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = _listing(site)
    variables = {
        "PYTHONPATH": f"{site}:{tmp_path}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "NUMBA_CACHE_DIR": "",
    }
    # Code is kept for functions of files only.
    (tmp_path / "script.py").write_text(COMPILE)
    file, folder, value = _python("import script", tmp_path, **variables).split()
    assert Path(file).is_relative_to(site)
    assert Path(folder).is_relative_to(tmp_path / "cache")
    assert float(value) == pytest.approx(0.25, rel=1e-6)
    assert list(Path(folder).rglob("*quarter*.nbc"))
    assert _listing(site) == before


def _listing(folder: Path) -> list[tuple[Path, int]]:
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
