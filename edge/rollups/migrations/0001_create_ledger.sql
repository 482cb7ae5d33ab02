CREATE TABLE owner (
  region   TEXT NOT NULL,
  node     TEXT NOT NULL,
  next_seq INTEGER NOT NULL
) STRICT;

-- How far each tenant's list of ended calls has been counted.
CREATE TABLE watermarks (
  tenant TEXT PRIMARY KEY,
  seq    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The last calls that were counted: they show whether the records were restored to an earlier moment.
CREATE TABLE counted_calls (
  tenant  TEXT NOT NULL,
  seq     INTEGER NOT NULL,
  call_id TEXT NOT NULL,
  PRIMARY KEY (tenant, seq)
) STRICT, WITHOUT ROWID;

-- What the hub has not acknowledged. What was offered for sending may be at the hub already, so it never changes.
CREATE TABLE outbox (
  seq          INTEGER PRIMARY KEY,
  body         BLOB NOT NULL,
  step_minutes INTEGER NOT NULL,
  is_offered   INTEGER NOT NULL DEFAULT 0 CHECK (is_offered IN (0, 1))
) STRICT;

-- What was cut, and what the hub acknowledged, since the ledger began.
CREATE TABLE totals (
  is_confirmed INTEGER NOT NULL CHECK (is_confirmed IN (0, 1)),
  tenant       TEXT NOT NULL,
  calls        INTEGER NOT NULL,
  contained    INTEGER NOT NULL,
  escalated    INTEGER NOT NULL,
  abandoned    INTEGER NOT NULL,
  failed       INTEGER NOT NULL,
  repeated     INTEGER NOT NULL,
  turns        INTEGER NOT NULL,
  interrupted  INTEGER NOT NULL,
  silent       INTEGER NOT NULL,
  PRIMARY KEY (is_confirmed, tenant)
) STRICT, WITHOUT ROWID;

CREATE TABLE confirmed (
  seq    INTEGER PRIMARY KEY,
  sha256 BLOB NOT NULL
) STRICT;
