"""Outputs with damaged files: one sentence, or cells to do again, never a traceback."""

import json
from pathlib import Path

import pytest
from outputs import open_output
from test_verify import C1, PLAN, RUN, TILES, only, out  # noqa: F401

from raydeblend.cli.main import main
from raydeblend.pipeline.compactor import LedgerCompactor
from raydeblend.pipeline.entries import entry_path
from raydeblend.pipeline.ledger import keys, read_run
from raydeblend.pipeline.ledger_files import list_ledger, read_entries
from raydeblend.pipeline.verify import verify_catalog

RUN_DAMAGE = {
    "empty": b"",
    "cut off": b'{"input": "til',
    "no UTF-8": b"\xff\xfe\x00",
    "a list": b"[]",
    "null": b"null",
    "no keys": b"{}",
    "unknown key": None,
}


def resume(out):  # noqa: F811
    return open_output(out, RUN, PLAN, TILES, resume=True)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"7"])
def test_a_run_goes_on_over_a_damaged_entry(out, data, caplog):  # noqa: F811
    path = Path(entry_path(out, "t", C1))
    path.write_bytes(data)
    assert any("is not a ledger entry" in said for said in verify_catalog(out))
    assert keys(resume(out)) == [PLAN.keys()[0], PLAN.keys()[2]]
    assert f"{path} is not a ledger entry" in caplog.text
    assert path.with_name(path.name + ".damaged").read_bytes() == data


def test_a_run_goes_on_over_a_damaged_table(out, caplog):  # noqa: F811
    LedgerCompactor(out, read_entries(out)).write_table()
    path = Path(list_ledger(out).tables[0])
    path.write_bytes(path.read_bytes()[:100])
    assert len(resume(out)) == 0
    assert "compact-00000.parquet cannot be read" in caplog.text
    assert list_ledger(out).tables == ()


@pytest.mark.parametrize("data", RUN_DAMAGE.values(), ids=RUN_DAMAGE)
@pytest.mark.parametrize("command", ["verify", "map", "export", "inspect"])
def test_a_damaged_run_is_told_in_one_sentence(out, command, data, capsys):  # noqa: F811
    path = Path(out, "run.json")
    path.write_bytes(data or json.dumps(json.loads(path.read_text()) | {"later": 1}).encode())
    words = {
        "verify": ["verify", out],
        "map": ["map", out],
        "export": ["export", "hats", out, f"{out}-hats"],
        "inspect": ["inspect", out, "1"],
    }
    with pytest.raises(SystemExit) as ended:
        main(words[command])
    said = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2
    assert only(said).startswith(f"raydeblend: {path} is damaged")


@pytest.mark.parametrize("name", ["plan.parquet", "tiles.parquet"])
@pytest.mark.parametrize("damage", ["empty", "cut", "gone", "other"])
def test_a_damaged_plan_or_manifest_ends_a_resume_in_one_sentence(out, name, damage):  # noqa: F811
    path = Path(out, name)
    whole, other = path.read_bytes(), Path(out, "tiles.parquet").read_bytes()
    if name == "tiles.parquet":
        other = Path(out, "plan.parquet").read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes({"empty": b"", "cut": whole[:-9], "other": other}[damage])
    with pytest.raises(Exception, match=name) as raised:
        resume(out)
    assert type(raised.value).__name__ == "ConfigError"
    assert "\n" not in str(raised.value)


def test_summary_is_never_read_so_that_its_damage_matters_to_nobody(out):  # noqa: F811
    Path(out, "summary.json").write_bytes(b"")
    assert verify_catalog(out) == []
    assert len(resume(out)) == 3
    assert read_run(out) == RUN
