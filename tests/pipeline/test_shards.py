"""Outputs of versions that called the folder of a tile ``tile=<tile>``."""

from pathlib import Path

import pyarrow as pa
import pytest
from outputs import open_output
from test_verify import C1, PLAN, RUN, TILES, make_shard, write_cell

from raydeblend import catalog
from raydeblend.export.source import read_source
from raydeblend.pipeline.ledger import keys
from raydeblend.pipeline.seen import with_shards
from raydeblend.pipeline.shards import earlier_path, list_shards, read_shard, shard_path
from raydeblend.pipeline.verify import verify_catalog


def resume(out):
    return with_shards(out, open_output(out, RUN, PLAN, TILES, resume=True))


@pytest.fixture
def earlier(tmp_path):
    out = str(tmp_path / "out")
    open_output(out, RUN, PLAN, TILES)
    for first_id, (tile, cell) in enumerate(PLAN.keys()):
        table = make_shard(tile, cell, 100 * first_id)
        names = table["tile"].dictionary_encode()
        write_cell(out, tile, cell, table)
        now = Path(shard_path(out, tile, cell))
        then = Path(out, "catalog", f"tile={tile}", now.name)
        then.parent.mkdir(exist_ok=True)
        now.unlink()
        field = table.schema.field("tile").with_type(names.type)
        then.write_bytes(catalog.to_bytes(table.set_column(1, field, names)))
    for folder in Path(out, "catalog").glob("of_tile=*"):
        folder.rmdir()
    return out


def test_an_earlier_output_is_whole(earlier):
    assert verify_catalog(earlier) == []
    table = read_shard(shard_path(earlier, "t", C1))
    fields = table.schema.with_metadata(None)
    assert fields.equals(catalog.schema(("i",)).with_metadata(None), check_metadata=True)
    assert catalog.read_catalog(earlier)["tile"].type == pa.string()
    assert {read_shard(path).num_rows for path in read_source([earlier]).shards} == {4}


def test_a_run_that_goes_on_moves_its_shards(earlier):
    before = catalog.read_catalog(earlier)
    assert keys(resume(earlier)) == PLAN.keys()
    assert all("/of_tile=" in path for path in list_shards(earlier))
    assert verify_catalog(earlier) == []
    assert catalog.read_catalog(earlier).equals(before)


def test_a_damaged_shard_of_an_earlier_output_is_done_again(earlier, caplog):
    path = Path(earlier_path(shard_path(earlier, "t", C1)))
    path.write_bytes(path.read_bytes()[:-9])
    assert keys(resume(earlier)) == [PLAN.keys()[0], PLAN.keys()[2]]
    assert f"{path} cannot be read" in caplog.text
    assert path.with_name(path.name + ".damaged").exists()


def test_a_cell_whose_shard_is_lost_or_empty_is_done_again(earlier, caplog):
    resume(earlier)
    Path(shard_path(earlier, "t", C1)).unlink()
    Path(shard_path(earlier, *PLAN.keys()[0])).write_bytes(b"")
    assert keys(resume(earlier)) == PLAN.keys()[2:]
    assert "2 cells" in caplog.text


@pytest.mark.parametrize("tile", ["0013", "__HIVE_DEFAULT_PARTITION__", "9" * 30, "a=b", "%", "!"])
def test_every_name_has_a_path_of_its_own_and_is_found_in_the_earlier_one(tmp_path, tile):
    path = shard_path(str(tmp_path), tile, "c")
    folder = Path(earlier_path(path)).parent.name
    assert folder.startswith("tile=")
    assert not folder.endswith("!")
    assert path != shard_path(str(tmp_path), f"{tile}!", "c")
