"""The page about a run: sections of numbers, figures and tables, in one HTML file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

from raydeblend import access, storage
from raydeblend.draw.finished import Finished, open_finished
from raydeblend.draw.map_figures import map_figures
from raydeblend.draw.report.colors import LEAST_SNR, Colors, colors_figure, locus_of
from raydeblend.draw.report.completeness import (
    ABSENT,
    completeness_figure,
    completeness_table,
    half_limits,
    injected_sources,
)
from raydeblend.draw.report.cost import HOUR, core_seconds, cost_tables
from raydeblend.draw.report.failures import cells_table, flags_table, suspects_table
from raydeblend.draw.report.magnitudes import STAR_LIKELY, counts_figure
from raydeblend.draw.report.star_sizes import (
    LEAST_SNR as STAR_SNR,
)
from raydeblend.draw.report.star_sizes import (
    SURE,
    measure_stars,
    sizes_figure,
)
from raydeblend.draw.report.tally import Tally, tally_catalog
from raydeblend.draw.report.worst_blends import MOST_SOURCES, Picture, draw_blends
from raydeblend.evaluate.common.tables import Table, number
from raydeblend.evaluate.page import (
    definitions_html,
    document,
    figure_html,
    folded_html,
    table_html,
)
from raydeblend.inject.statistics import by_magnitude
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.ledger import RUN_FILE
from raydeblend.pipeline.ledger_files import read_entries, read_ledger
from raydeblend.pipeline.summary import RunSummary, Totals

MAPS = {
    "depth": "How deep each cell is, from the flux errors of its faint sources.",
    "density": "Rows per square arcminute.",
    "failures": "Rows without a measurement; a cell that failed as a whole counts 100 %.",
    "blended": "Rows that share their footprint with another.",
}
"""Captions of the maps of `draw.maps`."""
TITLES = {"depth": "Depth", "density": "Density", "failures": "Failures", "blended": "Blending"}


@dataclass(frozen=True)
class Section:
    """A part of the page: its title, and what it holds as HTML."""

    title: str
    content: str

    @property
    def anchor(self) -> str:
        """Name that links within the page use."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @property
    def html(self) -> str:
        """The section."""
        return (
            f'<section id="{self.anchor}"><h2>{escape(self.title)}</h2>\n{self.content}</section>'
        )

    @property
    def link(self) -> str:
        """Its line in the contents."""
        return f'<li><a href="#{self.anchor}">{escape(self.title)}</a></li>'


def is_survey(root: str) -> bool:
    """Tell whether a folder, local or on s3, is the output of `raydeblend catalog`."""
    return storage.exists(storage.join(root, RUN_FILE))


def write_survey_report(out: str, page: str, n_blends: int) -> int:
    """Write the page about the run in `out`; return its size in bytes.

    Parameters
    ----------
    out
        The output of a catalog run, local or on s3.  Pictures of blends and sizes of stars need
        its input too, and are left out, with the reason, where that cannot be read.
    page
        The HTML file to write.
    n_blends
        How many of the worst blends are drawn.

    Raises
    ------
    ConfigError
        If `out` holds no catalog, a shard cannot be read, or `page` cannot be written.
    """
    access.check_file_writable(page)
    finished = open_finished(out)
    tally = tally_catalog(finished, n_blends)
    # Tiles that could not be planned are entries too.
    entries = read_entries(out)
    sections = list(_sections(finished, tally, entries))
    title = f"raydeblend: the run in {out.rstrip('/').rsplit('/', 1)[-1]}"
    text = document(title, "\n".join(s.link for s in sections), "\n".join(s.html for s in sections))
    storage.write_bytes(page, text.encode())
    return len(text.encode())


def _sections(
    finished: Finished, tally: Tally, entries: Sequence[LedgerEntry]
) -> Iterator[Section]:
    summary = _summary(finished.out)
    depth = [tally.depth(i) for i in range(len(finished.run.bands))]
    yield Section("Overview", _overview(finished, tally, summary, depth))
    yield Section("Maps", _maps(finished, tally))
    yield Section("Number counts", _counts(tally, depth))
    yield Section("Completeness", _completeness(finished))
    yield Section("Colors", _colors(tally.colors))
    yield Section("Sizes of stars", _sizes(finished, tally))
    yield _tables("Failures and flags", _went_wrong(summary, tally))
    yield Section("Worst blends", "\n".join(_worst(finished, tally)))
    yield _tables("Cost", cost_tables(entries, tally.square_degrees))
    yield Section("Provenance", _provenance(finished))


def _summary(out: str) -> RunSummary:
    totals = Totals(read_ledger(out).slice(0, 0))
    totals.add_all(read_entries(out))
    return totals.summarize(out, 0.0)


def _went_wrong(summary: RunSummary, tally: Tally) -> list[Table]:
    return [cells_table(summary), suspects_table(summary), flags_table(tally.flags)]


def _tables(title: str, tables: Sequence[Table]) -> Section:
    """Return a section of tables; one with the section's title needs none of its own."""
    parts = [
        ("" if table.title in ("", title) else f"<h3>{escape(table.title)}</h3>\n")
        + table_html(replace(table, title=""))
        for table in tables
    ]
    return Section(title, "\n".join(parts))


def _overview(finished: Finished, tally: Tally, summary: RunSummary, depth: Sequence[float]) -> str:
    n, area = max(tally.primary, 1), tally.square_degrees
    hours = core_seconds(finished.entries) / HOUR
    numbers = {
        "sources, each place once": f"{tally.primary:,}",
        "rows in all": f"{tally.rows:,}",
        "sources / arcmin²": number(tally.primary / tally.area if tally.area else np.nan, ".1f"),
        "square degrees": f"{area:.4g}",
        "tiles": f"{len(finished.headers):,}",
        "cells": f"{summary.n_cells:,}",
        "cells failed": f"{summary.n_failed:,}",
        "cells suspect": f"{summary.n_suspect:,}",
        "sources in blends": f"{tally.blended / n:.1%}",
        f"stars (p_star > {STAR_LIKELY:g})": f"{tally.stars / n:.1%}",
        "core-hours / deg²": number(hours / area if area else np.nan, ".1f"),
    }
    numbers |= {
        f"{band}: 5σ depth / AB mag": number(value, ".2f")
        for band, value in zip(finished.run.bands, depth, strict=True)
    }
    items = "".join(
        f"<li><b>{escape(value)}</b><span>{escape(name)}</span></li>"
        for name, value in numbers.items()
    )
    return f'<ul class="numbers">{items}</ul>'


def _maps(finished: Finished, tally: Tally) -> str:
    figures = map_figures(tally.cells, finished.run.bands)
    depth, *others = (figure_html(figures[name], TITLES[name], MAPS[name]) for name in MAPS)
    return (
        f'<p>A polygon is a cell; north is up.</p>{depth}<div class="row">{"".join(others)}</div>'
    )


def _counts(tally: Tally, depth: Sequence[float]) -> str:
    png = counts_figure(tally.counts, tally.area, depth)
    lost = ", ".join(
        f"{n:,} in {band}" for band, n in zip(tally.counts.bands, tally.counts.faint, strict=True)
    )
    caption = (
        "Total model fluxes of primary rows; bars are Poisson errors, the dashed line is the "
        f"median depth of the cells. Without a positive flux, so not shown: {lost}."
    )
    return figure_html(png, "Number counts", caption)


def _completeness(finished: Finished) -> str:
    rows, bands = injected_sources(finished.out), finished.run.bands
    if rows is None:
        return f"<p>{escape(ABSENT)}</p>"
    bins = by_magnitude(rows, bands)
    caption = (
        f"Of {len(rows):,} sources drawn into copies of the cells: the part of galaxies that is "
        f"found, and what is wrong with their fluxes. {half_limits(rows, bands)}"
    )
    figure = figure_html(completeness_figure(bins, bands), "Completeness", caption)
    return figure + table_html(completeness_table(bins, bands))


def _colors(colors: Colors) -> str:
    if len(colors.bands) < 3:
        return "<p>Two colors need three bands.</p>"
    caption = f"Sources with a signal to noise above {LEAST_SNR:g} in each band; not dereddened."
    sample = colors.galaxies
    if sample.offered > sample.size:
        caption += f" Of {sample.offered:,} galaxies {sample.size:,} are drawn."
    locus = locus_of(colors)
    if locus is not None:
        caption += (
            f" The line is the locus of dwarf stars (after Covey et al. 2007, AJ 134, 2398, "
            "in SDSS's bands, from which others differ by hundredths of a magnitude); "
            f"{locus.n} stars lie {locus.offset:+.3f} mag from it across (median), with a scatter "
            f"of {locus.width:.3f} mag."
        )
    return figure_html(colors_figure(colors), "Colors", caption)


def _sizes(finished: Finished, tally: Tally) -> str:
    sizes = measure_stars(finished, tally.bright)
    if not len(sizes.sky):
        reason = sizes.unreadable and f" {sizes.unreadable}."
        words = f"No star could be measured: {tally.bright.sample.offered} are fit for it.{reason}"
        return f"<p>{escape(words)}</p>"
    caption = (
        f"Single stars without a flag (p_star ≥ {SURE:g}, signal to noise ≥ {STAR_SNR:g}), at most "
        f"{tally.bright.sample.size}: the size of the Gaussian that matches each best, over that "
        "of the PSF it was measured with. Red: the star is wider than the PSF; a pattern over the "
        "field, or a median off zero, is a wrong PSF."
    )
    if sizes.unreadable:
        caption += f" Some could not be read: {sizes.unreadable}."
    return figure_html(
        sizes_figure(sizes, np.concatenate([cell.corners for cell in tally.cells])),
        "Sizes of stars",
        caption,
    )


def _worst(finished: Finished, tally: Tally) -> Iterator[str]:
    yield (
        "<p>Footprints of several sources in which a source has the largest χ² per degree of "
        f"freedom; without saturated ones and those of more than {MOST_SOURCES} sources. "
        "They are deblended again from the input.</p>"
    )
    pictures = list(draw_blends(finished, tally.worst.blends))
    if not pictures:
        yield "<p>The catalog has no such blend.</p>"
    for place, picture in enumerate(pictures, start=1):
        yield _blend_html(place, picture)


def _blend_html(place: int, picture: Picture) -> str:
    blend = picture.blend
    name = f"{place}. χ² {blend.chi2:.2f}"
    if picture.png:
        caption = f"{blend.n_blended} sources; raydeblend inspect OUT {blend.source_id}"
        return figure_html(picture.png, name, caption)
    words = f"source {blend.source_id} of {blend.n_blended} could not be drawn: {picture.reason}"
    return f"<p><b>{escape(name)}</b> {escape(words)}</p>"


def _provenance(finished: Finished) -> str:
    run = finished.run
    terms = [
        ("Catalog", escape(finished.out)),
        ("Input", escape(run.input)),
        ("Part", escape(run.part)),
        ("Configuration", escape(run.config_hash)),
        ("Settings", folded_html((k, str(v)) for k, v in run.config.items())),
        ("Weights", folded_html(run.weights.items())),
        ("Versions", folded_html(run.versions.items())),
    ]
    return definitions_html(terms)
