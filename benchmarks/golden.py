"""Whether results are still the same bytes: ``python -m benchmarks.golden RECORD [--check]``.

Writes to the file RECORD the SHA-256 of every shard of the demo's tiles and of the real HSC field
with each deblender, of the models of the first blends of the wang2022 validation file, and of
its metrics without times; ``--check`` makes all of it again and names what differs (exit code 1).
Whoever changes code without meaning to change a result makes a record before and checks it after.
A record holds on one machine only: other processors round differently.

One thread, no Ray; needs ../shared/data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.circumstances import circumstances
from raydeblend import demo
from raydeblend.config import DEBLENDERS, CatalogConfig
from raydeblend.deblend import load_deblender
from raydeblend.evaluate.common.blends import BlendSet, read_blends
from raydeblend.evaluate.wang2022.scores import deblend, evaluate_wang2022
from raydeblend.fits import find_tiles
from raydeblend.pipeline.cell_state import CellState, run_stage
from raydeblend.pipeline.outcome import write_cell
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.shards import shard_path
from raydeblend.pipeline.stages import choose_photometry, stages_of
from raydeblend.simulate.scene import Grid, make_scene
from raydeblend.simulate.tiles import DENSITY, write_tile
from raydeblend.survey import get_survey

SHARED = Path("../shared/data")
FIELD = SHARED / "hsc" / "calexp_fields"
VALID = SHARED / "protocols" / "wang2022_valid.npz"
CATALOGED = tuple(name for name in DEBLENDERS if name != "rdn-joint")
BLENDS = 20
"""Of each number of galaxies, whose models are hashed."""

Digest = tuple[str, str]
"""What was hashed, and its SHA-256."""


def main() -> None:
    """Make a record, or compare with one."""
    options = _options()
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    start = time.perf_counter()
    with threadpool_limits(1):
        made = dict(_report(digest) for digest in _digests())
    print(f"{len(made)} digests in {time.perf_counter() - start:.0f} s", flush=True)
    if not options.check:
        record = {"made": circumstances(), "digests": made}
        options.record.write_text(json.dumps(record, indent=1) + "\n")
        return
    sys.exit(compare(json.loads(options.record.read_text())["digests"], made))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("record", type=Path, metavar="RECORD", help="JSON file")
    parser.add_argument("--check", action="store_true", help="compare with RECORD")
    return parser.parse_args()


def _report(digest: Digest) -> Digest:
    print(f"{time.process_time():6.1f}  {digest[1][:12]}  {digest[0]}", flush=True)
    return digest


def compare(recorded: dict[str, str], made: dict[str, str]) -> int:
    """Name what differs between two records; return the exit code."""
    names = sorted(recorded.keys() | made.keys())
    differing = [name for name in names if recorded.get(name) != made.get(name)]
    for name in differing:
        print(f"differs: {name}")
    print(f"{len(names) - len(differing)} of {len(names)} as recorded")
    return 1 if differing else 0


def _digests() -> Iterator[Digest]:
    with tempfile.TemporaryDirectory() as folder:
        _simulate(folder)
        for name in CATALOGED:
            yield from _shards(f"demo/{name}", folder, CatalogConfig(demo.BANDS, deblender=name))
    for name in CATALOGED:
        yield from _shards(f"hsc/{name}", str(FIELD), _field_config(name))
    data = read_blends(str(VALID))
    for name in CATALOGED:
        yield from _models(name, data)
        yield f"metrics/{name}", _metrics(name, data)


def _simulate(folder: str) -> None:
    """Draw the demo's tiles, without Ray."""
    survey = get_survey("HSC")
    grid = Grid(demo.N_TILES, demo.SIZE, demo.OVERLAP, survey.pixel_scale)
    scene = make_scene(survey, demo.BANDS, grid, DENSITY, demo.SEED)
    for tile in range(demo.N_TILES):
        write_tile(scene, tile, demo.SEED, folder)


def _field_config(deblender: str) -> CatalogConfig:
    return CatalogConfig(
        demo.BANDS,
        deblender=deblender,
        image_pattern="{tile}_300x300_{band}.fits",
        psf_pattern="{tile}_{band}_psf.fits",
    )


def _shards(what: str, tiles: str, config: CatalogConfig) -> Iterator[Digest]:
    """Catalog tiles cell by cell and hash the shards."""
    stages = stages_of(_resolved(config))
    headers, _ = find_tiles(tiles, config.bands, config.image_pattern, config.psf_pattern)
    plan = plan_survey(headers, demo.SIZE, config.border)
    deblend_cell = stages.deblend()
    with tempfile.TemporaryDirectory() as out:
        for i, (tile, cell) in enumerate(plan.keys()):
            work = CellState(plan.task(i))
            for name, stage in (
                ("detect", stages.detect),
                ("deblend", deblend_cell),
                ("measure", stages.measure),
            ):
                work = run_stage(work, name, stage)
            entry = write_cell(work, out, "", "")
            if not entry.done:
                raise SystemExit(f"{what}, {tile}, {cell}: {entry.reason}")
            yield f"{what}/{tile}/{cell}", _sha256(Path(shard_path(out, tile, cell)).read_bytes())


def _resolved(config: CatalogConfig) -> CatalogConfig:
    """Return the configuration with the photometry that ``auto`` means; never ngmix."""
    photometry = choose_photometry(config)
    return CatalogConfig(
        **{
            **vars(config),
            "photometry": "mixture" if photometry == "ngmix" else photometry,
        }
    )


def _models(name: str, data: BlendSet) -> Iterator[Digest]:
    deblender = load_deblender(name, "cpu")
    for blends in data.first(BLENDS).blends:
        result = deblend(deblender, blends, data)
        arrays = (result.models, result.n_sources, result.xy, np.asarray(result.quality))
        content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        yield f"models/{name}/{blends.n_galaxies} galaxies", _sha256(content)


def _metrics(name: str, data: BlendSet) -> str:
    rows, _ = evaluate_wang2022({name: load_deblender(name, "cpu")}, data.first(BLENDS))
    timeless = [{k: v for k, v in row.items() if k != "seconds_per_blend"} for row in rows]
    return _sha256(json.dumps(timeless, sort_keys=True).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
