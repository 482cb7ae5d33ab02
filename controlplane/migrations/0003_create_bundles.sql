-- Compiled bundles, and the outbox of those that are not published yet. Old ones lose their message.
CREATE TABLE bundles (
    region TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    documents_sha256 BLOB NOT NULL,
    content_bytes INTEGER NOT NULL,
    message BLOB,
    published_at_ms INTEGER,
    PRIMARY KEY (region, version)
) STRICT;

CREATE INDEX bundles_waiting ON bundles (region, version) WHERE published_at_ms IS NULL;
