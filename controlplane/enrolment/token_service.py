"""The NodeTokens service of the admin API: messages in, calls of `TokenDesk`, messages out."""

import time

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import NodeTokensServicer
from controlplane.admin.callers import CallContext, Role, require
from controlplane.enrolment.errors import CertificateRequestError, EnrolmentOffError
from controlplane.enrolment.token_desk import DEFAULT_TTL_S, TokenDesk, TokenWish
from controlplane.enrolment.tokens import Token, TokenState

STATES = {
    TokenState.OPEN: pb.TOKEN_STATE_OPEN,
    TokenState.USED: pb.TOKEN_STATE_USED,
    TokenState.EXPIRED: pb.TOKEN_STATE_EXPIRED,
    TokenState.REVOKED: pb.TOKEN_STATE_REVOKED,
}


class NodeTokensService(NodeTokensServicer):
    """Admins only. Without a desk every request is refused: the hub enrols nobody."""

    def __init__(self, desk: TokenDesk | None) -> None:
        self._desk = desk

    async def Create(self, request: pb.NodeTokenRequest, context: CallContext) -> pb.NodeTokenReply:  # noqa: N802
        caller = require(context, Role.ADMIN)
        if request.replaces and not request.node:
            raise CertificateRequestError("a token that replaces a node names it", hint="Give --node, too.")
        wish = TokenWish(
            region=request.region,
            node=request.node,
            ttl_s=request.ttl_s or DEFAULT_TTL_S,
            replaces=request.replaces,
        )
        token, text = await self._open().create(wish, caller)
        return pb.NodeTokenReply(token=_token(token), text=text)

    async def List(self, request: pb.NodeTokensRequest, context: CallContext) -> pb.NodeTokensReply:  # noqa: N802
        require(context, Role.ADMIN)
        tokens = await self._open().tokens(request.region, has_all=request.all)
        return pb.NodeTokensReply(tokens=[_token(token) for token in tokens])

    async def Revoke(self, request: pb.NodeTokenRef, context: CallContext) -> pb.NodeToken:  # noqa: N802
        caller = require(context, Role.ADMIN)
        return _token(await self._open().revoke(request.id, caller))

    def _open(self) -> TokenDesk:
        if self._desk is None:
            raise EnrolmentOffError("this hub enrols no nodes")
        return self._desk


def _token(token: Token) -> pb.NodeToken:
    return pb.NodeToken(
        id=token.id,
        region=token.region,
        node=token.node,
        replaces=token.replaces,
        state=STATES[token.state(time.time_ns() // 1_000_000)],
        created_at_ms=token.created_at_ms,
        created_by=token.created_by,
        expires_at_ms=token.expires_at_ms,
        used_at_ms=token.used_at_ms,
        used_by=token.used_by,
    )
