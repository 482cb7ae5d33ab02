"""One active instance of the hub: a key in a bucket whose entries expire, created and renewed by compare-and-swap.

The holder believes in its lease only until `ttl` after it began the last renewal that succeeded, by its own monotonic
clock. The server forgets the key no earlier than `ttl` after it received that renewal, so the holder always stops
first.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig
from nats.js.errors import BadRequestError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue

from contract.subjects import LEASE_BUCKET
from controlplane.cancelling import raise_if_cancelled
from controlplane.errors import LeaseLostError

log = structlog.get_logger(__name__)

KEY = "controlplane"
# So much earlier the holder stops: its requests that are on the way need time to end.
MARGIN = 0.2
RENEWALS_PER_TTL = 4
ACQUISITIONS_PER_TTL = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who is active, and where its admin API is."""

    name: str
    address: str


class Lease:
    """Takes, renews and gives back the lease of the hub."""

    def __init__(
        self,
        jetstream: JetStreamContext,
        holder: Holder,
        *,
        ttl_s: float,
        stand_by: Callable[[Holder], None] = lambda _: None,
    ) -> None:
        self._jetstream = jetstream
        self._holder = holder
        self._ttl_s = ttl_s
        # Told of every look at which another instance is seen to be active.
        self._stand_by = stand_by
        self._bucket: KeyValue | None = None
        self._revision = 0
        self._valid_until = 0.0
        # Two instances of the same name are still two.
        self._token = secrets.token_hex(8)
        self.active: Holder | None = None

    @property
    def is_held(self) -> bool:
        """Whether this instance may serve and publish right now."""
        return time.monotonic() < self._valid_until

    def check(self) -> None:
        """Raises LeaseLostError unless the lease is held."""
        if not self.is_held:
            raise LeaseLostError("the lease is not held")

    async def acquire(self) -> None:
        """Wait until the lease is free and take it."""
        while True:
            try:
                bucket = await self._open()
                if await self._try_create(bucket):
                    self.active = self._holder
                    return
                self.active = await self._read(bucket)
                if self.active is not None and self.active != self._holder:
                    self._stand_by(self.active)
            except (NatsError, TimeoutError) as error:
                self.active = None
                log.warning("lease_unreachable", error=type(error).__name__)
            raise_if_cancelled()
            await asyncio.sleep(self._ttl_s / ACQUISITIONS_PER_TTL)

    async def keep(self) -> None:
        """Renew until the lease is lost. Raises LeaseLostError."""
        while True:
            raise_if_cancelled()
            await asyncio.sleep(min(self._ttl_s / RENEWALS_PER_TTL, max(0.0, self._valid_until - time.monotonic())))
            self.check()
            with contextlib.suppress(TimeoutError, NatsError):
                async with asyncio.timeout(max(0.05, self._valid_until - time.monotonic())):
                    await self._renew()

    async def release(self) -> None:
        """Give the lease back, so that a waiting instance need not wait for its end."""
        held, self._valid_until = self.is_held, 0.0
        if held and self._bucket is not None:
            with contextlib.suppress(NatsError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._bucket.delete(KEY, last=self._revision)

    async def _renew(self) -> None:
        assert self._bucket is not None
        began = time.monotonic()
        try:
            self._revision = await self._bucket.update(KEY, self._value(), last=self._revision)
        except KeyWrongLastSequenceError:
            await self._adopt(self._bucket)
            return
        self._extend(began)

    async def _adopt(self, bucket: KeyValue) -> None:
        # An earlier renewal may have been stored although its answer was lost.
        try:
            entry = await bucket.get(KEY)
        except NotFoundError:
            entry = None
        if entry is None or entry.value != self._value():
            self._valid_until = 0.0
            raise LeaseLostError("another instance has taken the lease")
        self._revision = entry.revision or 0

    async def _try_create(self, bucket: KeyValue) -> bool:
        began = time.monotonic()
        try:
            self._revision = await bucket.create(KEY, self._value())
        except KeyWrongLastSequenceError:
            return False
        self._extend(began)
        return True

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            try:
                self._bucket = await self._jetstream.create_key_value(
                    KeyValueConfig(bucket=LEASE_BUCKET, ttl=self._ttl_s, history=1)
                )
            except BadRequestError:  # it was made with another ttl, which then holds for all
                self._bucket = await self._jetstream.key_value(LEASE_BUCKET)
                self._ttl_s = (await self._bucket.status()).ttl or self._ttl_s
        return self._bucket

    async def _read(self, bucket: KeyValue) -> Holder | None:
        try:
            fields = json.loads((await bucket.get(KEY)).value or b"{}")
        except (NotFoundError, ValueError):
            return None
        return Holder(name=str(fields.get("name", "?")), address=str(fields.get("address", "")))

    def _extend(self, began: float) -> None:
        self._valid_until = began + self._ttl_s * (1 - MARGIN)

    def _value(self) -> bytes:
        fields = {"name": self._holder.name, "address": self._holder.address, "token": self._token}
        return json.dumps(fields).encode()
