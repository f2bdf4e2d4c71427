"""When, on what and from which commit a benchmark ran."""

from __future__ import annotations

from datetime import UTC, datetime

from raydeblend.evaluate.common.provenance import commit, processor


def circumstances(threads: int = 1) -> str:
    """Return one line; nearly every benchmark of ours uses one thread."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{now}, commit {commit()}, {processor()}, {threads} thread{'s' * (threads > 1)}"
