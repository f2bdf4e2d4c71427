"""Ray's metrics endpoint after a run, against what was passed on."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A Ray of its own, whose endpoint has a port that the test knows.
SCRIPT = """
import sys, time, urllib.request
import ray
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.metrics import counted

port = int(sys.argv[1])
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
         logging_level="ERROR", _metrics_export_port=port)
entries = [
    LedgerEntry("t", "a", "done", sources=30, blends=4, flags={"EDGE": 3, "MASKED": 0},
                seconds={"detect": 0.5, "deblend": 2.0}, peak_memory_mb=300.0),
    LedgerEntry("t", "b", "done", sources=12, flags={"EDGE": 1}, seconds={"detect": 0.25}),
    LedgerEntry("t", "c", "failed", "detect: no", seconds={"detect": 0.125}, peak_memory_mb=100.0),
]
assert list(counted(entries, 5)) == entries
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    except OSError:
        text = ""
    if "ray_raydeblend_cells_total" in text:
        print(text)
        break
    time.sleep(0.5)
ray.shutdown()
"""


def metric(text: str, name: str, **labels: str) -> float:
    """The value of one metric in Prometheus's text format."""
    found = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(f"ray_raydeblend_{name}{{")
        and all(f'{label}="{value}"' in line for label, value in labels.items())
    ]
    assert len(found) == 1, (name, found)
    return found[0]


@pytest.mark.ray
def test_prometheus_reads_what_a_run_did() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    environment["RAY_metrics_report_interval_ms"] = "500"  # of ten seconds
    command = [sys.executable, "-c", SCRIPT, str(port)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert metric(text, "cells_total", status="done") == 2
    assert metric(text, "cells_total", status="failed") == 1
    assert metric(text, "sources_total") == 42
    assert metric(text, "blends_total") == 4
    assert metric(text, "flagged_total", flag="EDGE") == 4
    assert 'flag="MASKED"' not in text
    assert metric(text, "stage_seconds_total", stage="detect") == 0.875
    assert metric(text, "stage_seconds_total", stage="deblend") == 2.0
    assert metric(text, "cells_left") == 2
    assert metric(text, "cell_memory_bytes") == 100 * 2**20
    assert metric(text, "cell_seconds_count") == 3
    assert metric(text, "cell_seconds_bucket", le="0.3") == 2
