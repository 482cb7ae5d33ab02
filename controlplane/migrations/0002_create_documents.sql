-- Every revision of every document. A deletion is a revision without text, so that numbers never come twice.
CREATE TABLE documents (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    yaml TEXT NOT NULL,
    applied_at_ms INTEGER NOT NULL,
    applied_by TEXT NOT NULL,
    is_deleted INTEGER NOT NULL,
    UNIQUE (kind, tenant, name, revision)
) STRICT;
