"""Codes of a node's alarms, as its health tells them to the hub: no other text passes there."""

from enum import StrEnum


class AlarmCode(StrEnum):
    """What an operator of a node must know now (docs/alarms.md)."""

    HUB_UNREACHABLE = "hub_unreachable"
    LINK_STALLED = "link_stalled"
    CONFIG_STALE = "config_stale"
    KNOWLEDGE_STALE = "knowledge_stale"
    CONFIG_REFUSED = "config_refused"
    KNOWLEDGE_REFUSED = "knowledge_refused"
    WORKERS_BEHIND = "workers_behind"
    WORKERS_MISSING = "workers_missing"
    ROLLUPS_WAITING = "rollups_waiting"
    ROLLUPS_COARSE = "rollups_coarse"
    NATS_DOWN = "nats_down"
    ISOLATED = "isolated"
    BORDER_REFUSED = "border_refused"
    REPLICATION_STALLED = "replication_stalled"
    CERTIFICATE_EXPIRING = "certificate_expiring"
    DISK_LOW = "disk_low"
    DISK_CRITICAL = "disk_critical"
    DISK_FULL = "disk_full"
