"""What grows with a survey: ``python -m benchmarks.scale [plan headers ledger] [--tiles 37500]``.

``plan``     headers of synthetic HSC patches (16 cells each) to cells, plan.parquet and run.json
``headers``  headers read from real small FITS files, and from a manifest, extrapolated
``ledger``   entries gathered as by the driver, and the whole ledger read
Each part runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks.circumstances import circumstances
from raydeblend.evaluate.common.tables import markdown
from raydeblend.fits import find_tiles, write_band
from raydeblend.fits.manifest import to_manifest, write_manifest
from raydeblend.pipeline.compactor import LedgerCompactor
from raydeblend.pipeline.entries import LedgerEntry, write_entry
from raydeblend.pipeline.entry_tables import ENTRIES_PER_TABLE
from raydeblend.pipeline.ledger import (
    Run,
    begin_output,
    check_output,
    describe_plan,
    keys,
    read_plan,
)
from raydeblend.pipeline.ledger_files import list_ledger, read_ledger
from raydeblend.pipeline.plan import plan_survey
from raydeblend.tile import BandFile, TileHeader

BANDS = ("g", "r", "i")
PATCH, STEP, SCALE = 4200, 4000, 0.168
CELL = 1050
"""Sixteen cells a patch."""
ROW = list[str]


def main() -> None:
    """Run the parts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=" ".join(PARTS))
    parser.add_argument("--tiles", type=int, default=37_500, help="patches of 16 cells")
    options = parser.parse_args()
    print(circumstances(), flush=True)
    header = ["part", "wall s", "CPU s", "peak MiB", "what"]
    for part in options.parts:
        print(markdown(header, _alone(PARTS[part], options.tiles)), flush=True)


def _alone(part: Callable[[int], Iterator[ROW]], tiles: int) -> list[ROW]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_listed, (part, tiles))


def _listed(part: Callable[[int], Iterator[ROW]], tiles: int) -> list[ROW]:
    return list(part(tiles))


class Stopwatch:
    """Wall and CPU seconds since it was made, and the process's peak memory."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def row(self, part: str, what: str) -> ROW:
        """Return a row of the table and start again."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return [part, f"{wall:.1f}", f"{cpu:.1f}", f"{peak:.0f}", what]


def patches(n: int) -> list[TileHeader]:
    """Return headers of `n` HSC patches in three bands, nine by nine on a tract."""
    return [_patch(i // 81, i % 81 // 9, i % 9) for i in range(n)]


def _patch(tract: int, row: int, column: int) -> TileHeader:
    name = f"{9000 + tract}-{column},{row}"
    files = tuple(
        BandFile(band, f"s3://hsc/deepCoadd-results/{name}/{band}/calexp.fits", None, 57.54, "9:e")
        for band in BANDS
    )
    cards = _cards(tract, STEP * column, STEP * row)
    return TileHeader(name, BANDS, files, (PATCH, PATCH), cards, SCALE)


def _cards(tract: int, x0: int, y0: int) -> str:
    """Return a tangential WCS; written by hand, since astropy takes 2 ms for one."""
    values = {
        "WCSAXES": "2",
        "CRPIX1": f"{1.0 - x0}",
        "CRPIX2": f"{1.0 - y0}",
        "CDELT1": f"{-SCALE / 3600:.13E}",
        "CDELT2": f"{SCALE / 3600:.13E}",
        "CUNIT1": "'deg'",
        "CUNIT2": "'deg'",
        "CTYPE1": "'RA---TAN'",
        "CTYPE2": "'DEC--TAN'",
        "CRVAL1": f"{1.5 * (tract % 200)}",
        "CRVAL2": f"{1.5 * (tract // 200)}",
        "RADESYS": "'ICRS'",
    }
    return "".join(f"{name:8}= {value:>20}".ljust(80) for name, value in values.items())


def plan_part(tiles: int) -> Iterator[ROW]:
    """Plan `tiles` patches, open an output, and read it back."""
    headers = patches(tiles)
    watch = Stopwatch()
    yield watch.row("plan", f"{tiles} headers held in memory, before")
    plan = plan_survey(headers, CELL, 96)
    yield watch.row("plan", f"{len(plan)} cells with their neighbors")
    task = [plan.task(i) for i in range(0, len(plan), max(1, len(plan) // 1000))]
    yield watch.row("plan", f"{len(task)} cells taken apart by workers")
    with tempfile.TemporaryDirectory() as out:
        run = Run("s3://hsc", {"bands": BANDS}, "0", {"joint": ""}, {}, describe_plan(plan))
        tiles = to_manifest(headers)
        check_output(out, run, plan, tiles, resume=True, overwrite=False)
        begin_output(out, run, plan, tiles, overwrite=False)
        sizes = {path.name: path.stat().st_size / 1e6 for path in Path(out).iterdir()}
        said = ", ".join(f"{name} {size:.2f} MB" for name, size in sorted(sizes.items()))
        yield watch.row("plan", f"written: {said}")
        planned = keys(read_plan(out))
        yield watch.row("plan", f"{len(planned)} cells read back")


def headers_part(tiles: int, n: int = 400) -> Iterator[ROW]:
    """Read the headers of `n` real tiles from files and from a manifest, and extrapolate."""
    with tempfile.TemporaryDirectory() as folder:
        for i in range(n):
            _write_patch(folder, i)
        watch = Stopwatch()
        headers, _ = find_tiles(folder, BANDS)
        row = watch.row("headers", "")
        whole = float(row[2]) / n * tiles
        yield [*row[:4], f"{len(headers)} tiles from files; {tiles}: {whole:.0f} CPU s, parallel"]
        manifest = f"{folder}/tiles.parquet"
        write_manifest(manifest, to_manifest(patches(tiles)))
        watch = Stopwatch()
        planned, _ = find_tiles(folder, BANDS, manifest=manifest)
        yield watch.row("headers", f"{len(planned)} tiles from a manifest with headers, no file")


def _write_patch(folder: str, i: int) -> None:
    header = fits.Header.fromstring(_cards(i // 81, STEP * (i % 9), STEP * (i // 9 % 9)))
    image = np.zeros((8, 8), np.float32)
    for band in BANDS:
        path = f"{folder}/{i:05d}_{band}.fits"
        write_band(path, image, image.astype(int), image, header, np.eye(3), 6e10, {"BAD": 0})


def ledger_part(tiles: int) -> Iterator[ROW]:
    """Gather the entries of `tiles` patches as the driver does, and read the ledger."""
    plan = plan_survey(patches(tiles), CELL, 96)
    seconds = {"detect": 3.25, "deblend": 21.5, "measure": 4.125, "write": 0.0625}
    flags = {"EDGE": 3, "MASKED": 40, "BAND_MISSING": 2, "LOW_QUALITY": 12}
    with tempfile.TemporaryDirectory() as out:
        watch = Stopwatch()
        gatherer = LedgerCompactor(out)
        for i, (tile, cell) in enumerate(plan.keys()):
            gatherer.add(
                LedgerEntry(tile, cell, "done", "", 300 + i % 7, 60, 200, seconds, 900.0 + i % 9,
                            "w" * 16, "c" * 16, flags)
            )  # fmt: skip
        gatherer.close()
        size = sum(path.stat().st_size for path in Path(out).rglob("*.parquet")) / 1e6
        files = list_ledger(out)
        yield watch.row(
            "ledger", f"{len(plan)} entries into {len(files.tables)} tables, {size:.2f} MB"
        )
        table = read_ledger(out)
        yield watch.row("ledger", f"{len(table)} entries read, of tables alone")
        for tile, cell in plan.keys()[:ENTRIES_PER_TABLE]:
            write_entry(out, LedgerEntry(tile, cell, "done"))
        yield watch.row("ledger", f"{ENTRIES_PER_TABLE} files of their own written")
        table = read_ledger(out)
        yield watch.row("ledger", f"{len(table)} entries read, with {ENTRIES_PER_TABLE} files")


PARTS = {"plan": plan_part, "headers": headers_part, "ledger": ledger_part}

if __name__ == "__main__":
    main()
