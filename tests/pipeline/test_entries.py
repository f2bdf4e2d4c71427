import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from s3 import s3_server  # noqa: F401

from raydeblend import catalog, storage
from raydeblend.pipeline import compactor
from raydeblend.pipeline.compactor import LedgerCompactor
from raydeblend.pipeline.entries import LedgerEntry, entry_path, read_entry, write_entry
from raydeblend.pipeline.entry_tables import from_table, to_table
from raydeblend.pipeline.ledger_files import list_ledger, read_entries
from raydeblend.pipeline.shards import shard_path

DONE = LedgerEntry("t", "c0", "done", "", 3, 1, 2, {"detect": 0.5}, 7.5, "w", "c", {"EDGE": 2})


@pytest.fixture
def out(tmp_path):
    return str(tmp_path / "out")


@pytest.fixture
def gather(monkeypatch):
    monkeypatch.setattr(compactor, "ENTRIES_PER_TABLE", 4)


def cells(n, first=0):
    return [replace(DONE, cell=f"c{i:02d}", sources=i) for i in range(first, first + n)]


def run(out, these, waiting=()):
    """Write entries as workers do and gather them as the driver does."""
    gatherer = LedgerCompactor(out, waiting)
    for entry in these:
        write_entry(out, entry)
        gatherer.add(entry)
    gatherer.close()


def test_entries_come_back_as_written(out):
    entries = [DONE, LedgerEntry("u/v", "", "failed", reason="no WCS")]
    for entry in entries:
        write_entry(out, entry)
    assert read_entries(out) == entries
    assert list(from_table(to_table(entries))) == entries


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "a\\b", "a/../../.."])
def test_no_name_leads_outside_the_output(name):
    for path in (shard_path("/out", name, name), entry_path("/out", name, name)):
        assert path.count("/") == 4
        assert not {".", ".."} & set(path.split("/"))


def test_a_small_run_keeps_a_file_for_each_cell(out):
    run(out, cells(9))
    assert len(list_ledger(out).loose) == 9
    assert list_ledger(out).tables == ()


def test_a_large_run_is_gathered_and_read_as_before(out, gather):
    failed = LedgerEntry("t", "x", "failed", reason="bad")
    run(out, [*cells(5), failed, *cells(5, 5)])
    files = list_ledger(out)
    assert [Path(path).name for path in files.tables] == [
        f"compact-{i:05d}.parquet" for i in range(3)
    ]
    assert [Path(path).name for path in files.loose] == ["cell=x.json"]
    assert read_entries(out) == [*cells(10), failed]


def test_a_resumed_run_goes_on_with_the_next_number(out, gather):
    run(out, cells(5))
    run(out, cells(4, 5))
    assert len(list_ledger(out).tables) == 3
    assert read_entries(out) == cells(9)


@pytest.mark.parametrize("survivors", [0, 1, 3])
def test_a_driver_killed_while_it_gathers_loses_nothing(out, gather, survivors):
    """Killed before the table is whole, or after some of its files are gone."""
    for entry in cells(4):
        write_entry(out, entry)
    if survivors:
        LedgerCompactor(out, cells(4)).write_table()
        for entry in cells(survivors):
            write_entry(out, entry)
        assert len(list_ledger(out).loose) == survivors
    else:
        folder = Path(out) / "ledger"
        (folder / ".compact-00000.parquet.0.tmp").write_bytes(b"half")
    assert read_entries(out) == cells(4)
    # The next run takes those left along.
    left = [read_entry(path) for path in list_ledger(out).loose]
    LedgerCompactor(out, left).write_table()
    assert list_ledger(out).loose == ()
    assert read_entries(out) == cells(4)


def test_an_entry_of_its_own_wins_over_a_gathered_one(out, gather):
    run(out, cells(4))
    failed = LedgerEntry("t", "c01", "failed", reason="again")
    write_entry(out, failed)
    assert read_entries(out)[1] == failed
    assert len(read_entries(out)) == 4


def test_a_later_table_wins_over_an_earlier(out, gather):
    run(out, cells(4))
    run(out, [replace(entry, sources=99) for entry in cells(4)])
    assert {entry.sources for entry in read_entries(out)} == {99}


def test_a_table_of_an_earlier_version_lacks_columns(out, gather):
    run(out, cells(4))
    (path,) = list_ledger(out).tables
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["flags", "peak_memory_mb"]), path)
    assert read_entries(out)[0] == replace(cells(1)[0], flags={}, peak_memory_mb=0.0)


WHOLE = {"tile": "t", "cell": "c00", "status": "done"}
DAMAGED = {
    "empty": b"",
    "cut off": json.dumps(WHOLE).encode()[:-4],
    "no UTF-8": b'{"tile": "\xff\xfe", "cell": "c00", "status": "done"}',
    "zeros": b"\0" * 200,
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "deep": b"[" * 100_000,
    "no cell": json.dumps({"tile": "t", "status": "done"}).encode(),
    "no status": json.dumps({"tile": "t", "cell": "c00"}).encode(),
    "unknown status": json.dumps(WHOLE | {"status": "maybe"}).encode(),
    "no tile": json.dumps(WHOLE | {"tile": ""}).encode(),
    "another type": json.dumps(WHOLE | {"sources": "three"}).encode(),
    "null count": json.dumps(WHOLE | {"sources": None}).encode(),
    "flags that are no numbers": json.dumps(WHOLE | {"flags": {"EDGE": "x"}}).encode(),
    "of another cell": json.dumps(WHOLE | {"cell": "c77"}).encode(),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_entry_is_a_cell_that_is_not_done(out, caplog, data):
    run(out, cells(3))
    Path(entry_path(out, "t", "c00")).write_bytes(data)
    assert read_entries(out) == cells(2, first=1)
    assert "cell=c00.json" in caplog.text
    assert "not done" in caplog.text


def test_an_entry_of_a_later_version_may_say_more_and_of_an_earlier_one_less(out):
    path = Path(entry_path(out, "t", "c00"))
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(WHOLE | {"invented_later": 1, "sources": 4}))
    assert read_entries(out) == [LedgerEntry("t", "c00", "done", sources=4)]


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_the_cells_of_a_damaged_table_are_not_done(out, gather, caplog, damage):
    run(out, cells(9))
    path = Path(list_ledger(out).tables[0])
    whole = path.read_bytes()
    flipped = whole[:4] + bytes(byte ^ 255 for byte in whole[4:200]) + whole[200:]
    other = catalog.to_bytes(pa.table({"tile": ["t"]}))
    path.write_bytes({"empty": b"", "cut": whole[:-9], "flipped": flipped, "other": other}[damage])
    assert read_entries(out) == cells(5, first=4)
    assert "compact-00000.parquet cannot be read" in caplog.text


def test_a_table_that_is_gone_gives_no_other_its_number(out, gather):
    run(out, cells(8))
    Path(list_ledger(out).tables[0]).unlink()
    run(out, cells(4, 8))
    assert read_entries(out) == cells(8, first=4)


def test_gathered_on_s3(s3_server, gather):  # noqa: F811
    out = f"s3://{s3_server.bucket}/gathered"
    run(out, cells(9))
    assert len(storage.list_files(f"{out}/ledger")) == 3
    assert read_entries(out) == cells(9)
