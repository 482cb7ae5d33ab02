"""Reads the descriptions beside this module; an unknown key or name is an error."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from provisioning.dashboards.model import Choice, Dashboard, Kind, Panel, Query, Row, Unit

DESCRIPTIONS = Path(__file__).parent


def read_dashboards(directory: Path = DESCRIPTIONS) -> list[Dashboard]:
    """Every description in the folder, by name. Raises KeyError, TypeError or yaml.YAMLError for a wrong one."""
    return [
        _dashboard(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")))
        for path in sorted(directory.glob("*.yaml"))
    ]


def _dashboard(name: str, described: Mapping[str, Any]) -> Dashboard:
    parts = dict(described)
    rows = tuple(_row(row) for row in parts.pop("rows"))
    choices = tuple(Choice(**choice) for choice in parts.pop("choices", ()))
    return Dashboard(name=name, rows=rows, choices=choices, **parts)


def _row(described: Mapping[str, Any]) -> Row:
    parts = dict(described)
    return Row(panels=tuple(_panel(panel) for panel in parts.pop("panels")), **parts)


def _panel(described: Mapping[str, Any]) -> Panel:
    parts = dict(described)
    return Panel(
        queries=tuple(Query(**query) for query in parts.pop("queries")),
        kind=Kind[parts.pop("kind", "lines").upper()],
        unit=Unit[parts.pop("unit", "none").upper()],
        **parts,
    )
