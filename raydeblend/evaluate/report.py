"""`raydeblend report DIR…`: any set of results as one HTML page that needs nothing else.

A results directory is what `raydeblend evaluate` writes: ``metrics.json``, ``tables.json``,
``provenance.json`` and PNG figures, any of which may be missing but not all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from raydeblend import access, storage
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.figures import read_caption
from raydeblend.evaluate.common.provenance import read_provenance
from raydeblend.evaluate.common.tables import NAME, Table, name_tables, read_tables
from raydeblend.evaluate.page import (
    definitions_html,
    document,
    figure_html,
    folded_html,
    table_html,
)

_WORDS = {"command": "Command", "date": "Date", "commit": "Commit", "hardware": "Hardware"}


@dataclass(frozen=True)
class Results:
    """One results directory.

    Attributes
    ----------
    name
        Its last path component, unique within the page.
    metrics
        The rows of ``metrics.json``.
    figures
        PNG files by name, in the order of their names.
    """

    name: str
    protocol: str
    metrics: Sequence[Mapping[str, Any]]
    tables: Sequence[Table]
    provenance: Mapping[str, Any]
    figures: Mapping[str, bytes]

    @property
    def anchor(self) -> str:
        """Name that links within the page use."""
        return re.sub(r"[^A-Za-z0-9_-]+", "-", self.name)


def write_report(roots: Sequence[str], out: str) -> int:
    """Write the page of the results in `roots`, local or on s3; return its size in bytes.

    Raises
    ------
    ConfigError
        If none is given, one holds no results, or `out` cannot be written.
    """
    if not roots:
        raise ConfigError("name at least one results directory")
    names = _unique_names(roots)
    access.check_file_writable(out)
    page = render_page([read_results(root, name) for root, name in zip(roots, names, strict=True)])
    content = page.encode()
    storage.write_bytes(out, content)
    return len(content)


def _unique_names(roots: Sequence[str]) -> list[str]:
    short = [root.rstrip("/").rsplit("/", 1)[-1] or root for root in roots]
    return [name if short.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(short)]


def read_results(root: str, name: str) -> Results:
    """Read a results directory.

    Raises
    ------
    ConfigError
        If there are neither metrics nor tables, the tables are there as text alone, or a file is
        damaged.
    """
    paths = {path.rsplit("/", 1)[-1]: path for path in storage.list_files(root)}
    if "tables.md" in paths and NAME not in paths:
        raise ConfigError(f"{root} holds tables.md without {NAME}; repeat its evaluation")
    if not {"metrics.json", NAME} & set(paths):
        raise ConfigError(f"{root} holds no results: neither metrics.json nor {NAME}")
    metrics = _read_json(paths["metrics.json"]) if "metrics.json" in paths else []
    tables = read_tables(storage.read_bytes(paths[NAME]), paths[NAME]) if NAME in paths else []
    figures = {n: storage.read_bytes(paths[n]) for n in sorted(paths) if n.endswith(".png")}
    protocol = str(metrics[0].get("protocol", "")) if metrics else ""
    return Results(name, protocol, metrics, tables, read_provenance(root), figures)


def _read_json(path: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(storage.read_bytes(path))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise ConfigError(f"{path} is not a list of rows")
    return rows


def render_page(results: Sequence[Results]) -> str:
    """Return the page as HTML."""
    contents = "\n".join(_contents(result) for result in results)
    sections = "\n".join(_section(result) for result in results)
    return document("raydeblend: results", contents, sections)


def _title(result: Results) -> str:
    extra = f" ({result.protocol})" if result.protocol not in ("", result.name) else ""
    return escape(result.name + extra)


def _contents(result: Results) -> str:
    parts = [(f"t{i}", title) for i, (title, _) in enumerate(name_tables(result.tables))]
    parts += [("figures", "Figures")] if result.figures else []
    links = "".join(
        f'<li><a href="#{result.anchor}-{key}">{escape(title)}</a></li>' for key, title in parts
    )
    return f'<li><a href="#{result.anchor}">{_title(result)}</a><ul>{links}</ul></li>'


def _section(result: Results) -> str:
    return "\n".join(
        [
            f'<section id="{result.anchor}"><h2>{_title(result)}</h2>',
            _provenance(result.provenance),
            *_tables(result),
            *_figures(result),
            "</section>",
        ]
    )


def _provenance(provenance: Mapping[str, Any]) -> str:
    if not provenance:
        return "<p>Where these results come from was not recorded.</p>"
    terms = [
        (title, escape(str(provenance[key]))) for key, title in _WORDS.items() if key in provenance
    ]
    if "seconds" in provenance:
        terms.append(("Took", escape(f"{provenance['seconds']} s")))
    terms += [
        (title, folded_html((str(k), str(v)) for k, v in items.items()))
        for title, items in (
            ("Weights (SHA-256)", provenance.get("weights")),
            ("Versions", provenance.get("versions")),
        )
        if isinstance(items, dict) and items
    ]
    return definitions_html(terms)


def _tables(result: Results) -> Iterator[str]:
    for i, (title, table) in enumerate(name_tables(result.tables)):
        yield f'<h3 id="{result.anchor}-t{i}">{escape(title)}</h3>'
        yield table_html(table)


def _figures(result: Results) -> Iterator[str]:
    if result.figures:
        yield f'<h3 id="{result.anchor}-figures">Figures</h3>'
    for name, png in result.figures.items():
        caption = read_caption(png) or name.removesuffix(".png").replace("_", " ")
        yield figure_html(png, name, caption)
