"""Runs over parts of a survey give together what one run over all of it gives."""

import shutil
from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
import survey_sky as sky
from headers import make_header
from in_process import catalogs_in_process

from raydeblend.catalog import read_catalog
from raydeblend.cli import main as cli
from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError
from raydeblend.fits import find_tiles
from raydeblend.pipeline.ledger import read_run, write_run
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.preparation import RunRequest
from raydeblend.pipeline.share import Share, parse_share
from raydeblend.pipeline.stages import stages_of
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog, verify_parts

CONFIG = CatalogConfig(sky.BANDS, deblender="sep", photometry="mixture", cell_size=120, border=20)
CORNERS = [(x, y) for y in (150, 240) for x in (150, 240)]


def test_each_tile_is_in_one_of_the_parts_about_equally_often():
    names = [f"{tract}-{patch}" for tract in range(9000, 9100) for patch in range(81)]
    shares = [Share(i, 4) for i in (1, 2, 3, 4)]
    holds = np.array([[share.has(name) for name in names] for share in shares])
    assert (holds.sum(axis=0) == 1).all()
    # 2025 expected, give or take 4 × √(8100 × 3/16) = 156.
    assert (abs(holds.sum(axis=1) - 2025) < 156).all()
    assert all(Share(1, 1).has(name) for name in names)


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "1/0", "-1/4", ""])
def test_what_names_no_part_is_refused(text):
    with pytest.raises(ConfigError, match="part"):
        parse_share(text)


def test_a_part_of_a_plan_knows_the_neighbors_of_all():
    headers = [make_header(f"t{i}", origin=(250 * i, 0)) for i in range(6)]
    plan = plan_survey(headers, 150, 10)
    parts = [plan.only(Share(i, 3)) for i in (1, 2, 3)]
    assert sorted(chain(*(part.keys() for part in parts))) == sorted(plan.keys())
    of_whole = {(t.cell.tile.name, t.cell.name): t for t in map(plan.task, range(len(plan)))}
    for part in parts:
        for i in range(len(part)):
            task = part.task(i)
            assert task == of_whole[task.cell.tile.name, task.cell.name]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Overlapping tiles, two of them in each of two parts, and the outputs of these."""
    folder = tmp_path_factory.mktemp("parts")
    names = {share: [n for n in (f"t{i}" for i in range(20)) if share.has(n)][:2]
             for share in (Share(1, 2), Share(2, 2))}  # fmt: skip
    for name, corner in zip(sum(zip(*names.values(), strict=True), ()), CORNERS, strict=True):
        sky.write_tile(folder / "tiles", name, *corner, size=120)
    (folder / "tiles" / f"{names[Share(2, 2)][0]}_i.fits").write_bytes(b"no FITS")
    with catalogs_in_process():
        for part, out in (("1/2", "one"), ("2/2", "two")):
            run_catalog(
                str(folder / "tiles"),
                str(folder / out),
                CONFIG,
                RunRequest(part=part),
                progress=False,
            )
    return folder


def in_one_piece(tiles):
    """The rows of all cells, by the stages alone, without Ray."""
    headers, _ = find_tiles(str(tiles), sky.BANDS)
    plan, stages = plan_survey(headers, CONFIG.cell_size, CONFIG.border), stages_of(CONFIG)
    deblend = stages.deblend()
    tasks = [plan.task(i) for i in range(len(plan))]
    return pa.concat_tables([stages.measure(deblend(stages.detect(t))).table for t in tasks])


def test_the_parts_hold_the_rows_of_the_whole(runs):
    whole = in_one_piece(runs / "tiles")
    one, two = (read_catalog(str(runs / name)) for name in ("one", "two"))
    both = pa.concat_tables([one, two]).sort_by("source_id")
    assert min(len(one), len(two)) > 3
    assert not set(one["tile"].to_pylist()) & set(two["tile"].to_pylist())
    assert both.to_pylist() == whole.sort_by("source_id").to_pylist()
    # Copies in the tiles of the other part are known as such.
    assert 0 < both["is_primary"].to_numpy().sum() < len(both)


def test_an_unusable_tile_is_told_by_its_part_alone(runs):
    ledgers = [sorted(path.name for path in (runs / out).glob("ledger/*/plan.json"))
               for out in ("one", "two")]  # fmt: skip
    assert ledgers == [[], ["plan.json"]]


def test_verify_takes_all_parts_and_misses_one(runs, tmp_path, capsys):
    one, two = str(runs / "one"), str(runs / "two")
    assert [read_run(out).part for out in (one, two)] == ["1/2", "2/2"]
    assert verify_catalog(one) == []
    (unplanned,) = verify_catalog(two)
    assert "could not be planned" in unplanned
    assert verify_parts([one, two]) == [unplanned]
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", one, two])
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert f"{one}: " in said
    assert f"{two} --bands" in said
    assert verify_parts([one, one])[0] == "part 1/2 of the survey is given 2 times"
    shutil.copytree(two, tmp_path / "two")
    run = read_run(two)
    write_run(str(tmp_path / "two"), replace(run, plan={**run.plan, "part": "2/3"}))
    assert any(
        "different cuts" in problem for problem in verify_parts([one, str(tmp_path / "two")])
    )
    write_run(str(tmp_path / "two"), run)
    shard = min((tmp_path / "two").glob("catalog/*/*.parquet"))
    shard.unlink()
    assert "is missing" in verify_parts([one, str(tmp_path / "two")])[0]


def test_another_part_does_not_resume_a_run(runs):
    with pytest.raises(ConfigError, match=r"part \('1/2' then, '2/2' now\)"):
        run_catalog(
            str(runs / "tiles"),
            str(runs / "one"),
            CONFIG,
            RunRequest(resume=True, part="2/2"),
            progress=False,
        )
