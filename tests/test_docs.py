"""Every command and every Python block of the documentation, run as it stands.

The blocks of a page run in order in one empty directory: ``sh`` blocks by the shell, ``python``
blocks by Python, those with ``file=NAME`` are written to that file.  Python blocks that follow each
other are run by one Python, each with no names but its own.  Blocks of any other kind are not meant
to be typed.  The first page and that which trains take the suite's Ray for their cluster; on the
others `raydeblend` does its cells in its own process, a copy of one that has imported all.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import groupby
from pathlib import Path

import pytest
import ray

from raydeblend.catalog import columns
from raydeblend.cli.main import app
from raydeblend.flags import Flag

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(sh|python)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES_WITH_RAY = ("tutorial.md", "howto/network.md")
PAGES = (
    "howto/inputs.md",
    "howto/read.md",
    "howto/products.md",
    "howto/deblender.md",
    "howto/forced.md",
    "howto/report.md",
)


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    for found in BLOCK.finditer((ROOT / "docs" / page).read_text()):
        yield found.group(1), found.group(2) or "", found.group(3)


@pytest.fixture(scope="module")
def with_ray(ray_local: None) -> dict[str, str]:
    """The environment of commands whose cluster is the suite's Ray."""
    scripts = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_ADDRESS": str(ray.get_runtime_context().gcs_address),
    }


REPOSITORY = "https://example.org/raydeblend"
ELEMENTS = """
a article body button code div em footer form h1 h2 h3 h4 head header html img input label li link
main meta nav ol p path pre script small span strong sub sup svg table tbody td th thead title tr ul
"""
"""Of HTML and SVG, what the theme and Markdown make: <band> would be text that is lost."""
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


def run_page(page: str, folder: Path, environment: dict[str, str]) -> None:
    """Run what the blocks of a page hold."""
    for command in _commands(page, folder):
        _run(command, folder, environment)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, "\n".join([*command, done.stdout, done.stderr])


@pytest.mark.parametrize("page", PAGES_WITH_RAY)
def test_the_commands_of_a_page_work_with_ray(
    page: str, with_ray: dict[str, str], tmp_path: Path
) -> None:
    run_page(page, tmp_path, with_ray)


@pytest.fixture(scope="module")
def beginnings() -> dict[str, Path]:
    """Where the first commands of pages were run, by the commands: several begin alike."""
    return {}


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work(
    page: str, in_process: dict[str, str], beginnings: dict[str, Path], tmp_path: Path
) -> None:
    files = tmp_path / "page"
    files.mkdir()
    first, *others = _commands(page, files)
    place = beginnings.setdefault(first[-1], tmp_path / "beginning")
    if not place.exists():
        shutil.copytree(files, place)
        _run(first, place, in_process)
    shutil.copytree(place, files, dirs_exist_ok=True)
    for command in others:
        _run(command, files, in_process)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    variables = {**os.environ, "REPOSITORY_URL": REPOSITORY}
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300
    )
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


class Tags(HTMLParser):
    """The names of all elements of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.add(tag)


def test_nothing_written_is_taken_for_html_and_pages_link_to_the_repository(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        assert Tags(page).names <= set(ELEMENTS.split()), page
    assert f'href="{REPOSITORY}"' in (site / "index.html").read_text()


_REFERENCE = ("commands", "columns", "python")
