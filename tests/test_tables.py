"""Arrow is given nothing of Python's, and by one module alone."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raydeblend import tables

PACKAGE = Path(tables.__file__).parent
TABLE = pa.table({"x": [1.0, 2.0, None] * 100, "name": ["a", "b", "c"] * 100})
FORMATS = {"parquet", "dataset", "csv", "feather", "ipc", "json", "orc", "open_csv"}


def imported(path: Path) -> set[str]:
    """Every dotted name that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def calls(path: Path) -> set[str]:
    """The methods that a module calls, whatever they belong to."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {n.func.attr for n in nodes if isinstance(n, ast.Call) and hasattr(n.func, "attr")}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_other_module_lets_arrow_read_or_write(path):
    if path == PACKAGE / "tables.py":
        return
    used = {name for name in imported(path) if name.startswith("pyarrow.")}
    assert not {name for name in used if name.split(".")[1] in FORMATS}
    assert not {"read_parquet", "to_parquet", "read_feather", "write_parquet"} & {
        name for name in calls(path) if not calls_tables(path, name)
    }
    assert not calls(path) & {"BufferReader", "PythonFile", "py_buffer", "scan_parquet"}


def calls_tables(path: Path, name: str) -> bool:
    """Tell whether a module calls a function of ours of that name, and no other."""
    text = path.read_text()
    return text.count(f".{name}(") == text.count(f"tables.{name}(")


def test_parquet_comes_back_as_it_was():
    data = tables.to_parquet(TABLE)
    assert tables.from_parquet(data).equals(TABLE)
    assert data == tables.to_parquet(TABLE)
    assert tables.from_parquet(tables.schema_to_parquet(TABLE.schema)).schema.equals(TABLE.schema)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"x" * 100, b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_what_is_no_parquet_file_is_arrow_invalid(damage):
    with pytest.raises(pa.ArrowInvalid):
        tables.from_parquet(damage)


def test_changed_data_are_found():
    """Random values do not compress, so that only a checksum can tell that they changed."""
    values = np.random.default_rng(0).uniform(size=2000)
    data = bytearray(tables.to_parquet(pa.table({"x": values})))
    data[len(data) // 2] ^= 1
    with pytest.raises(pa.ArrowInvalid):
        tables.from_parquet(bytes(data))


def test_csv_is_read_as_text_where_it_is_said_so():
    table = tables.from_csv(b"tile,n\n0013,7\n", pa.schema({"tile": pa.string()}))
    assert table.to_pydict() == {"tile": ["0013"], "n": [7]}


def run(script: str) -> str:
    words = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_reading_and_writing_start_no_threads():
    """What does not run cannot outlive the interpreter."""
    threads = """
        import os
        import pyarrow as pa
        from raydeblend import tables
        def threads():
            return len(os.listdir("/proc/self/task"))
        before = threads()
        data = tables.to_parquet(pa.table({f"c{i}": [1.0] * 1000 for i in range(40)}))
        tables.from_parquet(data)
        tables.schema_to_parquet(pa.schema({"x": pa.int8()}))
        print(threads() - before)
    """
    if not Path("/proc/self/task").exists():
        pytest.skip("threads are counted in /proc")
    assert run(threads) == "0"


def test_arrow_holds_nothing_of_pythons():
    held = """
        import sys
        import pyarrow as pa
        from raydeblend import tables
        data = tables.to_parquet(pa.table({"x": [1.0] * 1000}))
        text = b"tile,x\\n" + b"a,1\\n" * 1000
        before = sys.getrefcount(data), sys.getrefcount(text)
        kept = tables.from_parquet(data), tables.from_csv(text, pa.schema({"tile": pa.string()}))
        print((sys.getrefcount(data), sys.getrefcount(text)) == before)
    """
    assert run(held) == "True"


def test_two_hundred_short_processes_end_as_they_should():
    """Each is a fork that reads, lets go and ends with its interpreter, as a command does."""
    forks = """
        import gc, os, sys
        import pyarrow as pa
        from raydeblend import tables
        data = tables.to_parquet(pa.table({f"c{i}": [1.0] * 1000 for i in range(20)}))
        gc.freeze()  # else each child spends its time on the modules of this process
        codes = []
        for started in range(200):
            if started >= 8:
                codes.append(os.wait()[1])
            if not os.fork():
                table = tables.from_parquet(data)
                tables.from_csv(b"tile,x\\na,1\\n", pa.schema({"tile": pa.string()}))
                sys.exit(table.num_rows != 1000)
        codes += [os.wait()[1] for _ in range(8)]
        print(len(codes), set(codes))
    """
    assert run(forks) == "200 {0}"
