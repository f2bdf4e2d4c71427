"""Deblenders on the same blends: ``python -m benchmarks.deblend [--deblender NAME ...]``.

Blends of two (or three) galaxies to Wang et al.'s protocol; accuracy beside the CPU time of a
blend, of one thread after a first batch that loads and compiles, and the speed over that of the
first deblender named.  Positions are a deblender's own, or given: the true ones.  ``joint-true``,
scarlet, scarlet_lite and Tractor are given them; the peers come last, each wherever it imports
(docs/research/peers.md).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.circumstances import circumstances
from benchmarks.scarlet_lite import ScarletLite
from benchmarks.tractor import TractorSersic
from raydeblend.evaluate.common.baselines import (
    GIVEN_POSITIONS,
    SCARLET,
    SCARLET_LITE,
    TRACTOR,
    find_scarlet,
    load_named,
)
from raydeblend.evaluate.common.blends import Blends, BlendSet, read_blends
from raydeblend.evaluate.common.rows import Row
from raydeblend.evaluate.common.tables import Table, to_file, to_markdown
from raydeblend.evaluate.wang2022.scores import BATCH, deblend, make_rows, score_deblender
from raydeblend.tile import Deblender

VALID = Path("../shared/data/protocols/wang2022_valid.npz")


def main() -> None:
    """Score and time each deblender and print the table."""
    options = _options()
    torch.set_num_threads(1)
    # The faint wings of galaxies are denormal numbers, with which CPUs are many times slower.
    torch.set_flush_denormal(True)
    print(circumstances(), flush=True)
    data = read_blends(str(options.data))
    blends = next(p for p in data.blends if p.n_galaxies == options.galaxies)[: options.n]
    rates: dict[str, float] = {}
    lines = []
    for name, deblender in _load(options.deblender).items():
        deblend(deblender, blends[:2], data)
        rates[name] = _rate(deblender, blends, data)
        rows = make_rows(score_deblender(name, deblender, blends, data))
        faster = rates[name] / next(iter(rates.values()))
        lines.append([*_cells(name, rows, rates[name]), f"{faster:.2f}"])
    header = ["deblender", "positions", "PSNR", "flux error", "found", "ms a blend"]
    table = Table([*header, f"over {options.deblender[0]}"], lines)
    print(f"{len(blends)} blends; galaxies 1 / 2{' / 3' * (options.galaxies - 2)}")
    print(to_markdown([table]))
    if options.json:
        options.json.write_bytes(to_file([table]))


def _load(names: list[str]) -> dict[str, Deblender]:
    """Load deblenders by name, and each peer wherever it imports."""
    loaded = {name: load_named(name) for name in names}
    peers: dict[str, Deblender | None] = {
        SCARLET: load_named(SCARLET) if find_scarlet() else None,
        SCARLET_LITE: ScarletLite.find(),
        TRACTOR: TractorSersic.find(),
    }
    missing = [name for name, peer in peers.items() if peer is None]
    if missing:
        print(f"not run, since they do not import here: {', '.join(missing)}", flush=True)
    return loaded | {name: peer for name, peer in peers.items() if peer is not None}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100, help="blends")
    parser.add_argument("--galaxies", type=int, choices=(2, 3), default=2, help="of each blend")
    parser.add_argument("--data", type=Path, default=VALID, help="test set (.npz)")
    parser.add_argument("--deblender", nargs="+", default=["joint", "rdn", "sep", "joint-true"])
    parser.add_argument("--json", type=Path, help="file that gets the table too")
    return parser.parse_args()


def _rate(deblender: Deblender, blends: Blends, data: BlendSet) -> float:
    start = time.process_time()
    for first in range(0, len(blends), BATCH):
        deblend(deblender, blends[first : first + BATCH], data)
    return len(blends) / (time.process_time() - start)


def _cells(name: str, rows: list[Row], rate: float) -> list[str]:
    def each(column: str, digits: int) -> str:
        return " / ".join(f"{row[column]:.{digits}f}" for row in rows)

    return [
        name,
        "given" if name in GIVEN_POSITIONS else "own",
        each("psnr_mean", 1),
        each("flux_mape", 3),
        each("found", 3),
        f"{1000 / rate:.1f}",
    ]


if __name__ == "__main__":
    main()
