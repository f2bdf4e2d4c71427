"""What the command line says of itself, of columns and of flags."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from raydeblend import catalog, models, parents
from raydeblend.cli.main import ORDER, main, set_up_logging
from raydeblend.flags import Flag


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    streams = capsys.readouterr()
    return int(stopped.value.code or 0), streams.out, streams.err


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Leave the package's log as it was."""
    own = logging.getLogger("raydeblend")
    handlers, level = list(own.handlers), own.level
    yield
    for handler in set(own.handlers) - set(handlers):
        own.removeHandler(handler)
        handler.close()
    set_up_logging(logging.INFO)
    own.setLevel(level)


def test_commands_stand_in_the_order_in_which_people_need_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(capsys, "-h")
    assert code == 0
    lines = out.partition("Commands")[2].splitlines()
    assert [line.split()[1] for line in lines if re.match(r"│ \w", line)] == list(ORDER)
    assert run(capsys, "catalog", "-h")[0] == 0


def test_every_column_is_listed_with_unit_and_description(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(capsys, "columns", "--bands", "g,y")
    assert code == 0
    described = catalog.columns(("g", "y"))
    assert [line.split()[0] for line in out.splitlines()] == [c.name for c in described]
    assert all(c.description in out for c in described)
    assert "flux_y " in out
    assert " nJy " in out


def test_a_value_of_flags_is_taken_apart(capsys: pytest.CaptureFixture[str]) -> None:
    value = Flag.MASKED | Flag.FIT_FAILED
    _, out, _ = run(capsys, "flags", str(int(value)))
    told = [line.split()[:2] for line in out.splitlines()]
    assert told == [["4", "MASKED"], ["512", "FIT_FAILED"]]
    assert len(run(capsys, "flags")[1].splitlines()) == len(Flag)
    assert run(capsys, "flags", "0")[1] == "no flag is set\n"
    code, _, said = run(capsys, "flags", str(1 << 30))
    assert code == 2
    assert "is not a sum of flags" in said


def test_quiet_verbose_and_a_file_of_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("raydeblend.test")
    assert run(capsys, "-q", "flags", "0")[0] == 0
    assert not log.isEnabledFor(logging.INFO)
    assert run(capsys, "-v", "flags", "0")[0] == 0
    assert log.isEnabledFor(logging.DEBUG)
    assert run(capsys, "--log-file", str(tmp_path / "log"), "flags", "0")[0] == 0
    log.debug("a cell")
    assert "DEBUG a cell" in (tmp_path / "log").read_text()
    assert run(capsys, "-q", "-v", "flags")[0] == 2
    code, _, said = run(capsys, "--log-file", str(tmp_path / "none" / "log"), "flags")
    assert code == 2
    assert "cannot write the log" in said


@pytest.mark.parametrize(("table", "own"), [("parents", parents), ("models", models)])
def test_the_columns_of_the_other_tables_are_listed_too(
    table: str, own: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "columns", "--bands", "g", "--table", table)
    assert code == 0
    described = own.columns(("g",))
    assert [line.split()[0] for line in out.splitlines()] == [c.name for c in described]
    assert all(c.ucd for c in described)
    code, _, said = run(capsys, "columns", "--table", "stars")
    assert code == 2
    assert "unknown table 'stars'; valid: catalog, parents, models" in said


def test_every_reason_is_listed_and_has_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "reasons")
    assert code == 0
    told = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert told == [*map(str, parents.Shortfall), *map(str, parents.Unpublished)]
    assert {f"n_{reason}" for reason in parents.Unpublished} <= set(parents.SCHEMA.names)
