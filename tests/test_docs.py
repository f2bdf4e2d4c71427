"""Every command and every Python block of the documentation, run as it stands.

The blocks of a page run in order in one empty directory: ``sh`` blocks by the shell, ``python``
blocks by Python, those with ``file=NAME`` are written to that file.  Python blocks that follow each
other are run by one Python, each with no names but its own.  Blocks of any other kind are not meant
to be typed.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import ray
from astropy.io import fits
from astropy.table import Table

from raydeblend.catalog import columns
from raydeblend.cli.main import app
from raydeblend.flags import Flag

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(sh|python)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = (
    "tutorial.md",
    "howto/inputs.md",
    "howto/read.md",
    "howto/products.md",
    "howto/deblender.md",
    "howto/network.md",
    "howto/forced.md",
    "howto/report.md",
)


HSC_PAGE = "tutorial_hsc.md"
HSC = ROOT.parent / "shared" / "data" / "hsc" / "calexp_fields"
HSC_SIDE = 100
"""Pixels of the middle of the field: all of it takes minutes."""


def write_hsc_field(folder: Path) -> None:
    """Write the middle of the real field under the names that the page tells to give the files."""
    folder.mkdir()
    for path in HSC.iterdir():
        if path.stem.endswith("_psf"):
            shutil.copy(path, folder)
            continue
        with fits.open(path) as hdus:
            for hdu in hdus[1:4]:
                corner = [(side - HSC_SIDE) // 2 for side in hdu.data.shape]
                hdu.data = hdu.data[tuple(slice(low, low + HSC_SIDE) for low in corner)]
                hdu.header["CRPIX1"] -= corner[1]
                hdu.header["CRPIX2"] -= corner[0]
            fits.HDUList(hdus[:4]).writeto(folder / path.name)


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    for found in BLOCK.finditer((ROOT / "docs" / page).read_text()):
        yield found.group(1), found.group(2) or "", found.group(3)


@pytest.fixture(scope="module")
def address(ray_local: None) -> str:
    """Where the suite's Ray is; a page's commands take it for their cluster."""
    return str(ray.get_runtime_context().gcs_address)


EACH_ALONE = "import sys; [exec(text, {'__name__': '__main__'}) for text in sys.argv[1:]]"


def _commands(page: str, folder: Path) -> Iterator[list[str]]:
    """Yield what the blocks of a page run; files are written to the folder meanwhile."""
    for (kind, file), group in groupby(blocks(page), key=lambda block: block[:2]):
        texts = [text for *_, text in group]
        if file:
            (folder / file).write_text("".join(texts))
        elif kind == "sh":
            yield from (["sh", "-e", "-c", text] for text in texts)
        else:
            yield [sys.executable, "-c", EACH_ALONE, *texts]


@pytest.mark.skipif(not HSC.is_dir(), reason="needs ../shared/data/hsc")
def test_the_commands_of_the_real_field_work(address: str, tmp_path: Path) -> None:
    write_hsc_field(tmp_path / "field")
    run_page(HSC_PAGE, address, tmp_path)
    sources = Table.read(tmp_path / "hsc.fits", hdu=1)
    assert np.isfinite(sources["flux_i"]).sum() > 10
    for made in ("blend.pdf", "colors.png"):
        assert (tmp_path / made).stat().st_size > 5_000


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work(page: str, address: str, tmp_path: Path) -> None:
    run_page(page, address, tmp_path)


def run_page(page: str, address: str, tmp_path: Path) -> None:
    """Run what a page tells to type, in an empty folder or one with its input."""
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_ADDRESS": address,
    }
    ran = 0
    for command in _commands(page, tmp_path):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, "\n".join([*command, done.stdout, done.stderr])
        ran += 1
    assert ran > 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_builds_without_a_warning_and_names_everything(site: Path) -> None:
    text = {page: (site / f"reference/{page}/index.html").read_text() for page in _REFERENCE}
    for column in columns(["&lt;band&gt;"]):
        assert column.name in text["columns"]
    for flag in Flag:
        assert str(flag.name) in text["columns"]
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        assert f"raydeblend {name}" in text["commands"]
    assert "run_catalog" in text["python"]


_REFERENCE = ("commands", "columns", "python")
