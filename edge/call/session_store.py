"""The region's bucket of sessions as the call workers use it: replace a value, read one, read all of a data subject.

Reads come from any replica (a NATS "direct get"), so that they go on while the region elects a leader; what a replica
did not know yet is found out by the compare-and-set that follows.
"""

import json
import time
from dataclasses import dataclass

import nats.errors
from nats.aio.msg import Msg
from nats.js.errors import APIError, NotFoundError

from contract.subjects import SESSIONS_BUCKET, key_value_stream
from edge.call.session_entry import SessionPlace, all_of, place_at
from edge.records.subjects import SubjectId
from edge.sync.connection import REQUEST_WITHIN_S, NatsLink
from edge.sync.sessions_bucket import ERASED, KEY_VALUE_OPERATION

STREAM = key_value_stream(SESSIONS_BUCKET)
WRONG_LAST_SEQUENCE = 10071
DELETED = {KEY_VALUE_OPERATION: "DEL"}
# A caller has one or two calls; but marks of those that were resumed stay for a week, and come first.
ENTRIES_READ = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """A value as it stands in the bucket; empty where it was deleted, or erased with its data subject."""

    place: SessionPlace
    value: bytes
    revision: int
    is_erased: bool = False


@dataclass(frozen=True, slots=True)
class SessionStore:
    """The bucket, over a worker's connection."""

    link: NatsLink

    @property
    def is_up(self) -> bool:
        """Whether NATS can be asked now."""
        return self.link.is_up

    async def replace(
        self, place: SessionPlace, value: bytes, revision: int, *, ttl_s: float, within_s: float = REQUEST_WITHIN_S
    ) -> int | None:
        """Put a value (none: delete it) in the place of that of a revision, for `ttl_s` (0: as long as the bucket
        keeps); returns the new revision, None where another value stands there. Raises NATS_ERRORS."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision), **({} if value else DELETED)}
        js = self.link.client.jetstream(timeout=within_s)
        try:
            ack = await js.publish(place.subject, value, headers=headers, msg_ttl=max(1.0, ttl_s) if ttl_s else None)
        except APIError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            return None
        return ack.seq

    async def newest(self, place: SessionPlace, *, within_s: float = REQUEST_WITHIN_S) -> StoredSession | None:
        """The value as the region's leader knows it. Raises NATS_ERRORS."""
        js = self.link.client.jetstream(timeout=within_s)
        try:
            message = await js.get_last_msg(STREAM, place.subject)
        except NotFoundError:
            return None
        is_erased = (message.headers or {}).get(KEY_VALUE_OPERATION) == ERASED
        return StoredSession(place=place, value=message.data or b"", revision=message.seq or 0, is_erased=is_erased)

    async def all_of(self, tenant: str, subject_id: SubjectId, *, within_s: float) -> list[StoredSession]:
        """What is there of a data subject's calls to a tenant, as the nearest replica knows it. Raises NATS_ERRORS."""
        client, until = self.link.client, time.monotonic() + within_s
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, max_msgs=0)
        found: list[StoredSession] = []
        try:
            request = {"multi_last": [all_of(tenant, subject_id)], "batch": ENTRIES_READ}
            await client.publish(f"$JS.API.DIRECT.GET.{STREAM}", json.dumps(request).encode(), reply=inbox)
            # Looks at the clock itself: nats-py may swallow a cancellation.
            while (stored := _stored(await subscription.next_msg(timeout=_left(until)))) is not None:
                found.append(stored)
        finally:
            await subscription.unsubscribe()
        return found


def _left(until: float) -> float:
    return max(0.001, until - time.monotonic())


def _stored(message: Msg) -> StoredSession | None:
    """The value of an answer, None after the last. Raises NATS_ERRORS."""
    headers = message.headers or {}
    if status := headers.get("Status"):
        if status in {"204", "404"}:
            return None
        raise nats.errors.Error(f"sessions cannot be read: {status}")
    try:
        place, revision = place_at(headers["Nats-Subject"]), int(headers["Nats-Sequence"])
    except (KeyError, ValueError) as error:
        raise nats.errors.Error("malformed answer") from error
    return StoredSession(place=place, value=message.data, revision=revision)
