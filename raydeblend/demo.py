"""The demonstration: a small simulated survey from pixels to a scored catalog."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydeblend import storage, tables
from raydeblend.catalog import read_catalog
from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.figures import survey_figure
from raydeblend.evaluate.common.tables import to_markdown
from raydeblend.evaluate.survey.magnitudes import magnitude_bins, magnitude_table
from raydeblend.evaluate.survey.scores import compare
from raydeblend.fits import find_tiles, read_tile
from raydeblend.pipeline.deblended import DeblendedCell
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.preparation import RunRequest
from raydeblend.pipeline.stages import detect_cell
from raydeblend.pipeline.summary import RunSummary
from raydeblend.pipeline.survey import run_catalog
from raydeblend.session import ray_session
from raydeblend.simulate.tiles import simulate_tiles
from raydeblend.survey import get_survey
from raydeblend.tile import FloatArray, TileHeader
from raydeblend.wording import amount, fitted

BANDS = ("g", "r", "i")
N_TILES = 4
SIZE = 512
OVERLAP = 64
SEED = 1


def run_demo(out: str) -> None:
    """Simulate, catalog and score; print a table and the paths of catalog and figure.

    What an earlier call left in `out` (a local directory) is reused.
    """
    if not storage.is_local(out):
        raise ConfigError(f"the demo writes to a local directory, not to {out}")
    tiles, result = str(Path(out, "tiles")), str(Path(out, "catalog"))
    config = CatalogConfig(bands=BANDS, cell_size=SIZE)
    with ray_session():
        truth = _tiles(tiles)
        seconds, summary = _catalog(tiles, result, config)
    catalog = read_catalog(result)
    print(f"\n{amount(summary.n_sources, 'source')}, {amount(summary.n_blends, 'blend')}")
    if seconds:
        print(f"{summary.n_sources / seconds:.1f} sources per second, start of Ray left out")
    table = magnitude_table(magnitude_bins(*compare(catalog, truth, BANDS), BANDS))
    print(f"\n{fitted(to_markdown([table]))}")
    figure = Path(out, "demo.png")
    figure.write_bytes(_figure(tiles, catalog, config))
    print(f"catalog: {summary.catalog}\nledger:  {summary.ledger}\nfigure:  {figure}")


def _tiles(tiles: str) -> pa.Table:
    """Simulate the tiles unless they are there; return the truth."""
    truth = storage.join(tiles, "truth.parquet")
    if storage.exists(truth):
        print(f"reusing the simulated tiles in {tiles}")
    else:
        print(f"simulating {N_TILES} HSC tiles of {SIZE} x {SIZE} pixels in {', '.join(BANDS)}")
        simulate_tiles(tiles, "HSC", BANDS, N_TILES, SIZE, OVERLAP, SEED, overwrite=True)
    return tables.from_parquet(storage.read_bytes(truth))


def _catalog(tiles: str, out: str, config: CatalogConfig) -> tuple[float, RunSummary]:
    """Run the catalog, or reuse that of the same code and weights; return the seconds it took."""
    if storage.exists(storage.join(out, "run.json")):
        try:
            summary = run_catalog(tiles, out, config, RunRequest(resume=True))
        except ConfigError as changed:
            print(changed)
        else:
            print(f"reusing the catalog in {out}")
            return 0.0, summary
    print(f"cataloging into {out}")
    start = time.monotonic()
    summary = run_catalog(tiles, out, config, RunRequest(overwrite=True))
    return time.monotonic() - start, summary


def _figure(tiles: str, catalog: pa.Table, config: CatalogConfig) -> bytes:
    """Draw the first tile and its blend of most sources."""
    header = find_tiles(tiles, BANDS, config.image_pattern, config.psf_pattern)[0][0]
    separated = _separate(header, config)
    counts = [len(part.models) if _whole(part.models) else 0 for part in separated.parts]
    chosen = int(np.argmax(counts))
    blend, part = separated.detected.blends[chosen], separated.parts[chosen]
    tile = read_tile(header, header.box, get_survey(config.survey), config.bad_planes)
    mine = catalog.filter(pc.equal(catalog["tile"], header.name))
    xy = np.stack([mine["x"].to_numpy(), mine["y"].to_numpy()], axis=1)
    return survey_figure(tile.image, xy, blend.image, part.models, part.xy)


def _separate(header: TileHeader, config: CatalogConfig) -> DeblendedCell:
    task = plan_survey([header], config.cell_size, config.border).task(0)
    return DeblendCell(config)(detect_cell(task, config))


def _whole(models: FloatArray) -> bool:
    """Tell whether a blend is small enough to be seen in a figure."""
    return bool(models.shape[-1] <= 96)
