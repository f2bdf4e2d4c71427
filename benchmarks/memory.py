"""Memory of a run: ``python -m benchmarks.memory [--tiles 4 40 400] [--soak 2000]``.

Tiny tiles of one cell each, every one a run in a Ray of its own; anonymous resident memory of the
driver, of the network's actors and of the task workers, what the object store held at most, and
whether it spilled.  ``--soak`` runs that many cells and prints the same by tenths of the run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.circumstances import circumstances
from benchmarks.gaussian_sky import BANDS, draw_galaxies, write_tile
from raydeblend.config import CatalogConfig
from raydeblend.evaluate.common.tables import markdown

SIDE, GALAXIES, FLUX, SIGMA = 96, 3, 2300.0, 2.4
KINDS = ("driver", "actor", "worker")
EVERY_S = 0.2
SOAK_HEADER = ["tenth", *(f"{kind} MiB" for kind in KINDS), "store MiB"]


@dataclass
class MemoryWatch:
    """Samples the memory of this process and of those it started.

    Attributes
    ----------
    samples
        Per sample the largest anonymous resident memory, MiB, of each of `KINDS`.
    store
        Per sample the bytes used of the object store, MiB.
    """

    samples: list[dict[str, float]] = field(default_factory=list)
    store: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> MemoryWatch:
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.stop.wait(EVERY_S):
            self.samples.append(sample_memory(os.getpid()))
            self.store.append(store_used())

    def peak(self, kind: str) -> float:
        """Return the largest of all samples of a kind."""
        return max((sample[kind] for sample in self.samples), default=0.0)

    def tenths(self) -> NDArray[np.float64]:
        """Return ``(10, 4)`` the largest of each of `KINDS` and of the store in tenths of the time.

        The time begins when the first actor is there.
        """
        kinds = [[sample[kind] for kind in KINDS] for sample in self.samples]
        values = np.column_stack([kinds, self.store])
        first = int(np.argmax(values[:, KINDS.index("actor")] > 0))
        return np.array([part.max(axis=0) for part in np.array_split(values[first:], 10)])


def sample_memory(root: int) -> dict[str, float]:
    """Return the largest memory, MiB, of each of `KINDS` among `root` and its descendants."""
    found = dict.fromkeys(KINDS, 0.0)
    found["driver"] = _anonymous(root)
    for pid, title in descendants(root):
        kind = _kind(title)
        if kind:
            found[kind] = max(found[kind], _anonymous(pid))
    return found


def _kind(title: str) -> str:
    """Ray writes what a process is into its title."""
    if title.startswith("ray::MapWorker"):
        return "actor"
    return "worker" if title.startswith("ray::") else ""


def descendants(root: int) -> Iterator[tuple[int, str]]:
    """Yield process id and title of the processes below `root`."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parents.setdefault(_parent(entry), []).append(int(entry.name))
    level = parents.get(root, [])
    while level:
        yield from ((pid, _title(pid)) for pid in level)
        level = [child for pid in level for child in parents.get(pid, [])]


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has just ended
        return -1


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def _anonymous(pid: int) -> float:
    """Return resident memory without files and the shared object store."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith("RssAnon")), 0.0)


def store_used() -> float:
    """Return the MiB in use of this machine's object store, 0 without Ray."""
    import ray

    if not ray.is_initialized():
        return 0.0
    total, free = ray.cluster_resources(), ray.available_resources()
    name = "object_store_memory"
    return (total.get(name, 0) - free.get(name, 0)) / 2**20


def spilled_files() -> int:
    """Return how many files the object store has spilled to disk."""
    import ray

    session = Path(ray._private.worker._global_node.get_session_dir_path())
    return sum(1 for path in session.glob("ray_spilled_objects*/*") if path.is_file())


@dataclass(frozen=True)
class Result:
    """What one run took."""

    cells: int
    seconds: float
    watch: MemoryWatch
    spilled: int


def write_tiles(folder: str, n: int) -> None:
    """Write `n` tiles of one cell with a few galaxies, far from each other."""
    xy = np.random.default_rng(1).uniform(12, SIDE - 12, (GALAXIES, 2))
    light = draw_galaxies(xy, np.full(GALAXIES, FLUX), np.full(GALAXIES, SIGMA), SIDE)
    for i in range(n):
        write_tile(folder, f"t{i:05d}", light, 0.1 * (i % 1000), 0.1 * (i // 1000))


def measure_run(n: int, deblender: str) -> Result:
    """Make the catalog of `n` tiles in the Ray that runs, and watch the memory."""
    from raydeblend.pipeline.survey import run_catalog

    # The same wherever it runs; ngmix would take most of the time.
    photometry = "joint" if deblender == "joint" else "mixture"
    config = CatalogConfig(BANDS, "HSC", deblender, photometry, cell_size=SIDE, border=32)
    with tempfile.TemporaryDirectory() as folder:
        write_tiles(f"{folder}/tiles", n)
        with MemoryWatch() as watch:
            start = time.perf_counter()
            summary = run_catalog(f"{folder}/tiles", f"{folder}/out", config, progress=False)
            seconds = time.perf_counter() - start
            spilled = spilled_files()
    watch.thread = watch.stop = None  # neither can be sent to another process
    return Result(summary.n_cells - summary.n_failed, seconds, watch, spilled)


def run_alone(n: int, deblender: str) -> Result:
    """Return `measure_run` of a process of its own."""
    (result,) = run_in_turn((n,), deblender)
    return result


def run_in_turn(numbers: Sequence[int], deblender: str) -> list[Result]:
    """Return `measure_run` of each of some numbers of tiles, in one process and one Ray."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_in_turn, (numbers, deblender))


def _measure_in_turn(numbers: Sequence[int], deblender: str) -> list[Result]:
    from raydeblend.session import ray_session

    with ray_session():
        return [measure_run(n, deblender) for n in numbers]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, nargs="*", default=[4, 40, 400])
    parser.add_argument("--soak", type=int, default=0, help="cells of a soak test, e.g. 2000")
    parser.add_argument("--deblender", default="joint")
    options = parser.parse_args()
    print(circumstances(), flush=True)
    rows = [_row(n, run_alone(n, options.deblender)) for n in options.tiles]
    if rows:
        print(markdown(["tiles", "s", *SOAK_HEADER[1:], "spilled"], rows), flush=True)
    if options.soak:
        result = run_alone(options.soak, options.deblender)
        print(f"\nsoak: {result.cells} cells in {result.seconds:.0f} s, {result.spilled} spilled\n")
        print(markdown(SOAK_HEADER, _soak_rows(result.watch)))


def _row(n: int, result: Result) -> list[str]:
    peaks = [f"{result.watch.peak(kind):.0f}" for kind in KINDS]
    store = f"{max(result.watch.store, default=0):.1f}"
    return [str(n), f"{result.seconds:.0f}", *peaks, store, str(result.spilled)]


def _soak_rows(watch: MemoryWatch) -> list[list[str]]:
    return [
        [str(tenth), *(f"{value:.0f}" for value in kinds), f"{store:.1f}"]
        for tenth, (*kinds, store) in enumerate(watch.tenths(), start=1)
    ]


if __name__ == "__main__":
    main()
