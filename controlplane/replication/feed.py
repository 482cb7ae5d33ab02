"""What arrives in the object store of the replica, read from its stream; and sweeping up what deletion leaves there.

Deleting an object leaves a marker in the stream for ever, which each listing of Litestream's reads again. Markers are
purged, but never the newest message: a listing waits for the message that was last when it began.
"""

import contextlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy

from contract.subjects import HUB_REPLICA_BUCKET, object_stream

STREAM = object_stream(HUB_REPLICA_BUCKET)
NEWEST_LEVEL = "ltx/0/"
SWEPT_AT_ONCE = 500


@dataclass(slots=True)
class ReplicaFeed:
    """Follows the bucket. `through`: the replica has what was written before this moment (seconds, wall clock)."""

    jetstream: JetStreamContext
    through: float = 0.0
    uploads: int = 0
    upload_bytes: int = 0
    _newest_live: int = 0
    _markers: dict[str, int] = field(default_factory=dict)
    _subscription: JetStreamContext.PushSubscription | None = None

    async def open(self) -> None:
        """Follow from the newest state of each object. Raises TimeoutError and errors of nats-py."""
        await self.close()
        self._subscription = await self.jetstream.subscribe(
            f"$O.{HUB_REPLICA_BUCKET}.M.>",
            stream=STREAM,
            ordered_consumer=True,
            config=ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT),
            cb=self._take,
        )

    async def close(self) -> None:
        """Stop following."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(NatsError):  # the connection is gone, and the subscription with it
                await subscription.unsubscribe()

    async def sweep(self) -> None:
        """Purge markers of deleted objects that are older than a living object."""
        old = [(subject, seq) for subject, seq in self._markers.items() if seq < self._newest_live][:SWEPT_AT_ONCE]
        for subject, seq in old:
            # No further than the marker: an object of this name may live again by now.
            await self.jetstream.purge_stream(STREAM, subject=subject, seq=seq + 1)
            self._markers.pop(subject, None)

    async def _take(self, message: Msg) -> None:
        if not message.data:
            return
        about = json.loads(message.data)
        seq = message.metadata.sequence.stream
        if about.get("deleted"):
            self._markers[message.subject] = seq
            return
        self._markers.pop(message.subject, None)
        self._newest_live = max(self._newest_live, seq)
        self.uploads += 1
        self.upload_bytes += int(about["size"])
        if str(about["name"]).startswith(NEWEST_LEVEL):
            self.through = max(self.through, _stamp(about))


def _stamp(about: dict[str, dict[str, list[str]]]) -> float:
    """When Litestream cut the file: it holds all that was written before."""
    text = about.get("headers", {}).get("Litestream-Timestamp", [""])[0]
    if not text:
        return 0.0
    # Nine digits of a second at most; Python reads six.
    head, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(head).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")
