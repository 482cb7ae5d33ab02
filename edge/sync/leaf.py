"""The link between region and hub, as the region's servers see it, over their system account."""

import asyncio
import contextlib
import json
from dataclasses import dataclass

import structlog

from contract.subjects import BORDER_ACCOUNT
from edge.sync.connection import MALFORMED, NATS_ERRORS, NatsLink

log = structlog.get_logger(__name__)

_ANSWERS_WITHIN_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafLink:
    """One link that a server of the region holds."""

    server: str
    connection: int


class LeafLinks:
    """Looks at the region's links and can end one, upon which its server makes it anew."""

    def __init__(self, system: NatsLink) -> None:
        self._system = system

    async def all(self) -> list[LeafLink]:
        """The links that the region's servers hold for the account BORDER; none when nobody answers."""
        if not self._system.is_up:
            return []
        client = self._system.client
        inbox = client.new_inbox()
        found: list[LeafLink] = []
        with contextlib.suppress(*NATS_ERRORS):
            subscription = await client.subscribe(inbox)
            try:
                await client.publish("$SYS.REQ.SERVER.PING.LEAFZ", b"", reply=inbox)
                async with asyncio.timeout(_ANSWERS_WITHIN_S):
                    async for answer in subscription.messages:
                        found += _links(answer.data)
            finally:
                await subscription.unsubscribe()
        return found

    async def kick(self, link: LeafLink) -> None:
        """End a link. Raises NATS_ERRORS."""
        body = json.dumps({"cid": link.connection}).encode()
        await self._system.client.request(f"$SYS.REQ.SERVER.{link.server}.KICK", body, timeout=_ANSWERS_WITHIN_S)


def _links(data: bytes) -> list[LeafLink]:
    """The links of one server; none when its answer is not what a server answers."""
    try:
        answer = json.loads(data)
        leafs = (answer.get("data") or {}).get("leafs") or []
        server = str((answer.get("server") or {}).get("id", ""))
        return [
            LeafLink(server=server, connection=int(leaf["id"]))
            for leaf in leafs
            if leaf.get("account", BORDER_ACCOUNT) == BORDER_ACCOUNT
        ]
    except MALFORMED as error:
        log.warning("leaf_answer_malformed", detail=type(error).__name__)
        return []
