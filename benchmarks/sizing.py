"""What a survey costs: ``python -m benchmarks.sizing TILES --bands g,r,i [--deblender joint]``.

Does one cell after another in this process, counts CPU seconds of each stage (so that a busy
machine gives the same answer), and works out a survey of 1,000 square degrees from them.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from benchmarks.circumstances import circumstances
from raydeblend import catalog
from raydeblend.config import CatalogConfig
from raydeblend.evaluate.common.tables import markdown
from raydeblend.fits import find_tiles
from raydeblend.pipeline.plan import CellTask, plan_survey
from raydeblend.pipeline.stages import choose_photometry, stages_of

AREA_DEG2 = 1000.0
PATCH_PX, PATCH_STEP_PX = 4100, 4000
"""Side of an HSC or LSST patch, and how far the next one begins."""
BYTES_PER_PIXEL = 12
"""Image, mask and variance of one band, four bytes each, not compressed."""
UTILIZATION = 0.8
"""Part of the cores' time that is work: the rest is start-up, spot losses and the last cells."""
USD_PER_CORE_HOUR = 0.02
"""A spot core; look up your own."""


@dataclass
class Rates:
    """What the cells took: CPU seconds by stage, sources, sky area and shard bytes."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    sources: int = 0
    arcmin2: float = 0.0
    shard_bytes: int = 0

    def add(self, task: CellTask, stages: dict[str, Callable[[object], object]]) -> None:
        """Do one cell."""
        content: object = task
        for name, stage in stages.items():
            start = time.process_time()
            content = stage(content)
            self.seconds[name] += time.process_time() - start
        table = content.table  # type: ignore[attr-defined]
        rows, columns = task.cell.inner.shape
        self.sources += table.num_rows
        self.arcmin2 += rows * columns * (task.cell.tile.pixel_scale / 60) ** 2
        self.shard_bytes += len(catalog.to_bytes(table))


def measure(tiles: str, config: CatalogConfig, n_cells: int) -> tuple[Rates, float]:
    """Return the rates over the first cells and the pixel scale in arcsec."""
    headers, _ = find_tiles(tiles, config.bands, config.image_pattern, config.psf_pattern)
    plan = plan_survey(headers, config.cell_size, config.border)
    config = replace(config, photometry=choose_photometry(config))
    made = stages_of(config)
    stages = {"detect": made.detect, "deblend": made.deblend(), "measure": made.measure}
    # A first cell that does not count: imports, compilation, caches.
    Rates().add(plan.task(len(plan) - 1), stages)
    rates = Rates()
    for i in range(min(n_cells, len(plan))):
        rates.add(plan.task(i), stages)
    return rates, headers[0].pixel_scale


def rate_rows(rates: Rates) -> list[list[str]]:
    """Return CPU seconds per source and per square arcminute of each stage."""
    lines = [["all", sum(rates.seconds.values())], *rates.seconds.items()]
    return [
        [name, f"{1e3 * s / rates.sources:.1f}", f"{s / rates.arcmin2:.2f}"]
        for name, s in [(str(name), float(s)) for name, s in lines]
    ]


def size_rows(rates: Rates, pixel_scale: float, n_bands: int) -> list[list[str]]:
    """Return what `AREA_DEG2` needs, line by line with its arithmetic."""
    step_deg = PATCH_STEP_PX * pixel_scale / 3600
    patches = AREA_DEG2 / step_deg**2
    read = patches * PATCH_PX**2 * BYTES_PER_PIXEL * n_bands
    arcmin2 = AREA_DEG2 * 3600
    sources = arcmin2 * rates.sources / rates.arcmin2
    hours = arcmin2 / rates.arcmin2 * sum(rates.seconds.values()) / 3600
    paid = hours / UTILIZATION
    return [
        ["patches", f"{patches:,.0f}", f"{AREA_DEG2:g} deg² / ({step_deg:.4f}°)²"],
        ["read", f"{read / 1e12:.1f} TB", f"× {PATCH_PX}² px × {BYTES_PER_PIXEL} B × {n_bands}"],
        ["sources", f"{sources / 1e6:.0f} M", f"{rates.sources / rates.arcmin2:.1f} per arcmin²"],
        ["catalog", f"{sources * rates.shard_bytes / rates.sources / 1e9:.0f} GB",
         f"{rates.shard_bytes / rates.sources:.0f} B a source"],
        ["core hours", f"{hours:,.0f}", "CPU seconds of all stages"],
        ["on 1,000 cores", f"{paid / 1000:.1f} h", f"{UTILIZATION:.0%} of the time at work"],
        ["cost", f"{paid * USD_PER_CORE_HOUR:,.0f} USD", f"{USD_PER_CORE_HOUR} USD a core hour"],
    ]  # fmt: skip


def main() -> None:
    """Print the rates and the size of a survey."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tiles")
    parser.add_argument("--bands", default="g,r,i")
    parser.add_argument("--deblender", default="joint")
    parser.add_argument("--cell-size", type=int, default=1024)
    parser.add_argument("--cells", type=int, default=4, help="how many are done")
    options = parser.parse_args()
    bands = tuple(options.bands.split(","))
    config = CatalogConfig(bands, deblender=options.deblender, cell_size=options.cell_size)
    rates, scale = measure(options.tiles, config, options.cells)
    print(circumstances())
    print(f"{options.deblender}: {rates.sources} sources on {rates.arcmin2:.2f} arcmin²\n")
    print(markdown(["stage", "CPU ms / source", "CPU s / arcmin²"], rate_rows(rates)))
    print(f"\n{AREA_DEG2:g} square degrees in {options.bands}:\n")
    print(markdown(["", "", "from"], size_rows(rates, scale, len(bands))))


if __name__ == "__main__":
    main()
