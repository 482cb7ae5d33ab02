"""Whether another machine of the region gives a sign of life that NATS has no part in.

Theory of operation. A node that NATS says nothing of was lost, or is cut off and goes on with its calls, which somebody
else must not be told of. Its inference service lets siblings in at a port of its own: a machine that takes a connection
there lives, whatever became of its NATS. One that is switched off takes none. The kernel takes the connection, so that
a busy machine answers at once; a machine that boots has nobody behind the port yet, and its calls are over.
"""

import asyncio
import errno
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from google.protobuf import json_format

from contract.downlink_pb2 import Roster
from edge.inference.client_settings import SiblingSection

log = structlog.get_logger(__name__)

# Of the other machine's kernel, in the same region.
SIGN_WITHIN_S = 0.3
# Nobody listens, nobody is there, or the way there is cut.
_NO_SIGN = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT})


class Neighbours(Protocol):
    """The other machines of the region."""

    async def may_live(self, node: str) -> bool:
        """Whether the machine gives a sign of life, or cannot be asked for one."""


class NoNeighbours:
    """All nodes are on this machine, and nothing but NATS lies between them: what it says is all there is."""

    async def may_live(self, node: str) -> bool:  # noqa: ARG002
        """NATS was asked."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterNeighbours:
    """As the roster names them; `port` is that of inference."""

    roster: Path
    port: int

    async def may_live(self, node: str) -> bool:
        """See Neighbours; takes `SIGN_WITHIN_S` at most, and never raises."""
        return await asyncio.to_thread(self._may_live, node)

    def _may_live(self, node: str) -> bool:
        address = self._address(node)
        # In a thread: a late event loop must not take an answer for none.
        return address is None or _answers(address, self.port)

    def _address(self, node: str) -> str | None:
        try:
            roster = json_format.Parse(self.roster.read_text(encoding="utf-8"), Roster(), ignore_unknown_fields=True)
        except (OSError, ValueError, json_format.ParseError) as error:
            log.warning("roster_unusable", roster=str(self.roster), reason=type(error).__name__)
            return None
        return next((each.address for each in roster.nodes if each.name == node and each.address), None)


def neighbours_of(section: SiblingSection | None) -> Neighbours:
    """By the section that says how siblings' inference is reached."""
    return NoNeighbours() if section is None else RosterNeighbours(roster=section.roster, port=section.port)


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=SIGN_WITHIN_S).close()
    except TimeoutError:
        return False
    except OSError as error:
        # Anything else is this machine's trouble, and says nothing of the other one.
        return error.errno not in _NO_SIGN
    return True
