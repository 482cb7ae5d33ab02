"""What a dashboard is: rows of panels, each with its questions in PromQL."""

from dataclasses import dataclass
from enum import StrEnum

# Grafana's grid is this wide.
GRID_WIDTH = 24


class Kind(StrEnum):
    """How a panel shows its answers; Grafana's names."""

    LINES = "timeseries"
    NUMBER = "stat"
    BARS = "bargauge"
    TABLE = "table"


class Unit(StrEnum):
    """Grafana's names."""

    NONE = "short"
    SECONDS = "s"
    SHARE = "percentunit"
    BYTES = "bytes"
    PER_SECOND = "ops"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question, and the name of its lines; `{{label}}` stands for a label's value."""

    promql: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """`warn` and `bad`: the values from which it is yellow and red; where `bad` is less, smaller is worse."""

    title: str
    says: str
    queries: tuple[Query, ...]
    unit: Unit = Unit.NONE
    kind: Kind = Kind.LINES
    width: int = 8
    height: int = 8
    warn: float | None = None
    bad: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A variable of the dashboard: the values of a label of a metric."""

    name: str
    metric: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """`name` is its file and its id."""

    name: str
    title: str
    says: str
    rows: tuple[Row, ...]
    choices: tuple[Choice, ...] = ()
