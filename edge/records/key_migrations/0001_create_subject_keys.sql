-- One living key per data subject and master key; a destroyed one leaves its name, so that its content is known to be
-- erased.
CREATE TABLE subject_keys (
  key_id       TEXT PRIMARY KEY,
  subject_id   TEXT NOT NULL,
  master_id    TEXT NOT NULL,
  wrapped      BLOB,
  created_at   INTEGER NOT NULL,
  destroyed_at INTEGER,
  CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX subject_keys_living ON subject_keys (subject_id, master_id) WHERE destroyed_at IS NULL;

-- How far the tenant's audit chain was seen to reach: a chain that is shorter, or other at this place, was cut.
CREATE TABLE audit_anchor (
  only_row  INTEGER PRIMARY KEY CHECK (only_row = 1),
  seq       INTEGER NOT NULL,
  hash      BLOB NOT NULL,
  at        INTEGER NOT NULL,
  master_id TEXT NOT NULL,
  mac       BLOB NOT NULL
) STRICT;
