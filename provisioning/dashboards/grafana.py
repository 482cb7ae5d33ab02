"""A dashboard as the JSON that Grafana imports or reads from a folder. The same description gives the same bytes."""

import json
from collections.abc import Iterator, Sequence

from provisioning.dashboards.model import GRID_WIDTH, Choice, Dashboard, Kind, Panel, Row

# Grafana 10 and later read it; older ones are upgraded by Grafana itself.
SCHEMA_VERSION = 39
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED = "green", "yellow", "red"

Json = dict[str, object]


def render(dashboard: Dashboard) -> str:
    """The whole file."""
    document: Json = {
        "uid": f"borough-{dashboard.name}",
        "title": f"Borough: {dashboard.title}",
        "description": dashboard.says,
        "tags": ["borough"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource(), *map(_variable, dashboard.choices)]},
        "annotations": {"list": [_alerts()]},
        "panels": list(_panels(dashboard.rows)),
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _datasource() -> Json:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(choice: Choice) -> Json:
    return {
        "name": choice.name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": f"label_values({choice.metric}, {choice.label})", "refId": "values"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def _alerts() -> Json:
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "expr": 'ALERTS{alertstate="firing", severity!="none"}',
        "iconColor": RED,
        "titleFormat": "{{alertname}}",
        "textFormat": "{{instance}}",
        "step": "60s",
    }


def _panels(rows: Sequence[Row]) -> Iterator[Json]:
    number, top = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": GRID_WIDTH, "h": 1},
        }
        top += 1
        left, height = 0, 0
        for panel in row.panels:
            number += 1
            if left + panel.width > GRID_WIDTH:
                top, left, height = top + height, 0, 0
            yield _panel(panel, number, left, top)
            left, height = left + panel.width, max(height, panel.height)
        top += height


def _panel(panel: Panel, number: int, left: int, top: int) -> Json:
    return {
        "id": number,
        "type": str(panel.kind),
        "title": panel.title,
        "description": panel.says,
        "datasource": DATASOURCE,
        "gridPos": {"x": left, "y": top, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel.kind),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": query.promql,
                "legendFormat": query.legend or "__auto",
                "instant": panel.kind in (Kind.BARS, Kind.TABLE),
                "range": panel.kind in (Kind.LINES, Kind.NUMBER),
                **({"format": "table"} if panel.kind is Kind.TABLE else {}),
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def _field(panel: Panel) -> Json:
    field: Json = {"unit": str(panel.unit), "thresholds": {"mode": "absolute", "steps": _steps(panel)}}
    if panel.kind is Kind.LINES:
        field["min"] = 0
        shows_thresholds = "line" if panel.bad is not None else "off"
        field["custom"] = {"fillOpacity": 5, "showPoints": "never", "thresholdsStyle": {"mode": shows_thresholds}}
    return field


def _steps(panel: Panel) -> list[Json]:
    marks = [(panel.warn, YELLOW), (panel.bad, RED)]
    known = [(value, colour) for value, colour in marks if value is not None]
    if panel.warn is not None and panel.bad is not None and panel.bad < panel.warn:
        return [
            {"value": None, "color": RED},
            {"value": panel.bad, "color": YELLOW},
            {"value": panel.warn, "color": GREEN},
        ]
    return [{"value": None, "color": GREEN}, *({"value": value, "color": colour} for value, colour in known)]


def _options(kind: Kind) -> Json:
    match kind:
        case Kind.LINES:
            return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
        case Kind.NUMBER:
            return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
        case Kind.BARS:
            return {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal", "displayMode": "basic"}
        case Kind.TABLE:
            return {"showHeader": True}
