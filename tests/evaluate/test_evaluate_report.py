"""The report is one well-formed page with everything inside, and a real browser shows it."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from raydeblend.cli.main import main
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common import provenance
from raydeblend.evaluate.common.figures import read_caption, to_png
from raydeblend.evaluate.common.provenance import NAME, describe_run
from raydeblend.evaluate.common.tables import Table, read_tables, to_file, to_markdown
from raydeblend.evaluate.report import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
VOID = {"meta", "img", "br", "link", "hr", "input"}
TABLES = (
    Table(["x"], [["1"]]),
    Table(
        ["galaxy", "deblender", "PSNR mean"],
        [["1 of 2", "joint", "55.92 ±0.81"], ["1 of 2", "a <b> & c", "–"]],
        "Scores",
    ),
    Table(["high", "low"], [["99%", "1%"]], "Quality", ("All of it.",), ("Or not & so on.",)),
    Table((), (), "Nothing", ("Nothing to count.",)),
)


class Page(HTMLParser):
    """Collects tags, and fails on one that is closed in the wrong order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def figure(color: str) -> bytes:
    drawing = Figure(figsize=(2, 1))
    drawing.subplots().plot([1, 2], color=color)
    return to_png(drawing, f"A line in {color}; 5 < 6 σ.")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete results directory and one with tables alone."""
    root = tmp_path_factory.mktemp("results")
    full, bare = root / "wang", root / "bare"
    full.mkdir()
    bare.mkdir()
    (full / "metrics.json").write_text(json.dumps([{"protocol": "wang2022", "psnr_mean": 1.0}]))
    (full / "tables.json").write_bytes(to_file(TABLES))
    (full / "tables.md").write_text(to_markdown(TABLES))
    run = describe_run(["raydeblend", "evaluate", "a b"], 3.0)
    (full / NAME).write_bytes(provenance.to_file(run))
    for color in ("red", "blue"):
        (full / f"{color}.png").write_bytes(figure(color))
    (bare / "tables.json").write_bytes(to_file([Table(["a"], [["1"]])]))
    return root


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    out = results / "report.html"
    write_report([str(results / "wang"), str(results / "bare")], str(out))
    return out.read_text()


def test_is_well_formed(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    assert page.startswith("<!DOCTYPE html>")
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in parsed.tags if tag == "a"]
    assert {link.removeprefix("#") for link in links} == set(ids)


def test_needs_no_other_file(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]+", "", page))
    tags = Page(page).tags
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags}
    assert all(a["src"].startswith("data:image/png;base64,") for _, a in tags if "src" in a)


def test_every_figure_is_inside_with_its_caption(page: str, results: Path) -> None:
    embedded = re.findall(r"base64,([^\"]+)", page)
    files = sorted((results / "wang").glob("*.png"))
    assert [base64.b64decode(data) for data in embedded] == [path.read_bytes() for path in files]
    text = Page(page).text
    for path in files:
        assert read_caption(path.read_bytes()) in text
    assert imread(io.BytesIO(base64.b64decode(embedded[0]))).std() > 0.01


def test_tables_and_provenance_are_there(page: str, results: Path) -> None:
    text = Page(page).text
    for words in (
        "55.92 ±0.81",
        "a <b> & c",
        "All of it.",
        "Or not & so on.",
        "Nothing to count.",
        "raydeblend evaluate 'a b'",
    ):
        assert words in text
    origin = json.loads((results / "wang" / NAME).read_text())
    for key in ("commit", "hardware", "date"):
        assert origin[key] in text
    assert origin["weights"]["rdn"] in text
    assert "was not recorded" in text
    assert page.count("<table>") == 4


def test_tables_have_their_titles_or_numbers(page: str) -> None:
    titles = re.findall(r"<h3 id=\"wang-t\d\">([^<]*)", page)
    assert titles == ["Table 1", "Scores", "Quality", "Nothing"]
    assert re.findall(r"<h3 id=\"bare-t\d\">([^<]*)", page) == ["Table 1"]


def test_tables_are_read_as_they_were_written() -> None:
    again = read_tables(to_file(TABLES), "tables.json")
    assert to_markdown(again) == to_markdown(TABLES)
    for content in (b"{", b'[{"rows": 1}]', b"[1]", b"3"):
        with pytest.raises(ConfigError, match=r"x\.json holds no tables"):
            read_tables(content, "x.json")


def test_a_title_that_tables_share_is_said_once() -> None:
    tables = Table(["a"], [["1"]], "Both", after=("One.",)), Table(["b"], [["22"]], "Both")
    expected = "### Both\n\n| a |\n| - |\n| 1 |\n\nOne.\n\n| b  |\n| -- |\n| 22 |\n"
    assert to_markdown(tables) == expected


def test_the_command_says_what_it_wrote(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = results / "again" / "page.html"
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(results / "wang"), "--out", str(out)])
    assert not stopped.value.code
    assert str(out) in capsys.readouterr().out
    assert Page(out.read_text()).open == []


def test_what_holds_no_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no results"):
        write_report([str(tmp_path)], str(tmp_path / "x.html"))
    (tmp_path / "tables.md").write_text("| a |\n| - |\n| 1 |\n")
    with pytest.raises(ConfigError, match=r"tables\.md without tables\.json"):
        write_report([str(tmp_path)], str(tmp_path / "x.html"))
    (tmp_path / "tables.md").unlink()
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        write_report([str(tmp_path)], str(tmp_path / "x.html"))
    assert not (tmp_path / "x.html").exists()
    with pytest.raises(ConfigError, match="at least one"):
        write_report([], str(tmp_path / "x.html"))


BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None and find_spec("PyQt6") is None,
    reason=f"needs a browser on PATH ({', '.join(BROWSERS)}) or PyQt6-WebEngine",
)


@needs_browser
def test_opens_offline_in_a_real_browser(page: str, results: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    _photograph(results / "report.html", picture, tmp_path)
    shown = imread(picture)[..., :3]
    # The red and the blue line are drawn only if both figures were decoded.
    for channel in (0, 2):
        others = [c for c in range(3) if c != channel]
        pure = (shown[..., channel] > 0.9) & (shown[..., others] < 0.2).all(axis=-1)
        assert np.count_nonzero(pure) > 50


def _photograph(page: Path, picture: Path, profile: Path) -> None:
    """Open a page without network and save what is seen."""
    if BROWSER is not None:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--proxy-server=127.0.0.1:9"]
        subprocess.run(
            [BROWSER, *options, "--window-size=1200,1800", f"--user-data-dir={profile}/profile",
             f"--screenshot={picture}", page.as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        return
    script = Path(__file__).parent / "qt_screenshot.py"
    words = [sys.executable, str(script), str(page), str(picture)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=150, check=False)
    if run.returncode == 77:
        pytest.skip(f"PyQt6-WebEngine does not load: {run.stdout}")
    assert run.returncode == 0, run.stderr
    # Both figures shown, of two, and nothing asked for outside the page.
    assert run.stdout.split() == ["2", "2", "0"]
