"""A snapshot of a tenant's knowledge as it lies, zstd-compressed, in a region's object store: one SQLite file.

It holds the items with their vectors and nothing derived: how they are indexed is the node's own matter, so that hub
and node may run different releases. Pure.
"""

SNAPSHOT_FORMAT = 1
SNAPSHOT_SCHEMA = """
CREATE TABLE snapshot (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    format INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    version INTEGER NOT NULL,
    items INTEGER NOT NULL
) STRICT;
-- item: a serialised downlink.KnowledgeItem.
CREATE TABLE items (
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    item BLOB NOT NULL,
    PRIMARY KEY (source, id)
) STRICT, WITHOUT ROWID;
"""
