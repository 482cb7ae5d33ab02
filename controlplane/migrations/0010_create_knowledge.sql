-- Items by the digest of what they say (a downlink.KnowledgeItem without texts), kept for rollbacks.
CREATE TABLE knowledge_bodies (
    digest BLOB PRIMARY KEY,
    valid_from TEXT NOT NULL,
    valid_until TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- Vectors by text and model, so that only what is new is computed.
CREATE TABLE knowledge_vectors (
    text_sha256 BLOB NOT NULL,
    model TEXT NOT NULL,
    scale REAL NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (text_sha256, model)
) STRICT;

-- What the next version of a tenant will hold.
CREATE TABLE knowledge_draft (
    tenant TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (tenant, source, id)
) STRICT, WITHOUT ROWID;

-- The model of which all texts of a draft have vectors.
CREATE TABLE knowledge_draft_models (
    tenant TEXT PRIMARY KEY,
    model TEXT NOT NULL
) STRICT;

-- What the newest version holds.
CREATE TABLE knowledge_published (
    tenant TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (tenant, source, id)
) STRICT, WITHOUT ROWID;

-- What each version put, or took away (no digest).
CREATE TABLE knowledge_history (
    tenant TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest BLOB,
    PRIMARY KEY (tenant, source, id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE knowledge_versions (
    tenant TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    items INTEGER NOT NULL,
    model TEXT NOT NULL,
    PRIMARY KEY (tenant, version)
) STRICT;

-- What goes to each region, and the outbox of what NATS does not have yet. `object`: name of the snapshot that must be
-- in the region's object store first. Old ones lose their message.
CREATE TABLE knowledge_messages (
    region TEXT NOT NULL,
    tenant TEXT NOT NULL,
    version INTEGER NOT NULL,
    object TEXT,
    content_bytes INTEGER NOT NULL,
    message BLOB,
    published_at_ms INTEGER,
    PRIMARY KEY (region, tenant, version)
) STRICT;

CREATE INDEX knowledge_messages_waiting ON knowledge_messages (version) WHERE published_at_ms IS NULL;
