"""The SQL of tokens. Every function runs inside a transaction of the caller."""

import apsw

from controlplane.enrolment.tokens import Token

_COLUMNS = (
    "id, secret_sha256, region, node, replaces, created_at_ms, created_by, expires_at_ms,"
    " used_at_ms, used_by, used_from, revoked_at_ms"
)


def add_token(connection: apsw.Connection, token: Token) -> None:
    """Keep a new token."""
    connection.execute(
        f"INSERT INTO node_tokens ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, '', '', NULL)",  # noqa: S608 - constants
        (
            token.id,
            token.secret_sha256,
            token.region,
            token.node,
            int(token.replaces),
            token.created_at_ms,
            token.created_by,
            token.expires_at_ms,
        ),
    )


def find_token(connection: apsw.Connection, token_id: str) -> Token | None:
    """By id."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM node_tokens WHERE id = ?",  # noqa: S608 - constants
        (token_id,),
    ).fetchone()
    return None if row is None else _token(row)


def tokens(connection: apsw.Connection, region: str) -> list[Token]:
    """Those of a region, or all (""), newest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM node_tokens WHERE ?1 = '' OR region = ?1 ORDER BY created_at_ms DESC, id",  # noqa: S608 - constants
        (region,),
    )
    return [_token(row) for row in rows]


def mark_used(connection: apsw.Connection, token_id: str, *, at_ms: int, by: str, source: str) -> None:
    """It cannot be used again."""
    connection.execute(
        "UPDATE node_tokens SET used_at_ms = ?, used_by = ?, used_from = ? WHERE id = ?", (at_ms, by, source, token_id)
    )


def mark_unused(connection: apsw.Connection, token_id: str) -> None:
    """No certificate was issued for it."""
    connection.execute(
        "UPDATE node_tokens SET used_at_ms = NULL, used_by = '', used_from = '' WHERE id = ?", (token_id,)
    )


def mark_revoked(connection: apsw.Connection, token_id: str, *, at_ms: int) -> None:
    """It cannot be used any more."""
    connection.execute("UPDATE node_tokens SET revoked_at_ms = ? WHERE id = ?", (at_ms, token_id))


def _token(row: tuple[object, ...]) -> Token:
    return Token(
        id=str(row[0]),
        secret_sha256=bytes(row[1]),  # type: ignore[call-overload]
        region=str(row[2]),
        node=str(row[3]),
        replaces=bool(row[4]),
        created_at_ms=_number(row[5]),
        created_by=str(row[6]),
        expires_at_ms=_number(row[7]),
        used_at_ms=_number(row[8]),
        used_by=str(row[9]),
        used_from=str(row[10]),
        revoked_at_ms=_number(row[11]),
    )


def _number(value: object) -> int:
    return 0 if value is None else int(str(value))
