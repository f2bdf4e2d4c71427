"""How numba compiles the fit, and where the machine code is kept: once for each machine.

The code lies in a folder that all processes of a user share, named after the sources, so that code
of another version is never loaded.  It is made under a lock: of many workers that start at once,
one compiles.  Nothing is ever written where the package is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from llvmlite import binding

Function = TypeVar("Function", bound=Callable[..., Any])

log = logging.getLogger(__name__)

FUSED = frozenset({"contract"})
"""Products and sums may be fused; nothing else of the arithmetic is left to the compiler."""
SUMMED = frozenset({"contract", "reassoc", "nsz"})
"""Sums over samples may go by lanes too, always the same ones for as many samples."""


def part(fastmath: frozenset[str] = FUSED) -> Callable[[Function], Function]:
    """Return a decorator of functions that are compiled into those that call them."""

    def decorate(function: Function) -> Function:
        compiled: Function = numba.njit(error_model="numpy", nogil=True, fastmath=set(fastmath))(
            function
        )
        return compiled

    return decorate


def entry(function: Function) -> Function:
    """Compile a function that Python calls, at its first call or from the shared folder."""
    with _kept_in(code_folder()):
        compiled: Function = numba.njit(
            error_model="numpy", nogil=True, fastmath=set(FUSED), cache=True
        )(function)
    return compiled


@contextmanager
def _kept_in(folder: Path) -> Iterator[None]:
    """Let numba keep the code of the functions that are decorated meanwhile in a folder."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


@cache
def code_folder() -> Path:
    """Return the folder of the compiled code, writable and named after what it is made of.

    Below ``NUMBA_CACHE_DIR`` or ``XDG_CACHE_HOME`` or ``~/.cache``, else, where files there cannot
    be written and locked, below the folder for temporary files.
    """
    name = Path("raydeblend") / f"code-{_fingerprint()}"
    for root in _roots():
        if _is_usable(root / name):
            return root / name
    return Path(tempfile.mkdtemp(prefix="raydeblend-"))


def _is_usable(folder: Path) -> bool:
    """Tell whether files in a folder, which is made, can be written and locked."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _roots() -> Iterator[Path]:
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
    # An XDG folder must be absolute, or else it counts as not set.
    told = Path(os.environ.get("XDG_CACHE_HOME", ""))
    yield told if told.is_absolute() else Path(os.path.expanduser("~/.cache"))
    yield Path(tempfile.gettempdir()) / f"raydeblend-{os.getuid()}"


def _fingerprint() -> str:
    """Return a name for sources, processor and settings.

    numba itself looks at one source file only, its place and time included: with these in the name,
    a folder that says that it is complete is so for this installation.
    """
    processor = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    made_for = numba.__version__, *processor, str(numba.config.BOUNDSCHECK)
    digest = hashlib.sha256(" ".join(made_for).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{source} {source.stat().st_mtime_ns} ".encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def ready(call: Callable[[], object], what: str) -> None:
    """Call each compiled function of `what` once, so that it is compiled or loaded."""
    if not compile_once(call, what):
        call()


def compile_once(call: Callable[[], object], what: str) -> bool:
    """Call each compiled function of `what` if that is the first time here, which is said.

    Processes that find the folder without this code wait for the one that is compiling it; what
    else there is to compile another one may do meanwhile.  Returns whether this was the one.
    """
    folder = code_folder()
    done = folder / f"{what} is compiled"
    if done.exists():
        return False
    with (folder / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            return False
        log.info("compiling %s, once for this machine and version: about a minute", what)
        call()
        done.touch()
        return True
