"""`raydeblend evaluate PROTOCOL`: a test set, deblenders, and what comes out on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from raydeblend import storage
from raydeblend.deblend import load_deblender
from raydeblend.errors import ConfigError
from raydeblend.evaluate.blends import BlendSet, read_blends, to_blend_set
from raydeblend.evaluate.figures import flux_figure, gallery_figure
from raydeblend.evaluate.tables import quality_table, score_table
from raydeblend.evaluate.wang2022 import Row, Scores, evaluate_wang2022
from raydeblend.simulate.protocols import wang2022_blends

PROTOCOLS = ("wang2022",)
BASELINE = "sep"
DEFAULT_N = 1000
"""Blends drawn per number of galaxies without a file; the size of the paper's test sets."""


@dataclass(frozen=True)
class Evaluation:
    """The rows of ``metrics.json``, the tables as text, and the files written."""

    rows: list[Row]
    tables: str
    paths: tuple[str, ...]


def run_evaluation(
    protocol: str,
    deblenders: Sequence[str],
    data: str | None,
    n: int | None,
    out: str,
    seed: int = 0,
) -> Evaluation:
    """Score deblenders, with sep always among them, and write metrics, tables and figures.

    Parameters
    ----------
    protocol
        One of `PROTOCOLS`.
    data
        An npz file of the fixed layout; without one, `n` blends are drawn with `seed`.
    out
        A directory, local or on s3, for ``metrics.json``, ``tables.md`` and the figures.

    Raises
    ------
    ConfigError
        For an unknown protocol or deblender, a missing file, or a directory that cannot be
        written; before any work.
    """
    check_arguments(protocol, n)
    names = dict.fromkeys([*deblenders, BASELINE])
    loaded = {name: load_deblender(name) for name in names}
    test_set = read_blends(data) if data is not None else None
    storage.check_writable(out)
    if test_set is None:
        test_set = to_blend_set(wang2022_blends(n or DEFAULT_N, seed))
    rows, scores = evaluate_wang2022(loaded, test_set, n)
    tables = f"{score_table(rows)}\n\n{quality_table(scores)}\n"
    files = {
        "metrics.json": (to_json(rows) + "\n").encode(),
        "tables.md": tables.encode(),
        **draw_figures(scores, test_set),
    }
    return Evaluation(rows, tables, _write(out, files))


def check_arguments(protocol: str, n: int | None) -> None:
    """Check what needs no file.

    Raises
    ------
    ConfigError
        For an unknown protocol or a number that is not positive.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {protocol!r}; known are {', '.join(PROTOCOLS)}")
    if n is not None and n < 1:
        raise ConfigError(f"the number of blends must be at least 1, not {n}")


def to_json(rows: Sequence[Row]) -> str:
    """Return the rows as JSON, with null for what does not exist (a bias of none found)."""
    return json.dumps(
        [{key: _finite(value) for key, value in row.items()} for row in rows], indent=1
    )


def _finite(value: str | int | float) -> str | int | float | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def draw_figures(scores: Sequence[Scores], data: BlendSet) -> dict[str, bytes]:
    """Return the figures as PNG files by name."""
    figures = {f"flux_{k}.png": flux_figure(group) for k, group in _by_galaxies(scores).items()}
    for blends in data.blends:
        for score in _by_galaxies(scores)[blends.n_galaxies]:
            name = f"gallery_{score.deblender}_{blends.n_galaxies}.png"
            figures[name] = gallery_figure(blends[: len(score.models)], score)
    return figures


def _by_galaxies(scores: Sequence[Scores]) -> dict[int, list[Scores]]:
    groups: dict[int, list[Scores]] = {}
    for score in scores:
        groups.setdefault(score.n_galaxies, []).append(score)
    return groups


def _write(out: str, files: dict[str, bytes]) -> tuple[str, ...]:
    paths = []
    for name, content in files.items():
        path = storage.join(out, name)
        storage.write_bytes(path, content)
        paths.append(path)
    return tuple(paths)
