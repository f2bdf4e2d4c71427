"""Ray's metrics endpoint after a run, against what was passed on."""

import urllib.request

import pytest
import ray
from ray.util.metrics import Gauge
from waiting import wait_for

from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.metrics import counted

ENTRIES = [
    LedgerEntry("t", "a", "done", sources=30, blends=4, flags={"EDGE": 3, "MASKED": 0},
                seconds={"detect": 0.5, "deblend": 2.0}, peak_memory_mb=300.0),
    LedgerEntry("t", "b", "done", sources=12, flags={"EDGE": 1}, seconds={"detect": 0.25}),
    LedgerEntry("t", "c", "failed", "detect: no", seconds={"detect": 0.125}, peak_memory_mb=100.0),
]  # fmt: skip
COUNTED = {
    "cells_total": [{"status": "done"}, {"status": "failed"}],
    "sources_total": [{}],
    "blends_total": [{}],
    "flagged_total": [{"flag": "EDGE"}, {"flag": "MASKED"}],
    "stage_seconds_total": [{"stage": "detect"}, {"stage": "deblend"}],
    "cell_seconds_count": [{}],
    "cell_seconds_bucket": [{"le": "0.3"}],
}


def read(number: int) -> str:
    """What Prometheus reads as soon as all is there that has been counted."""
    # Ray passes on all that a process has counted at once.
    Gauge("raydeblend_reading", "Of this test").set(number)
    (node,) = ray.nodes()
    address = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    return wait_for(lambda: _text_with(address, number), 120)


def _text_with(address: str, number: int) -> str:
    try:
        text = urllib.request.urlopen(address, timeout=10).read().decode()
    except OSError:  # it has nothing yet
        return ""
    return text if number in values(text, "reading") else ""


def values(text: str, name: str, **labels: str) -> list[float]:
    """The values of one metric in Prometheus's text format, of all processes that have it."""
    return [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(f"ray_raydeblend_{name}{{")
        and all(f'{label}="{value}"' in line for label, value in labels.items())
    ]


def changes(before: str, after: str) -> dict[tuple[str, ...], float]:
    """What was counted between two readings, by name and labels."""
    return {
        (name, *labels.values()): sum(values(after, name, **labels))
        - sum(values(before, name, **labels))
        for name, several in COUNTED.items()
        for labels in several
    }


def test_prometheus_reads_what_a_run_did(ray_local: None) -> None:
    """Other runs of the session were counted before, or have gauges of their own."""
    before = read(1)
    assert list(counted(ENTRIES, 5)) == ENTRIES
    after = read(2)
    assert changes(before, after) == {
        ("cells_total", "done"): 2,
        ("cells_total", "failed"): 1,
        ("sources_total",): 42,
        ("blends_total",): 4,
        ("flagged_total", "EDGE"): 4,
        ("flagged_total", "MASKED"): 0,
        ("stage_seconds_total", "detect"): pytest.approx(0.875),
        ("stage_seconds_total", "deblend"): pytest.approx(2.0),
        ("cell_seconds_count",): 3,
        ("cell_seconds_bucket", "0.3"): 2,
    }
    assert 2 in values(after, "cells_left")
    assert 100 * 2**20 in values(after, "cell_memory_bytes")
