"""The outputs of several runs that share a survey, by their names or by a pattern of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.paths import PATTERN
from raydeblend.pipeline.ledger import RUN_FILE


def find_runs(outs: Sequence[str]) -> list[str]:
    """Return the outputs that are meant, each once; see `named_runs`."""
    return list(dict.fromkeys(named_runs(outs)))


def named_runs(outs: Sequence[str]) -> list[str]:
    """Return the outputs that are meant; ``s3://bucket/out/*`` is those of its folders.

    Raises
    ------
    ConfigError
        If no output is under a pattern.
    """
    return [out for given in outs for out in _expand(given)]


def _expand(out: str) -> Iterator[str]:
    # A folder may be called as a pattern is.
    if not PATTERN.search(out) or storage.exists(storage.join(out, RUN_FILE)):
        yield out
        return
    found = storage.glob(storage.join(out, RUN_FILE))
    if not found:
        raise ConfigError(
            f"{out} is neither a catalog nor a pattern that matches a folder with a {RUN_FILE}"
        )
    # Parts 1 to 12 in order of their numbers.
    for path in sorted(found, key=lambda name: (len(name), name)):
        yield storage.parent(path)
