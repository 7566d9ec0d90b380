"""The Grafana dashboard, as the JSON that Grafana imports.

It stands beside Ray's own dashboards: its data source is chosen at its top, as theirs is, and it
links to them. What it shows is in `grafana_service` and `grafana_storage`, and every metric of the
catalogue is on some panel; here is how Grafana wants that written. The same release always gives
the same bytes, and the dashboard has always the same uid: importing a newer one replaces an older
one.
"""

from __future__ import annotations

import json
from typing import Any

from ray_paxos.observability import catalogue
from ray_paxos.observability import grafana_service as service
from ray_paxos.observability import grafana_storage as storage
from ray_paxos.observability.grafana_queries import Panel, Row

UID = "ray-paxos"
TITLE = "ray_paxos"
SCHEMA_VERSION = 41
"""Of Grafana 12; later ones bring it up to date by themselves, and earlier ones read it, too."""
COLUMNS = 24
NUMBER_HEIGHT, PANEL_HEIGHT = 4, 8
REFRESH = "10s"
"""As often as Ray's workers tell their metrics."""
RAY_DASHBOARD = "/d/rayDefaultDashboard"

Json = dict[str, Any]
_SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


def rows() -> tuple[Row, ...]:
    """All of the dashboard, from its top."""
    return (
        Row("Overview", service.overview()),
        Row("Throughput", service.throughput()),
        Row("Latency by hop", service.latency()),
        Row("Masters", service.masters()),
        Row("Fsync", storage.fsync()),
        Row("Lag", storage.lag()),
        Row("Disk", storage.disk()),
        Row("Checkpoints, damage and checksums", storage.checkpoints()),
        Row("Events", storage.events()),
        Row("Refused", storage.refused()),
    )


def dashboard() -> Json:
    """The dashboard, as plain data."""
    return {
        "id": None,
        "uid": UID,
        "title": TITLE,
        "description": "Clusters of ray_paxos: Multi-Paxos for Ray.",
        "tags": ["ray", "ray_paxos"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": REFRESH,
        "time": {"from": "now-30m", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "weekStart": "",
        "fiscalYearStartMonth": 0,
        "preload": False,
        "liveNow": False,
        "annotations": {"list": _annotations()},
        "links": [_link_to_ray()],
        "templating": {"list": _variables()},
        "panels": _panels(rows()),
    }


def dashboard_file() -> str:
    """The dashboard as a file, one JSON document."""
    return json.dumps(dashboard(), indent=2) + "\n"


# The top.


def _link_to_ray() -> Json:
    return {
        "type": "link",
        "title": "Ray",
        "tooltip": "Ray's own dashboard",
        "url": RAY_DASHBOARD,
        "icon": "external link",
        "asDropdown": False,
        "includeVars": False,
        "keepTime": True,
        "tags": [],
        "targetBlank": False,
    }


def _annotations() -> list[Json]:
    """Grafana's own, and a mark wherever a member began to lead."""
    reigns = catalogue.REIGNS.exported_name
    chosen = 'cluster="$cluster",member=~"$member",group=~"$group"'
    return [
        {
            "builtIn": 1,
            "datasource": {"type": "grafana", "uid": "-- Grafana --"},
            "enable": True,
            "hide": True,
            "iconColor": "rgba(0, 211, 255, 1)",
            "name": "Annotations & Alerts",
            "type": "dashboard",
        },
        {
            "datasource": _SOURCE,
            "enable": False,
            "expr": f"sum by (member, group) (increase({reigns}{{{chosen}}}[1m])) > 0.5",
            "iconColor": "purple",
            "name": "New masters",
            "step": "30s",
            "titleFormat": "{{member}} leads group {{group}}",
        },
    ]


def _variables() -> list[Json]:
    serving, applied = catalogue.ROLE_SERVING.exported_name, catalogue.APPLIED.exported_name
    of_cluster = '{cluster="$cluster"}'
    return [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "hide": 0,
            "includeAll": False,
            "multi": False,
            "options": [],
            "refresh": 1,
            "regex": "",
            "skipUrlSync": False,
        },
        _variable("cluster", "Cluster", f"label_values({serving}, cluster)"),
        _variable("member", "Member", f"label_values({serving}{of_cluster}, member)", many=True),
        _variable("group", "Group", f"label_values({applied}{of_cluster}, group)", many=True),
    ]


def _variable(name: str, label: str, query: str, *, many: bool = False) -> Json:
    """A variable whose values are asked of Prometheus."""
    variable: Json = {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}", "qryType": 1},
        "current": {"text": ["All"], "value": ["$__all"]} if many else {},
        "hide": 0,
        "includeAll": many,
        "multi": many,
        "options": [],
        # When the time range changes, too: members come and go.
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        # By number where they are numbers.
        "sort": 3 if name == "group" else 1,
    }
    if many:
        variable["allValue"] = ".*"
    return variable


# Panels.


def _panels(of_rows: tuple[Row, ...]) -> list[Json]:
    """All of them with their places: from left to right, a new line where one does not fit."""
    placed: list[Json] = []
    y = 0
    for row in of_rows:
        placed.append(_row(row, len(placed) + 1, y))
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            panel_height = NUMBER_HEIGHT if panel.kind == "stat" else PANEL_HEIGHT
            place = {"x": x, "y": y, "w": panel.width, "h": panel_height}
            placed.append(_panel(panel, len(placed) + 1, place))
            x += panel.width
            height = max(height, panel_height)
        y += height
    return placed


def _row(row: Row, panel_id: int, y: int) -> Json:
    return {
        "id": panel_id,
        "type": "row",
        "title": row.title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        "panels": [],
    }


def _panel(panel: Panel, panel_id: int, place: Json) -> Json:
    is_now = panel.kind in ("stat", "table")
    return {
        "id": panel_id,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _FIELDS[panel.kind](panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [
            {
                "refId": chr(ord("A") + position),
                "datasource": _SOURCE,
                "editorMode": "code",
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
                "instant": is_now,
                "range": not is_now,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for position, query in enumerate(panel.queries)
        ],
        "transformations": _WITHOUT_TIME if panel.kind == "table" else [],
    }


def _lines(panel: Panel) -> Json:
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 5,
        "showPoints": "auto",
        "spanNulls": False,
    }
    return {"unit": panel.unit, "min": 0, "custom": custom, "color": {"mode": "palette-classic"}}


def _number(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.bad_above is not None:
        # A step begins at its value.
        steps.append({"color": "red", "value": panel.bad_above + 1e-6})
    thresholds = {"mode": "absolute", "steps": steps}
    return {"unit": panel.unit, "thresholds": thresholds, "color": {"mode": "thresholds"}}


def _states(panel: Panel) -> Json:
    texts = {"0": ("does not serve", "red"), "1": ("serves", "green")}
    options = {
        value: {"text": text, "color": color, "index": int(value)}
        for value, (text, color) in texts.items()
    }
    return {
        "custom": {"fillOpacity": 70, "lineWidth": 0, "spanNulls": False},
        "mappings": [{"type": "value", "options": options}],
        "color": {"mode": "thresholds"},
        "thresholds": {"mode": "absolute", "steps": [{"color": "green", "value": None}]},
    }


def _cells(panel: Panel) -> Json:
    return {"custom": {"align": "auto"}}


_FIELDS = {"timeseries": _lines, "stat": _number, "state-timeline": _states, "table": _cells}
_OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["lastNotNull", "max"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "state-timeline": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.9,
        "showValue": "never",
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}
_WITHOUT_TIME: list[Json] = [
    {"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}
]
