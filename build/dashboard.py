"""The chart's dashboard.json from dashboard.yaml in this folder: uv run python build/dashboard.py"""

import json
from pathlib import Path
from typing import Any

import yaml

SOURCE = Path(__file__).with_name("dashboard.yaml")
MADE = Path(__file__).parents[1] / "manifests" / "chart" / "files" / "monitoring" / "dashboard.json"
COLUMNS, WIDTH, HEIGHT = 3, 8, 8  # of Grafana's grid, which is 24 wide


def dashboard(source: dict[str, Any]) -> dict[str, Any]:
    """Grafana's dashboard JSON (schema 39, Grafana 11)."""
    prometheus = {"type": "prometheus", "uid": "${datasource}"}
    panels: list[dict[str, Any]] = []
    top = 0
    for row in source["rows"]:
        place = {"x": 0, "y": top, "w": 24, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": row["title"], "gridPos": place, "panels": []})
        top += 1
        for number, panel in enumerate(row["panels"]):
            place = {"x": number % COLUMNS * WIDTH, "y": top + number // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT}
            targets = [
                {"refId": chr(ord("A") + index), "datasource": prometheus, "expr": query, "legendFormat": legend}
                for index, (legend, query) in enumerate(panel["queries"].items())
            ]
            panels.append(
                {
                    "id": len(panels) + 1,
                    "type": panel.get("kind", "timeseries"),
                    "title": panel["title"],
                    "gridPos": place,
                    "datasource": prometheus,
                    "fieldConfig": {"defaults": {"unit": panel.get("unit", "short"), "min": 0}, "overrides": []},
                    "targets": targets,
                }
            )
        top += -(-len(row["panels"]) // COLUMNS) * HEIGHT
    namespaces = {
        "name": "namespace",
        "type": "query",
        "datasource": prometheus,
        "query": {"query": "label_values(cvji_build_info, namespace)", "refId": "namespaces"},
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }
    return {
        "uid": "cvji",
        "title": source["title"],
        "schemaVersion": 39,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}, namespaces]},
        "panels": panels,
    }


def generated() -> str:
    """The text of dashboard.json."""
    return json.dumps(dashboard(yaml.safe_load(SOURCE.read_text())), indent=1) + "\n"


if __name__ == "__main__":
    MADE.write_text(generated())
