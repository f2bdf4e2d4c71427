"""The command line that goes on with a run, from what ``run.json`` says of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import MISSING, fields

from raydeblend.config import CatalogConfig
from raydeblend.pipeline.ledger import Run

OPTIONS = {"detect_threshold": "threshold"}
"""Options that are not called as their field is."""
PYTHON_ONLY = ("deblend_singles", "bad_planes", "detect_min_area")
"""Fields that only `run_catalog` takes."""


def resume_command(out: str, run: Run) -> str:
    """Return what a shell takes to do the rest of a run; what is not a default is said.

    A run whose configuration no options express, since it was made from Python, is followed by a
    comment with what they lack.
    """
    words = ["raydeblend", "catalog", run.input, out]
    words += ["--bands", ",".join(run.bands)]
    for name, value in _changed(run):
        if name not in PYTHON_ONLY:
            words += [f"--{OPTIONS.get(name, name.replace('_', '-'))}", str(value)]
    if run.part != "1/1":
        words += ["--part", run.part]
    lacking = [f"{name}={value!r}" for name, value in _changed(run) if name in PYTHON_ONLY]
    comment = f"  # from Python, with {', '.join(lacking)}" if lacking else ""
    return shlex.join([*words, "--resume"]) + comment


def _changed(run: Run) -> Iterator[tuple[str, object]]:
    """Yield the fields of a run's configuration that are not as a new run would have them."""
    for f in fields(CatalogConfig):
        value = run.config.get(f.name, f.default)
        plain = tuple(value) if isinstance(value, list) else value
        if f.default is not MISSING and plain != f.default:
            yield f.name, plain
