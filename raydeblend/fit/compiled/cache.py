"""How numba compiles the fit, and where the machine code is kept: once for each machine.

The code lies in a folder that all processes of a user share, named after the sources, so that code
of another version is never loaded.  `ready` makes it under a lock: of many workers that start at
once, one compiles.
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

    Below ``NUMBA_CACHE_DIR`` or ``XDG_CACHE_HOME`` or ``~/.cache``, else, where that cannot be
    written to, below the folder for temporary files.
    """
    name = Path("raydeblend") / f"code-{_fingerprint()}"
    for root in _roots():
        try:
            (root / name).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=root / name).close()
        except OSError:
            continue
        return root / name
    return Path(tempfile.mkdtemp(prefix="raydeblend-"))


def _roots() -> Iterator[Path]:
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
    # An XDG folder must be absolute, or else it counts as not set.
    told = Path(os.environ.get("XDG_CACHE_HOME", ""))
    yield told if told.is_absolute() else Path(os.path.expanduser("~/.cache"))
    yield Path(tempfile.gettempdir()) / f"raydeblend-{os.getuid()}"


def _fingerprint() -> str:
    """Return a name for sources, processor and settings: numba looks at one source file only."""
    processor = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    made_for = numba.__version__, *processor, str(numba.config.BOUNDSCHECK)
    digest = hashlib.sha256(" ".join(made_for).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def ready(call: Callable[[], object], what: str) -> None:
    """Call each compiled function of `what` once, so that it is compiled; say so if it takes time.

    Processes that find the folder without its code wait for the one that is compiling.
    """
    folder = code_folder()
    done = folder / f"{what} is compiled"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            log.info("compiling %s, once for this machine and version: about a minute", what)
            call()
            done.touch()
            return
    call()
