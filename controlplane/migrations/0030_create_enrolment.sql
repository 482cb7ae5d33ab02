-- Tokens by which nodes enrol: of the secret only its SHA-256. Used ones stay, so that a second use is told apart.
CREATE TABLE node_tokens (
    id TEXT PRIMARY KEY,
    secret_sha256 BLOB NOT NULL,
    region TEXT NOT NULL,
    node TEXT NOT NULL,
    replaces INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    used_at_ms INTEGER,
    used_by TEXT NOT NULL DEFAULT '',
    used_from TEXT NOT NULL DEFAULT '',
    revoked_at_ms INTEGER
) STRICT, WITHOUT ROWID;

-- Every node that ever enrolled; state as in contract/downlink.proto.
CREATE TABLE nodes (
    region TEXT NOT NULL,
    node TEXT NOT NULL,
    address TEXT NOT NULL,
    state INTEGER NOT NULL,
    enrolled_at_ms INTEGER NOT NULL,
    PRIMARY KEY (region, node)
) STRICT, WITHOUT ROWID;

-- What is valid, as the authority last said.
CREATE TABLE node_certificates (
    region TEXT NOT NULL,
    node TEXT NOT NULL,
    role TEXT NOT NULL,
    generation INTEGER NOT NULL,
    is_staged INTEGER NOT NULL,
    uri TEXT NOT NULL UNIQUE,
    serial TEXT NOT NULL,
    pin TEXT NOT NULL,
    not_after_ms INTEGER NOT NULL,
    PRIMARY KEY (region, node, role, generation)
) STRICT, WITHOUT ROWID;
