"""Which streams a region's accounts may hold, and how. Pure; judged by every node agent (edge/sync/stream_watch.py).

A stream that repeats its messages under another subject, or that takes them from elsewhere, could carry words on; no
stream of ours does, but for the mirrors of the hub's streams.
"""

import re
from collections.abc import Mapping

from contract.names import NAME_PATTERN, NODE_PATTERN
from contract.streams import MirrorSpec
from contract.subjects import (
    LOCK_BUCKET,
    RECENT_CALLERS_BUCKET,
    SESSIONS_BUCKET,
    key_value_stream,
    key_value_subject,
    object_stream,
    object_subjects,
    replica_bucket,
)

# What makes a stream take or give messages beside its own subjects.
_CARRIERS = ("republish", "sources", "mirror", "subject_transform")
_REPLICA = re.compile(rf"{re.escape(object_stream(replica_bucket('')))}({NODE_PATTERN}(?:_[rkl]_{NAME_PATTERN})?)")


def is_in_region(config: Mapping[str, object]) -> bool:
    """Whether the account REGION may hold a stream of this configuration."""
    subjects = _subjects_in_region(str(config.get("name", "")))
    return subjects is not None and config.get("subjects") == subjects and not _carriers(config)


def has_name_of_region(name: str) -> bool:
    """Whether a stream of this name belongs to the account REGION, however it is configured."""
    return _subjects_in_region(name) is not None


def is_mirror(config: Mapping[str, object], spec: MirrorSpec) -> bool:
    """Whether a stream of the account BORDER is this mirror and nothing else."""
    mirror, wanted = config.get("mirror"), spec.request()["mirror"]
    assert isinstance(wanted, dict)
    return (
        config.get("name") == spec.name
        and not config.get("subjects")
        and _carriers(config) == ["mirror"]
        and isinstance(mirror, Mapping)
        and {key: value for key, value in mirror.items() if value} == wanted
    )


def _carriers(config: Mapping[str, object]) -> list[str]:
    return [carrier for carrier in _CARRIERS if config.get(carrier)]


def _subjects_in_region(name: str) -> list[str] | None:
    for bucket in (LOCK_BUCKET, RECENT_CALLERS_BUCKET, SESSIONS_BUCKET):
        if name == key_value_stream(bucket):
            return [key_value_subject(bucket, ">")]
    replica = _REPLICA.fullmatch(name)
    return object_subjects(replica_bucket(replica[1])) if replica is not None else None
