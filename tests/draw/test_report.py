"""The page about a run, and the numbers on it, each against one known otherwise."""

import shutil
from html.parser import HTMLParser
from pathlib import Path

import galsim
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.wcs import WCS
from coadds import SCALE, galaxies

from raydeblend import catalog
from raydeblend.cli.main import main
from raydeblend.draw.finished import open_finished
from raydeblend.draw.report.area import owned_parts
from raydeblend.draw.report.colors import Colors, locus_distance, locus_of
from raydeblend.draw.report.completeness import injected_sources
from raydeblend.draw.report.cost import cost_tables
from raydeblend.draw.report.failures import (
    FlagCounts,
    cells_table,
    flags_table,
    suspects_table,
)
from raydeblend.draw.report.magnitudes import EDGES, NumberCounts, counts_figure
from raydeblend.draw.report.sample import Sample
from raydeblend.draw.report.star_sizes import size_ratio
from raydeblend.draw.report.tally import tally_catalog
from raydeblend.draw.report.worst_blends import WorstBlends
from raydeblend.flags import Flag
from raydeblend.inject.sources import CONTROL_STAR
from raydeblend.pipeline.entries import LedgerEntry, write_entry
from raydeblend.pipeline.findings import Finding
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.summary import RunSummary
from raydeblend.simulate.population.stars import LOCUS
from raydeblend.tile import TileHeader

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects anchors, links and text, and fails on tags that are closed in the wrong order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.pictures = 0
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        self.anchors.add(known.get("id", ""))
        self.links += [known["href"]] if tag == "a" else []
        self.pictures += tag == "img" and known["src"].startswith("data:image/png;base64,")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def rows(n: int, bands: tuple[str, ...] = ("g", "r", "i"), **given: object) -> pa.Table:
    """Return n rows of zeros, numbered, but for what is given."""
    names = catalog.schema(bands)
    values = {
        field.name: np.full(n, "" if pa.types.is_string(field.type) else 0) for field in names
    }
    values |= {"source_id": np.arange(n), "is_primary": np.ones(n, dtype=bool)}
    values |= {name: np.broadcast_to(np.asarray(value), n) for name, value in given.items()}
    return catalog.to_table(values, bands)


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["report", *arguments])
    streams = capsys.readouterr()
    return int(stopped.value.code or 0), streams.out + streams.err


def test_the_page_of_a_run(out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.html"
    code, said = report(capsys, out, "--out", str(file), "--blends", "2")
    assert code == 0
    assert str(file) in said
    page = Page(file.read_text())
    assert not page.open
    assert {link.removeprefix("#") for link in page.links} <= page.anchors
    # Four maps, counts, colors and two blends; the field has no stars.
    assert page.pictures == 8
    assert "No star could be measured: 0" in page.text
    assert "injected no galaxies" in page.text
    assert "No cell failed." in page.text
    table = catalog.read_catalog(out)
    assert f"{len(table):,}rows in all" in page.text
    worst = table.filter(table["n_blended"].to_numpy() > 1)
    chi2 = np.nan_to_num(worst["chi2"].to_numpy())
    own = worst.filter(chi2 == chi2.max())
    assert f"1. χ² {chi2.max():.2f}" in page.text
    assert any(f"inspect OUT {name}" in page.text for name in own["source_id"].to_pylist())


@pytest.mark.parametrize(("kinds", "known"), [(["star", CONTROL_STAR], False), (["galaxy"], True)])
def test_stars_alone_measure_no_completeness(tmp_path: Path, kinds: list[str], known: bool) -> None:
    (tmp_path / "injected").mkdir()
    pq.write_table(pa.table({"kind": kinds}), tmp_path / "injected" / "cell.parquet")
    assert (injected_sources(str(tmp_path)) is not None) == known


def test_what_failed_and_what_is_gone_is_said(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, file = str(tmp_path / "out"), tmp_path / "run.html"
    shutil.copytree(out, copy)
    first = read_entries(copy)[0]
    write_entry(copy, LedgerEntry(*first.key, "failed", "detect: no <disk> left"))
    image = next(f.image for f in open_finished(copy).headers["field"].files if f)
    shutil.move(image, tmp_path / "away.fits")
    try:
        assert report(capsys, copy, "--out", str(file), "--blends", "1")[0] == 0
    finally:
        shutil.move(tmp_path / "away.fits", image)
    page = Page(file.read_text())
    assert "detect: no <disk> left" in page.text
    assert "could not be drawn: tile field can no longer be read" in page.text
    code, said = report(capsys, copy, out, "--out", str(file))
    assert code == 2
    assert "one catalog" in said


def test_the_area_and_counts_of_a_run(out: str) -> None:
    tally = tally_catalog(open_finished(out), 3)
    assert tally.area == pytest.approx(300 * 180 * (SCALE / 60) ** 2, rel=1e-4)
    assert tally.rows == len(catalog.read_catalog(out))
    assert len(tally.worst.blends) <= 3
    assert abs(tally.rows - len(galaxies())) < 0.2 * len(galaxies())
    assert cost_tables(read_entries(out), 1.0)[0].rows[-1][0] == "all"


def test_overlapping_tiles_share_their_area() -> None:
    """Two tiles of 100 × 200 pixels that share 40 columns cover 160 × 100 pixels of two tiles."""

    def tile(name: str, x0: int) -> TileHeader:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval, wcs.wcs.crpix = [150.0, 2.0], [101 - x0, 51]
        wcs.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
        header = wcs.to_header().tostring(endcard=False, padding=False)
        return TileHeader(name, ("i",), (None,), (100, 200), header, 0.2)

    parts = owned_parts({"a": tile("a", 0), "b": tile("b", 160)})
    assert sum(parts.values()) == pytest.approx((400 - 40) / 200, abs=0.02)
    assert owned_parts({"a": tile("a", 0)}) == {"a": 1.0}


def test_a_sample_does_not_depend_on_the_order() -> None:
    table = rows(1000)
    one, other = Sample(50, ["x"]), Sample(50, ["x"])
    one.add(table)
    for start in (500, 0):
        other.add(table.slice(start, 500))
    assert one.rows.equals(other.rows)
    assert len(one.rows) == 50
    assert one.offered == other.offered == 1000
    # Hashes are mixed: the sample is spread over all identifiers.
    assert 300 < np.mean(one.rows["source_id"].to_numpy()) < 700


def test_number_counts_are_those_of_the_magnitudes() -> None:
    # 1000 nJy is 23.9; stars are told by p_star, and unknown ones are galaxies.
    flux = np.array([1000, 1000, 1000, -5, np.nan])
    table = rows(5, ("i",), flux_i=flux, p_star=np.array([0.9, 0.1, np.nan, 0.1, 0.1]))
    counts = NumberCounts(("i",))
    counts.add(table)
    place = int(np.flatnonzero((EDGES[:-1] <= 23.9) & (EDGES[1:] > 23.9))[0])
    assert (counts.stars[0, place], counts.galaxies[0, place]) == (1, 2)
    assert (counts.stars.sum(), counts.galaxies.sum(), counts.faint[0]) == (1, 2, 2)
    assert counts_figure(counts, 1.0, [np.nan])[:4] == b"\x89PNG"


@pytest.mark.parametrize(("width", "expected"), [(1.0, 1.0), (1.1, 1.1), (2.0, np.nan)])
def test_the_size_of_a_star_over_that_of_its_psf(width: float, expected: float) -> None:
    def draw(sigma: float, flux: float, dx: float) -> np.ndarray:
        star = galsim.Gaussian(sigma=sigma, flux=flux).shift(dx, 0)
        return star.drawImage(nx=25, ny=25, scale=1.0, method="no_pixel").array

    star = draw(2.0 * width, 500.0, 0.3) + 3.0
    assert size_ratio(star, draw(2.0, 1.0, 0.0)) == pytest.approx(expected, rel=0.01, nan_ok=True)


def test_the_distance_from_the_stellar_locus() -> None:
    """On a straight part of the locus a star moved at right angles is as far away as it moved."""
    start, end = LOCUS[2, 2:4], LOCUS[3, 2:4]
    along = (end - start) / np.linalg.norm(end - start)
    across = np.array([-along[1], along[0]])
    moved = (start + end) / 2 + np.outer([0.05, -0.03], across)
    np.testing.assert_allclose(locus_distance(*moved.T), [0.05, -0.03], atol=2e-3)
    beyond = LOCUS[0, 2:4] - np.array([0.5, 0.1])
    assert np.isnan(locus_distance(*beyond[:, None])).all()


def test_stars_on_the_locus_have_no_offset() -> None:
    gi = np.linspace(0.6, 2.4, 30)
    gr, ri = (np.interp(gi, LOCUS[:, 0], LOCUS[:, k]) for k in (2, 3))
    flux = {"flux_r": 1e4, "flux_g": 1e4 * 10 ** (-0.4 * gr), "flux_i": 1e4 * 10 ** (0.4 * ri)}
    errors = {f"flux_err_{band}": 10.0 for band in "gri"}
    colors = Colors(("g", "r", "i", "z"))
    colors.add(rows(30, **flux, **errors, p_star=0.99))
    found = locus_of(colors)
    assert found is not None
    assert found.n == 30
    assert abs(found.offset) < 2e-3
    assert locus_of(Colors(("r", "i", "z"))) is None


def test_the_worst_blends_are_one_for_each_footprint() -> None:
    worst = WorstBlends(2)
    parent, chi2 = np.array([1, 1, 2, 3, 4, 5]), np.array([9.0, 8, 7, 6, 99, 98])
    n = np.array([2, 2, 2, 2, 1, 2])
    flags = np.array([0, 0, 0, 0, 0, int(Flag.SATURATED)])
    for part in (slice(0, 3), slice(3, 6)):
        worst.add(rows(3, parent_id=parent[part], chi2=chi2[part], n_blended=n[part],
                       flags=flags[part]))  # fmt: skip
    assert [(blend.parent_id, blend.chi2) for blend in worst.blends] == [(1, 9), (2, 7)]


def test_suspect_cells_are_named_with_what_was_found() -> None:
    findings = (Finding("band r has no data", 2, "t", "a"), Finding("the PSFs are", 1, "t", "b"))
    summary = RunSummary(3, 0, (), 0, 0, 0.0, "", "", n_suspect=2, findings=findings)
    table = suspects_table(summary)
    assert table.rows == [["2", "band r has no data", "t a"], ["1", "the PSFs are", "t b"]]
    assert "in 2 cells" in table.before[0]
    assert not suspects_table(RunSummary(3, 0, (), 0, 0, 0.0, "", "")).rows


def test_failures_are_grouped_and_flags_counted() -> None:
    failures = tuple(
        LedgerEntry("t", f"c{k}", "failed", f"deblend: out of {k} MB") for k in range(3)
    )
    table = cells_table(RunSummary(3, 3, failures, 0, 0, 0.0, "", ""))
    assert [row[0] for row in table.rows] == ["3"]
    flags = FlagCounts()
    flags.add(rows(4, flags=np.array([0, 2, 2, 6])))
    assert [row[:3] for row in flags_table(flags).rows] == [
        ["EDGE", "3", "75.0%"],
        ["MASKED", "1", "25.0%"],
    ]
    assert flags_table(flags).rows[0][4] == "1"
    assert not flags_table(FlagCounts()).rows
