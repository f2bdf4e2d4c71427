"""Help and version come at once: they load nothing that only work needs."""

import subprocess
import sys

import pytest

from raydeblend import __version__
from raydeblend.cli.main import main

HEAVY = ("torch", "galsim", "astropy", "ray", "scipy", "numba", "botocore", "fsspec", "pyarrow")
CALLS = (
    ("--help",),
    ("--version",),
    ("catalog", "--help"),
    ("deblend", "--help"),
    ("train", "--help"),
    ("evaluate", "--help"),
    ("simulate", "tiles", "--help"),
    ("export", "hats", "--help"),
    ("weights", "--help"),
)
PROGRAM = """
import atexit, sys
atexit.register(lambda: print([name for name in {heavy!r} if name in sys.modules]))
from raydeblend.cli.main import main
main({arguments!r})
"""


def test_small_is_the_preset_of_a_training_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "-h"])
    of_preset = capsys.readouterr().out.partition("--preset")[2].partition("--workers")[0]
    assert "[default: small]" in of_preset


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_what_only_tells_loads_no_heavy_module(arguments: tuple[str, ...]) -> None:
    program = PROGRAM.format(heavy=HEAVY, arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *text, loaded = done.stdout.splitlines()
    assert ("Usage: " if "--help" in arguments else __version__) in "".join(text)
    assert loaded == "[]"
