"""The survey run as a whole: ``python -m benchmarks.survey [--size 400] [--deblender joint]``.

One table: wall time against the sum of the stages over the cores; how long the network's actors
wait; cells per second with stages that do nothing, and how many cores one driver can feed at that
rate; and beside a plain script of sep and ngmix on the same tile, where ngmix is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import ray

from benchmarks.cells import CellCataloger
from benchmarks.circumstances import circumstances
from benchmarks.plain import run_plain
from benchmarks.scale import patches
from raydeblend import catalog
from raydeblend.config import CatalogConfig
from raydeblend.evaluate.common.tables import markdown
from raydeblend.fits import find_tiles
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.execution import Execution
from raydeblend.pipeline.ledger import Run
from raydeblend.pipeline.plan import CellTask, Plan, plan_survey
from raydeblend.pipeline.rounds import CPUS_PER_CELL_IN_BLOCK, process
from raydeblend.pipeline.rows import Measured
from raydeblend.pipeline.run import describe
from raydeblend.pipeline.stages import (
    DeblendCell,
    Stages,
    choose_photometry,
    detect_cell,
    measure_cell,
)
from raydeblend.session import ray_session
from raydeblend.simulate.tiles import simulate_tiles
from raydeblend.tile import TileHeader

BANDS = ("g", "r", "i")
NODES, CORES_A_NODE = 1000, 16
A_BLOCK = NODES * CORES_A_NODE // CPUS_PER_CELL_IN_BLOCK
"""Cells that a run on so many cores puts into a block."""
FULL_CELL = 1024
ROW = list[str]


@dataclass(frozen=True)
class Timing:
    """A run of `process`: wall seconds, those until a run of one cell was through, entries."""

    wall: float
    start_up: float
    cores: int
    actors: int
    entries: tuple[LedgerEntry, ...]

    def spent(self, stage: str | None = None) -> float:
        """Return the seconds of one stage, or of all, over the cells."""
        chosen = [entry.seconds for entry in self.entries]
        return sum(sum(s.values()) if stage is None else s.get(stage, 0.0) for s in chosen)

    @property
    def sources(self) -> int:
        """Rows of the catalog."""
        return sum(entry.sources for entry in self.entries)


def main() -> None:
    """Measure and print the table."""
    options = _options()
    load = os.getloadavg()[0]
    print(f"{circumstances()}; load {load:.1f} on {os.cpu_count()} CPUs at the start", flush=True)
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        header = _simulate(f"{folder}/tiles", options.size, options.seed)
        config = CatalogConfig(
            BANDS, deblender=options.deblender, cell_size=options.size // 4, border=64
        )
        config = replace(config, photometry=choose_photometry(config))
        with ray_session():
            timing = _time_run(header, config, f"{folder}/out")
            empty = _time_empty(options.cells, f"{folder}/empty", config)
            many = _time_empty(16 * options.cells, f"{folder}/blocks", config, A_BLOCK)
        rows = list(_chain_rows(timing))
        inline = _time_inline(header, config)
        rows += [*_scheduling_rows(empty, many, inline.core_s * (FULL_CELL / options.size) ** 2)]
        rows += _plain_rows(header, inline)
        if options.injections:
            full = _simulate(f"{folder}/full", FULL_CELL, options.seed)
            rows.append(_injection_row(full, replace(config, cell_size=FULL_CELL), options))
    print(markdown(["what", "measured", "how"], rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=400, help="side of the tile, 16 cells")
    parser.add_argument("--cells", type=int, default=200, help="cells with empty stages")
    parser.add_argument("--deblender", default="joint")
    parser.add_argument("--injections", type=int, default=3, help="into a 1024² cell; 0: leave out")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--scratch", help="directory for tiles and catalogs")
    return parser.parse_args()


def _simulate(folder: str, size: int, seed: int) -> TileHeader:
    simulate_tiles(folder, "HSC", BANDS, 1, size, seed=seed)
    return find_tiles(folder, BANDS)[0][0]


def _time_run(header: TileHeader, config: CatalogConfig, out: str) -> Timing:
    plan = plan_survey([header], config.cell_size, config.border)
    run = describe("tiles", config, plan)
    first, _ = _clock(plan, [0], f"{out}/first", config, run)
    wall, entries = _clock(plan, range(1, len(plan)), f"{out}/rest", config, run)
    _, (again,) = _clock(plan, [0], f"{out}/again", config, run)
    cores = int(ray.cluster_resources()["CPU"])
    # What one cell alone takes beyond its stages: workers, actors and their imports.
    start_up = max(first - sum(again.seconds.values()), 0.0)
    return Timing(wall, start_up, cores, cores, tuple(entries))


def _clock(
    plan: Plan, todo: range | list[int], out: str, config: CatalogConfig, run: Run
) -> tuple[float, list[LedgerEntry]]:
    start = time.perf_counter()
    entries = list(process(plan, np.array(todo, np.int64), out, config, run))
    return time.perf_counter() - start, entries


def _chain_rows(timing: Timing) -> Iterator[ROW]:
    cells, ideal = len(timing.entries), timing.spent() / timing.cores
    shares = ", ".join(f"{name} {timing.spent(name):.1f}" for name in timing.entries[0].seconds)
    yield [
        "stages",
        f"{timing.spent():.1f} s",
        f"{cells} cells, {timing.sources} sources: {shares}",
    ]
    yield [
        "wall time",
        f"{timing.wall:.1f} s",
        f"on {timing.cores} cores, start-up of the graph in it",
    ]
    yield ["start-up", f"{timing.start_up:.1f} s", "one cell in a fresh session, less its stages"]
    yield ["wall / (stages / cores)", f"{timing.wall / ideal:.2f}", "bar 1.25 in a long run"]
    waiting = 1 - timing.spent("deblend") / (timing.actors * timing.wall)
    yield [
        "actors wait",
        f"{100 * waiting:.0f} %",
        f"of the wall time of {timing.actors} actor(s); "
        f"{100 * timing.spent('deblend') / timing.spent():.0f} % of the work is theirs",
    ]


# Stages that do nothing


def nothing(content: object) -> object:
    """Return what came in."""
    return content


def make_nothing() -> Callable[[object], object]:
    """Return the stage of an actor that does nothing."""
    return nothing


def no_rows(content: CellTask, bands: tuple[str, ...]) -> Measured:
    """Return the empty shard of a cell."""
    return Measured(content, catalog.schema(bands).empty_table())


@dataclass(frozen=True)
class Scheduling:
    """Cells with empty stages: how many, their wall seconds and the driver's CPU seconds."""

    cells: int
    wall: float
    driver_cpu: float

    @property
    def rate(self) -> float:
        """Cells per second."""
        return self.cells / self.wall

    @property
    def cpu_ms(self) -> float:
        """The driver's CPU milliseconds a cell."""
        return 1000 * self.driver_cpu / self.cells


def _time_empty(
    cells: int, out: str, config: CatalogConfig, cells_per_block: int = 1
) -> Scheduling:
    """Time what is beyond a first part, in which workers start."""
    plan = plan_survey(patches(-(-cells // 16) + 2), 1050, 96)
    run = describe("patches", config, plan)
    stages = Stages(nothing, make_nothing, partial(no_rows, bands=BANDS))
    blocks = Execution(cells_per_block=cells_per_block)
    marks = []
    for n in (16, cells):
        start, cpu = time.perf_counter(), time.process_time()
        done = list(process(plan, np.arange(n), f"{out}/{n}", config, run, blocks, stages))
        marks.append((len(done), time.perf_counter() - start, time.process_time() - cpu))
    (few, wall_few, cpu_few), (many, wall, cpu) = marks
    return Scheduling(many - few, wall - wall_few, cpu - cpu_few)


def _scheduling_rows(empty: Scheduling, many: Scheduling, work: float) -> Iterator[ROW]:
    """Yield what a driver can feed, if a full cell takes `work` core-seconds."""
    for timing, cells_per_block in ((empty, 1), (many, A_BLOCK)):
        blocks = f"{timing.cells} cells, {cells_per_block} a block"
        what = f"{blocks}; the driver's CPU {timing.cpu_ms:.1f} ms"
        yield [
            f"empty stages, blocks of {cells_per_block}",
            f"{timing.rate:.1f} cells/s",
            f"{what} a cell",
        ]
    yield ["work of a 1024² cell", f"{work:.0f} core-s", "the tile in one cell, scaled by area"]
    need = NODES * CORES_A_NODE
    one, blocks = (1000 / timing.cpu_ms * work for timing in (empty, many))
    limit = "the bottleneck" if blocks < need else "the first limit, not reached"
    yield [
        f"{NODES} nodes",
        f"{need / work:.0f} cells/s",
        f"asked for by {need} cores; a driver with a core to itself feeds {one:.0f} cores cell by "
        f"cell and {blocks:.0f} by blocks of {A_BLOCK}, as it does there: its thread is {limit}",
    ]


# Beside a plain script, by CPU seconds of one process, which other work does not move


@dataclass(frozen=True)
class Inline:
    """All stages of the tile in one cell, without Ray."""

    what: str
    sources: int
    core_s: float

    @property
    def rate(self) -> float:
        """Sources per CPU second."""
        return self.sources / self.core_s


def _time_inline(header: TileHeader, config: CatalogConfig) -> Inline:
    config = replace(config, cell_size=max(header.shape), inject=0)
    task, deblend = (
        plan_survey([header], config.cell_size, config.border).task(0),
        DeblendCell(config),
    )
    for _ in range(2):  # the first loads and compiles
        start = time.process_time()
        table = measure_cell(deblend(detect_cell(task, config)), config).table
        seconds = time.process_time() - start
    return Inline(f"{config.deblender} + {config.photometry}", table.num_rows, seconds)


def _plain_rows(header: TileHeader, inline: Inline) -> Iterator[ROW]:
    how = f"all stages, {inline.what}: {inline.sources} in {inline.core_s:.1f} CPU s"
    yield ["ours", f"{inline.rate:.2f} sources/s/core", how]
    if importlib.util.find_spec("ngmix") is None:
        yield ["sep + ngmix", "-", "ngmix is not installed"]
        return
    run_plain(header)  # ngmix compiles at its first fit
    plain = run_plain(header)
    yield [
        "sep + ngmix",
        f"{plain.rate:.2f} sources/s/core",
        f"{plain.found} found, {plain.fitted} fitted one by one, blends not taken apart: "
        f"sep {plain.detect_s:.1f} s, ngmix {plain.fit_s:.1f} s; "
        f"ours / this {inline.rate / plain.rate:.2f}",
    ]


# Injected sources


def _injection_row(header: TileHeader, config: CatalogConfig, options: argparse.Namespace) -> ROW:
    """Compare the work for a cell and that for copies with the usual density of sources."""
    cataloger, cpu = CellCataloger(config), time.process_time
    task = plan_survey([header], config.cell_size, config.border).task(0)
    tile = cataloger.read(task)
    cataloger.catalog(cataloger.detect(task))  # loads and compiles
    start = cpu()
    detected = cataloger.detect(task)
    clean = cataloger.catalog(detected)
    usual, start = cpu() - start, cpu()
    copies = [cataloger.copy(tile, detected, seed) for seed in range(options.injections)]
    n = sum(len(cataloger.recover(copy, clean)) for copy in copies)
    spent = (cpu() - start) / options.injections
    return [
        "injection",
        f"{100 * spent / usual:.1f} %",
        f"{spent:.1f} CPU s for {n / options.injections:.1f} sources beside {usual:.1f} for "
        f"{clean.num_rows} of a {FULL_CELL}² cell, mean of {options.injections}; bar 5 %",
    ]


if __name__ == "__main__":
    main()
