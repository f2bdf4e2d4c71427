"""Deblenders on the same blends: ``python -m benchmarks.deblend [--deblender NAME ...]``.

Blends of two galaxies to Wang et al.'s protocol; accuracy beside the blends that one core takes
apart in a second, and the ratio to the first deblender named.  Times are CPU seconds of one
thread, after a first batch that loads and compiles.  scarlet, told the true positions, comes last
wherever it imports.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.circumstances import circumstances
from raydeblend.deblend import load_deblender
from raydeblend.evaluate.common.blends import Blends, BlendSet, read_blends
from raydeblend.evaluate.common.scarlet import NAME as SCARLET
from raydeblend.evaluate.common.scarlet import ScarletDeblender, find_scarlet
from raydeblend.evaluate.common.tables import Table, to_file, to_markdown
from raydeblend.evaluate.wang2022.scores import BATCH, Row, deblend, make_rows, score_deblender
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
    blends = next(part for part in data.blends if part.n_galaxies == 2)[: options.n]
    rates: dict[str, float] = {}
    lines = []
    for name, deblender in _load(options.deblender).items():
        deblend(deblender, blends[:2], data)
        rates[name] = _rate(deblender, blends, data)
        rows = make_rows(score_deblender(name, deblender, blends, data))
        lines.append(
            [name, *_cells(rows, rates[name]), f"{rates[name] / next(iter(rates.values())):.2f}"]
        )
    header = ["deblender", "PSNR 1", "PSNR 2", "mape 1", "mape 2", "found 2", "blends/s/core"]
    table = Table([*header, f"over {options.deblender[0]}"], lines)
    print(to_markdown([table]))
    if options.json:
        options.json.write_bytes(to_file([table]))


def _load(names: list[str]) -> dict[str, Deblender]:
    """Load deblenders by name, and scarlet wherever it imports."""
    loaded = {name: load_deblender(name, "cpu") for name in names}
    if find_scarlet() is None:
        print("scarlet does not import here and is not run", flush=True)
        return loaded
    return loaded | {SCARLET: ScarletDeblender.load()}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100, help="blends")
    parser.add_argument("--data", type=Path, default=VALID, help="test set (.npz)")
    parser.add_argument("--deblender", nargs="+", default=["joint", "rdn", "sep"])
    parser.add_argument("--json", type=Path, help="file that gets the table too")
    return parser.parse_args()


def _rate(deblender: Deblender, blends: Blends, data: BlendSet) -> float:
    start = time.process_time()
    for first in range(0, len(blends), BATCH):
        deblend(deblender, blends[first : first + BATCH], data)
    return len(blends) / (time.process_time() - start)


def _cells(rows: list[Row], rate: float) -> list[str]:
    first, second = rows
    return [
        f"{first['psnr_mean']:.2f}",
        f"{second['psnr_mean']:.2f}",
        f"{first['flux_mape']:.3f}",
        f"{second['flux_mape']:.3f}",
        f"{second['found']:.3f}",
        f"{rate:.1f}",
    ]


if __name__ == "__main__":
    main()
