"""When, on what and from which commit a benchmark ran."""

from __future__ import annotations

from datetime import UTC, datetime

from raydeblend.evaluate.common.provenance import commit, processor


def circumstances() -> str:
    """Return one line; every benchmark of ours uses one thread."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{now}, commit {commit()}, {processor()}, 1 thread"
