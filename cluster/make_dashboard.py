"""Writes grafana.json, the dashboard of a catalog run: `python cluster/make_dashboard.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
PANELS: tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...] = (
    ("Cells left", "stat", "none", (("max(ray_raydeblend_cells_left)", ""),)),
    (
        "Sources per second",
        "stat",
        "none",
        (("sum(rate(ray_raydeblend_sources_total[5m]))", ""),),
    ),
    (
        "Cells failed",
        "stat",
        "none",
        (('sum(ray_raydeblend_cells_total{status="failed"}) or vector(0)', ""),),
    ),
    (
        "Time left at this rate",
        "stat",
        "s",
        (("max(ray_raydeblend_cells_left) / sum(rate(ray_raydeblend_cells_total[15m]))", ""),),
    ),
    (
        "Cells per minute",
        "timeseries",
        "none",
        (("60 * sum by (status) (rate(ray_raydeblend_cells_total[5m]))", "{{status}}"),),
    ),
    (
        "Busy stages (processes at work)",
        "timeseries",
        "none",
        (("sum by (stage) (rate(ray_raydeblend_stage_seconds_total[5m]))", "{{stage}}"),),
    ),
    (
        "Seconds per cell",
        "timeseries",
        "s",
        tuple(
            (
                f"histogram_quantile({q}, sum by (le) "
                "(rate(ray_raydeblend_cell_seconds_bucket[15m])))",
                f"{q:.0%} of cells take less",
            )
            for q in (0.5, 0.95)
        ),
    ),
    (
        "Flagged sources",
        "timeseries",
        "percentunit",
        (
            (
                "sum by (flag) (rate(ray_raydeblend_flagged_total[15m])) / "
                "scalar(sum(rate(ray_raydeblend_sources_total[15m])))",
                "{{flag}}",
            ),
        ),
    ),
    (
        "CPU of each node",
        "timeseries",
        "percent",
        (("ray_node_cpu_utilization", "{{instance}}"),),
    ),
    (
        "GPU of each node",
        "timeseries",
        "percent",
        (("ray_node_gpus_utilization", "{{instance}} {{GpuIndex}}"),),
    ),
    (
        "Memory of each node",
        "timeseries",
        "percentunit",
        (("ray_node_mem_used / ray_node_mem_total", "{{instance}}"),),
    ),
    (
        "Nodes alive",
        "timeseries",
        "none",
        (("count(ray_node_mem_total)", "nodes"),),
    ),
)
STATS = 4


def dashboard() -> dict[str, Any]:
    """Return the dashboard: a row of numbers, then two curves beside each other."""
    return {
        "title": "raydeblend",
        "uid": "raydeblend",
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [_panel(i, *panel) for i, panel in enumerate(PANELS)],
    }


def _panel(i: int, title: str, kind: str, unit: str, queries: Any) -> dict[str, Any]:
    return {
        "id": i + 1,
        "title": title,
        "type": kind,
        "datasource": SOURCE,
        "gridPos": _place(i),
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(65 + n), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for n, (query, legend) in enumerate(queries)
        ],
    }


def _place(i: int) -> dict[str, int]:
    """Return a panel's place on Grafana's grid of 24 columns."""
    if i < STATS:
        return {"x": 6 * i, "y": 0, "w": 6, "h": 4}
    row, column = divmod(i - STATS, 2)
    return {"x": 12 * column, "y": 4 + 8 * row, "w": 12, "h": 8}


if __name__ == "__main__":
    path = Path(__file__).with_name("grafana.json")
    path.write_text(json.dumps(dashboard(), indent=1) + "\n")
