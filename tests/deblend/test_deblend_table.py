"""The table of deblenders: every name loads what carries it, and nothing more than it needs."""

import subprocess
import sys

import pytest

from raydeblend.config import DEBLENDER_LOADERS, DEBLENDERS
from raydeblend.deblend import load_deblender
from raydeblend.errors import ConfigError


def test_the_names_are_those_of_the_table() -> None:
    assert DEBLENDERS == ("joint", "rdn", "rdn-joint", "branched", "vae", "srgan", "srflow", "sep")
    assert tuple(DEBLENDER_LOADERS) == DEBLENDERS


@pytest.mark.parametrize("name", DEBLENDERS)
def test_every_name_loads_what_carries_it(name: str) -> None:
    assert load_deblender(name, "cpu").name == name


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match="'scarlett'; known: joint, rdn, rdn-joint, branched"):
        load_deblender("scarlett")


@pytest.mark.parametrize(
    "code",
    [
        "from raydeblend.config import CatalogConfig; "
        "from raydeblend.pipeline.stages import DeblendCell; "
        "DeblendCell(CatalogConfig(('g',), deblender='sep', photometry='mixture'))",
        "from typer.testing import CliRunner; from raydeblend.cli.main import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0",
    ],
)
def test_a_classical_catalog_and_the_help_load_no_torch(code: str) -> None:
    check = f"import sys; {code}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], timeout=120, check=False).returncode == 0
