"""When, on what and from which commit a benchmark ran."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path

from raydeblend.evaluate.provenance import commit


def circumstances() -> str:
    """Return one line; every benchmark of ours uses one thread."""
    processor = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{now}, commit {commit()}, {processor}, 1 thread"
