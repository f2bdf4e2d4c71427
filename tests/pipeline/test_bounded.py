"""Memory and time do not grow with tiles, and what is too large is capped, flagged and counted."""

import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
import survey_sky as sky
from astropy.io import fits
from astropy.wcs import WCS
from ray import cloudpickle

from benchmarks.memory import MemoryWatch, run_in_turn
from benchmarks.scale import patches
from benchmarks.survey import make_nothing, no_rows
from raydeblend.config import CatalogConfig
from raydeblend.fits import find_tiles, write_band
from raydeblend.flags import Flag
from raydeblend.pipeline import backpressure as pressure
from raydeblend.pipeline.backpressure import AHEAD
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.rounds import process
from raydeblend.pipeline.rows import counts
from raydeblend.pipeline.run import describe
from raydeblend.pipeline.stages import (
    DeblendCell,
    Stages,
    choose_photometry,
    detect_cell,
    measure_cell,
)

ROOT = Path(__file__).parents[2]
HUGE = 20_000
READ = """
import resource, sys
from raydeblend.fits import find_tiles, read_tile
from raydeblend.survey import get_survey
from raydeblend.tile import Box

(header,), failures = find_tiles(sys.argv[1], ("i",), zeropoint=27.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tile = read_tile(header, Box(9000, 9000, 9200, 9200), get_survey("HSC"))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(header.shape[0], tile.image.shape, (after - before) // 1024)
"""


def sparse_tile(path):
    """A tile of 1.6 GB of which only some rows take space on the disk."""
    header = fits.Header()
    header["SIMPLE"], header["BITPIX"], header["NAXIS"] = True, -32, 2
    header["NAXIS1"], header["NAXIS2"] = HUGE, HUGE
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [150, 2], [-5e-5, 5e-5]
    header.update(wcs.to_header())
    cards = header.tostring().encode()
    noise = np.random.default_rng(0).normal(0, 1, (200, HUGE)).astype(">f4")
    with open(path, "wb") as file:
        file.write(cards)
        file.seek(len(cards) + 4 * 9000 * HUGE)
        file.write(noise.tobytes())
        data = 4 * HUGE**2
        file.truncate(len(cards) + data + -data % 2880)


def test_a_tile_is_read_by_section_and_never_whole(tmp_path):
    sparse_tile(tmp_path / "t_i.fits")
    command = [sys.executable, "-c", READ, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *shape, grown = done.stdout.replace(str((1, 200, 200)), "").split()
    assert shape == [str(HUGE)]
    # 200 rows are 16 MB, and some copies of them; the tile is 1,526 MiB.
    assert int(grown) < 150


def chain(folder, config):
    """The rows of a tile of one cell, what the ledger counts, and the CPU seconds taken."""
    config = replace(config, photometry=choose_photometry(config))
    (header,), _ = find_tiles(str(folder), sky.BANDS)
    plan = plan_survey([header], config.cell_size, config.border)
    start = time.process_time()
    table = measure_cell(DeblendCell(config)(detect_cell(plan.task(0), config)), config).table
    return table, counts(table, plan.box(0)), time.process_time() - start


def write_sky(folder, light, noise=1.0):
    size = len(light)
    rng = np.random.default_rng(2)
    for band, color in zip(sky.BANDS, sky.COLORS, strict=True):
        image = (color * light + rng.normal(0, noise, light.shape)).astype(np.float32)
        write_band(
            f"{folder}/t_{band}.fits", image, np.zeros((size, size), np.int32),
            np.full((size, size), noise**2), sky.header(0, 0), sky.psf(), sky.FLUX_MAG0, {"BAD": 0},
        )  # fmt: skip


@pytest.mark.parametrize("deblender", ["sep", "joint"])
def test_a_star_of_100000_pixels_is_flagged_and_counted(tmp_path, deblender):
    size = 450
    y, x = np.mgrid[:size, :size]
    light = 3e4 * np.exp(-((x - 225) ** 2 + (y - 225) ** 2) / (2 * 45.0**2))
    light += 40 * np.exp(-((x - 20) ** 2 + (y - 20) ** 2) / 12)
    write_sky(tmp_path, light)
    config = CatalogConfig(sky.BANDS, deblender=deblender, cell_size=size, border=0)
    table, counted, seconds = chain(tmp_path, config)
    fallback = (table["flags"].to_numpy() & Flag.DEBLEND_FALLBACK) != 0
    # The joint fit takes a footprint of any size as a whole.
    assert fallback.any() == (deblender == "sep")
    assert counted["flags"].get("DEBLEND_FALLBACK", 0) == fallback.sum()
    star = np.hypot(table["x"].to_numpy() - 225, table["y"].to_numpy() - 225).argmin()
    assert fallback[star] == (deblender == "sep")
    # The faint galaxy beside it does not pay for it.
    galaxy = np.hypot(table["x"].to_numpy() - 20, table["y"].to_numpy() - 20).argmin()
    assert not fallback[galaxy]
    assert table["flux_i"][int(galaxy)].as_py() > 0
    assert seconds < 60


@pytest.mark.ray
def test_memory_does_not_grow_with_the_tiles_and_nothing_spills():
    """Coarse, since Ray's processes take turns; `benchmarks.memory --soak` is the fine measure."""
    few, many = run_in_turn((4, 16), "sep")
    assert (few.cells, many.cells) == (4, 16)
    assert few.spilled == many.spilled == 0
    assert 20 < many.watch.peak("driver") < few.watch.peak("driver") + 25
    largest = [max(r.watch.peak(kind) for kind in ("actor", "worker")) for r in (few, many)]
    assert 20 < largest[1] < largest[0] + 150
    assert max(many.watch.store) < 16


MIB = 1 << 20


def found_at_once(task):
    """A cell with a MiB of stamps, which takes no time to find."""
    return task, bytes(MIB)


def loaded_slowly():
    """The stage of an actor for which cells have to wait at first."""
    time.sleep(5)
    return make_nothing()


def measured_slowly(content, bands):
    time.sleep(0.1)
    return no_rows(content[0], bands)


@pytest.mark.parametrize(
    ("ahead", "most"),
    # So many of a MiB may two CPUs have on their way; or if these were a lot, so many bytes.
    [(AHEAD, 100 * MIB), (16, 2 * AHEAD * MIB)],
    ids=["blocks", "bytes"],
)
def test_the_object_store_does_not_grow_with_the_cells(
    tmp_path, ray_local, monkeypatch, ahead, most
):
    """Detection is much faster than what follows, and must wait for it."""
    store = ray.cluster_resources()["object_store_memory"]
    monkeypatch.setattr(pressure, "AHEAD", ahead)
    monkeypatch.setattr(pressure, "STORE_SHARE", most / store)
    config = CatalogConfig(sky.BANDS, deblender="sep", photometry="mixture")
    plan, n = plan_survey(patches(6), 1050, 96), 80
    stages = Stages(found_at_once, loaded_slowly, partial(measured_slowly, bands=sky.BANDS))
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with MemoryWatch() as watch:
        run = describe("patches", config, plan)
        entries = list(process(plan, np.arange(n), str(tmp_path), config, run, stages=stages))
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert sum(entry.done for entry in entries) == n
    # Other tests of the session may have left something in the store.
    filled = np.array(watch.store) - watch.store[0]
    # Until one has come it is not known how large they are.
    later = filled[len(filled) // 2 :] if ahead > AHEAD else filled
    # While a stage works on a block, its result is there too.
    assert 2 < later.max() < 2 * 2 * AHEAD + 4
