"""What admins do with tokens: make, list, revoke. Everything is audited; the text of a token is shown once."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import apsw

from controlplane.admin.callers import Caller
from controlplane.audit import append_entry
from controlplane.database import HubDatabase
from controlplane.enrolment import nodes, token_store
from controlplane.enrolment.errors import NodeNameTakenError, RegionUnknownError, TokenNotFoundError
from controlplane.enrolment.requests import check_name
from controlplane.enrolment.tokens import Token, TokenState, mint

MS_A_SECOND = 1_000
DEFAULT_TTL_S = 3_600
LONGEST_TTL_S = 7 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWish:
    """A token that an admin wants. `node` is empty for any free name."""

    region: str
    node: str = ""
    ttl_s: int = DEFAULT_TTL_S
    replaces: bool = False


class TokenDesk:
    """The tokens of the hub."""

    def __init__(self, database: HubDatabase, *, fingerprint: str, regions: Callable[[], Collection[str]]) -> None:
        self._database = database
        self._fingerprint = fingerprint
        self._regions = regions

    async def create(self, wish: TokenWish, caller: Caller) -> tuple[Token, str]:
        """A new token and its text. Raises RegionUnknownError, NodeNameTakenError and CertificateRequestError."""
        if wish.region not in self._regions():
            raise RegionUnknownError(f"there is no region {wish.region!r}")
        if wish.node:
            check_name(wish.region, wish.node)
        token_id, text, digest = mint(self._fingerprint)
        at_ms = _now_ms()
        token = Token(
            id=token_id,
            secret_sha256=digest,
            region=wish.region,
            node=wish.node,
            replaces=wish.replaces,
            created_at_ms=at_ms,
            created_by=caller.name,
            expires_at_ms=at_ms + min(wish.ttl_s, LONGEST_TTL_S) * MS_A_SECOND,
        )

        def write(connection: apsw.Connection) -> None:
            taken = nodes.find_node(connection, wish.region, wish.node) if wish.node else None
            if taken is not None and taken.state != nodes.REMOVED and not wish.replaces:
                raise NodeNameTakenError(f"region {wish.region} has a node {wish.node} already")
            token_store.add_token(connection, token)
            _audit(connection, caller, "node_tokens.create", token)

        await self._database.write(write)
        return token, text

    async def tokens(self, region: str, *, has_all: bool) -> list[Token]:
        """Those of a region or all (""), newest first; without `has_all` those that can be used."""
        found = await self._database.read(lambda connection: token_store.tokens(connection, region))
        now_ms = _now_ms()
        return [token for token in found if has_all or token.state(now_ms) is TokenState.OPEN]

    async def revoke(self, token_id: str, caller: Caller) -> Token:
        """Nobody can use it any more; of one that cannot be used anyway this changes nothing.
        Raises TokenNotFoundError."""
        at_ms = _now_ms()

        def write(connection: apsw.Connection) -> Token:
            token = token_store.find_token(connection, token_id)
            if token is None:
                raise TokenNotFoundError(f"there is no token {token_id!r}")
            if token.state(at_ms) is not TokenState.OPEN:
                return token
            token_store.mark_revoked(connection, token.id, at_ms=at_ms)
            _audit(connection, caller, "node_tokens.revoke", token)
            return replace(token, revoked_at_ms=at_ms)

        return await self._database.write(write)


def _audit(connection: apsw.Connection, caller: Caller, action: str, token: Token) -> None:
    target = f"{token.id} {token.region}/{token.node or '*'}{' replaces' if token.replaces else ''}"
    append_entry(connection, actor=caller.name, role=caller.role, action=action, target=target)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
