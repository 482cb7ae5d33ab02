"""The SQL of bundles: compiled in the transaction of the documents, kept until NATS has them.

A crash between storing and publishing loses nothing: what is not marked as published is published at the next start.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import apsw

from controlplane.bundles.compiling import Compiled, seal
from controlplane.signing import Signer

KEPT_MESSAGES = 20  # of each region; a few hundred kB each


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleVersion:
    """One version of a region's bundle."""

    region: str
    version: int
    created_at_ms: int
    content_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingBundle:
    """A bundle that is not published yet."""

    region: str
    version: int
    message: bytes


def changed_regions(connection: apsw.Connection, compiled: Iterable[Compiled]) -> list[tuple[Compiled, int]]:
    """Regions whose documents are not those of their newest bundle, with the version each would get."""
    changed = []
    for region in compiled:
        newest = connection.execute(
            "SELECT version, documents_sha256 FROM bundles WHERE region = ? ORDER BY version DESC LIMIT 1",
            (region.region,),
        ).fetchone()
        if newest is None:
            changed.append((region, 1))
        elif bytes(newest[1]) != region.digest:
            changed.append((region, int(newest[0]) + 1))
    return changed


def store_bundle(connection: apsw.Connection, compiled: Compiled, version: int, signer: Signer) -> BundleVersion:
    """Seal a version and put it into the outbox."""
    at_ms = time.time_ns() // 1_000_000
    connection.execute(
        "INSERT INTO bundles VALUES (?, ?, ?, ?, ?, ?, NULL)",
        (
            compiled.region,
            version,
            at_ms,
            compiled.digest,
            len(compiled.content),
            seal(compiled, version=version, at_ms=at_ms, signer=signer),
        ),
    )
    connection.execute(
        "UPDATE bundles SET message = NULL"
        " WHERE region = ? AND version <= ? AND published_at_ms IS NOT NULL AND message IS NOT NULL",
        (compiled.region, version - KEPT_MESSAGES),
    )
    return BundleVersion(
        region=compiled.region, version=version, created_at_ms=at_ms, content_bytes=len(compiled.content)
    )


def waiting(connection: apsw.Connection) -> list[WaitingBundle]:
    """What is not published, in the order of versions."""
    rows = connection.execute(
        "SELECT region, version, message FROM bundles WHERE published_at_ms IS NULL ORDER BY region, version"
    )
    return [WaitingBundle(region=str(row[0]), version=int(row[1]), message=bytes(row[2])) for row in rows]


def mark_published(connection: apsw.Connection, region: str, version: int) -> None:
    """NATS has stored it."""
    connection.execute(
        "UPDATE bundles SET published_at_ms = ? WHERE region = ? AND version = ?",
        (time.time_ns() // 1_000_000, region, version),
    )


def mark_waiting(connection: apsw.Connection, region: str, version: int) -> None:
    """NATS has lost it."""
    connection.execute("UPDATE bundles SET published_at_ms = NULL WHERE region = ? AND version = ?", (region, version))


def all_versions(connection: apsw.Connection) -> dict[str, frozenset[int]]:
    """Every version of each region that the database holds."""
    found: dict[str, set[int]] = {}
    for region, version in connection.execute("SELECT region, version FROM bundles"):
        found.setdefault(str(region), set()).add(int(version))
    return {region: frozenset(versions) for region, versions in found.items()}


def newest_versions(connection: apsw.Connection) -> dict[str, BundleVersion]:
    """The newest bundle of each region."""
    rows = connection.execute(
        "SELECT region, version, created_at_ms, content_bytes FROM bundles AS b"
        " WHERE version = (SELECT max(version) FROM bundles WHERE region = b.region)"
    )
    return {
        str(row[0]): BundleVersion(
            region=str(row[0]), version=int(row[1]), created_at_ms=int(row[2]), content_bytes=int(row[3])
        )
        for row in rows
    }
