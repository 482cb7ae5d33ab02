"""What arrives in the object store of one replica, read from its stream; and sweeping up what deletion leaves there.

Deleting an object leaves a marker in the stream for ever, one for each of Litestream's files: hundreds of thousands a
day, which each listing of Litestream's reads again. They are purged, but never the newest message: a listing waits for
the message that was last when it began.
"""

import contextlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext

from contract.subjects import object_stream

log = structlog.get_logger(__name__)

NEWEST_LEVEL = "ltx/0/"
SWEPT_AT_ONCE = 500


@dataclass(slots=True)
class ReplicaFeed:
    """Follows one bucket. `through`: the replica has what was written before this moment (seconds, wall clock)."""

    js: JetStreamContext
    bucket: str
    through: float = 0.0
    uploads: int = 0
    upload_bytes: int = 0
    _newest_live: int = 0
    _markers: dict[str, int] = field(default_factory=dict)
    _subscription: JetStreamContext.PushSubscription | None = None

    async def open(self) -> None:
        """Follow from the newest state of each object. Raises nats.errors.Error."""
        await self.close()
        self._subscription = await self.js.subscribe(
            f"$O.{self.bucket}.M.>",
            stream=object_stream(self.bucket),
            ordered_consumer=True,
            config=ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT),
            cb=self._take,
        )

    async def close(self) -> None:
        """Stop following."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(nats.errors.Error):  # the connection is gone, and the subscription with it
                await subscription.unsubscribe()

    async def sweep(self) -> int:
        """Purge markers of deleted objects that are older than a living object; returns how many."""
        old = [(subject, seq) for subject, seq in self._markers.items() if seq < self._newest_live][:SWEPT_AT_ONCE]
        for subject, seq in old:
            # No further than the marker: an object of this name may live again by now.
            await self.js.purge_stream(object_stream(self.bucket), subject=subject, seq=seq + 1)
            self._markers.pop(subject, None)
        return len(old)

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
    moment = datetime.fromisoformat(head).replace(tzinfo=UTC)
    return moment.timestamp() + float(f"0.{fraction or 0}")
