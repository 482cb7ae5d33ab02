"""The SQL of nodes and their certificates. Every function runs inside a transaction of the caller."""

from collections.abc import Iterable
from dataclasses import dataclass

import apsw

from contract.downlink_pb2 import (
    NODE_STATE_ACTIVE,
    NODE_STATE_CORDONED,
    NODE_STATE_DRAINING,
    NODE_STATE_REMOVED,
    NodeState,
)

ACTIVE, CORDONED, DRAINING, REMOVED = STATES = (
    NODE_STATE_ACTIVE,
    NODE_STATE_CORDONED,
    NODE_STATE_DRAINING,
    NODE_STATE_REMOVED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine that enrolled."""

    region: str
    name: str
    address: str
    state: NodeState.ValueType
    enrolled_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate that is valid: the one in use, or one staged beside it."""

    region: str
    node: str
    role: str
    generation: int
    is_staged: bool
    uri: str
    serial: str
    pin: str
    not_after_ms: int


def find_node(connection: apsw.Connection, region: str, name: str) -> Node | None:
    """By its names."""
    row = connection.execute(f"{_SELECT} WHERE region = ? AND node = ?", (region, name)).fetchone()
    return None if row is None else _node(row)


def nodes_named(connection: apsw.Connection, name: str) -> list[Node]:
    """Those of any region that have the name."""
    return [_node(row) for row in connection.execute(f"{_SELECT} WHERE node = ? ORDER BY region", (name,))]


def nodes(connection: apsw.Connection) -> list[Node]:
    """All, by region and name."""
    return [_node(row) for row in connection.execute(f"{_SELECT} ORDER BY region, node")]


def node_at(connection: apsw.Connection, region: str, address: str) -> Node | None:
    """Who has the address in the region."""
    row = connection.execute(
        f"{_SELECT} WHERE region = ? AND address = ? AND state <> ?", (region, address, REMOVED)
    ).fetchone()
    return None if row is None else _node(row)


def store_node(connection: apsw.Connection, node: Node) -> None:
    """Add it, or change it."""
    connection.execute(
        "INSERT OR REPLACE INTO nodes (region, node, address, state, enrolled_at_ms) VALUES (?, ?, ?, ?, ?)",
        (node.region, node.name, node.address, node.state, node.enrolled_at_ms),
    )


def forget_node(connection: apsw.Connection, region: str, name: str) -> None:
    """As if it had never been."""
    connection.execute("DELETE FROM nodes WHERE region = ? AND node = ?", (region, name))


def certificates(connection: apsw.Connection) -> list[Certificate]:
    """All that are valid, by node and role, oldest first."""
    rows = connection.execute(
        f"SELECT {_CERTIFICATE} FROM node_certificates ORDER BY region, node, role, generation"  # noqa: S608 - constants
    )
    return [_certificate(row) for row in rows]


def certificates_of(connection: apsw.Connection, region: str, node: str) -> list[Certificate]:
    """Those of one node."""
    rows = connection.execute(
        f"SELECT {_CERTIFICATE} FROM node_certificates"  # noqa: S608 - constants
        " WHERE region = ? AND node = ? ORDER BY role, generation",
        (region, node),
    )
    return [_certificate(row) for row in rows]


def certificate_named(connection: apsw.Connection, uri: str) -> Certificate | None:
    """Whose certificate says this, if it is valid."""
    row = connection.execute(f"SELECT {_CERTIFICATE} FROM node_certificates WHERE uri = ?", (uri,)).fetchone()  # noqa: S608 - constants
    return None if row is None else _certificate(row)


def replace_certificates(connection: apsw.Connection, valid: Iterable[Certificate]) -> None:
    """These are valid now, and no others."""
    connection.execute("DELETE FROM node_certificates")
    connection.executemany(
        f"INSERT INTO node_certificates ({_CERTIFICATE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
        [
            (
                *(one.region, one.node, one.role, one.generation, int(one.is_staged)),
                *(one.uri, one.serial, one.pin, one.not_after_ms),
            )
            for one in valid
        ],
    )


_SELECT = "SELECT region, node, address, state, enrolled_at_ms FROM nodes"
_CERTIFICATE = "region, node, role, generation, is_staged, uri, serial, pin, not_after_ms"


def _node(row: tuple[object, ...]) -> Node:
    return Node(
        region=str(row[0]),
        name=str(row[1]),
        address=str(row[2]),
        state=NodeState.ValueType(int(str(row[3]))),
        enrolled_at_ms=int(str(row[4])),
    )


def _certificate(row: tuple[object, ...]) -> Certificate:
    return Certificate(
        region=str(row[0]),
        node=str(row[1]),
        role=str(row[2]),
        generation=int(str(row[3])),
        is_staged=bool(row[4]),
        uri=str(row[5]),
        serial=str(row[6]),
        pin=str(row[7]),
        not_after_ms=int(str(row[8])),
    )
