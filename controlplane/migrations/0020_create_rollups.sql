-- Counts of calls and turns as nodes send them up (contract/uplink.proto). `minute` is since 1970, the first one of the
-- `step_minutes` that the row covers; `body` is a serialised Entry with the sums of all nodes of the region.
CREATE TABLE rollup_entries (
  region        TEXT NOT NULL,
  tenant        TEXT NOT NULL,
  minute        INTEGER NOT NULL,
  agent         TEXT NOT NULL,
  agent_version TEXT NOT NULL,
  intent        TEXT NOT NULL,
  step_minutes  INTEGER NOT NULL,
  body          BLOB NOT NULL,
  PRIMARY KEY (region, tenant, minute, agent, agent_version, intent)
) STRICT;
CREATE INDEX rollup_entries_by_step ON rollup_entries (step_minutes, minute);

-- (region, node, seq) is counted once. Rows are kept for a while; every number up to `floor_seq` was counted before.
CREATE TABLE rollup_seqs (
  region        TEXT NOT NULL,
  node          TEXT NOT NULL,
  seq           INTEGER NOT NULL,
  sha256        BLOB NOT NULL,
  counted_at_ms INTEGER NOT NULL,
  PRIMARY KEY (region, node, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollup_seqs_by_age ON rollup_seqs (counted_at_ms);

-- Sums since the store began, to be compared with the ledger of each node.
CREATE TABLE rollup_nodes (
  region      TEXT NOT NULL,
  node        TEXT NOT NULL,
  floor_seq   INTEGER NOT NULL DEFAULT 0,
  counted     INTEGER NOT NULL DEFAULT 0,
  repeated    INTEGER NOT NULL DEFAULT 0,
  conflicting INTEGER NOT NULL DEFAULT 0,
  calls       INTEGER NOT NULL DEFAULT 0,
  turns       INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (region, node)
) STRICT, WITHOUT ROWID;

-- What was refused: where it came from if that is a name, and which fields were wrong; never what they held.
CREATE TABLE rollup_refusals (
  stream_seq    INTEGER NOT NULL,
  sent_at_ms    INTEGER NOT NULL,
  region        TEXT NOT NULL,
  node          TEXT NOT NULL,
  problem       TEXT NOT NULL,
  PRIMARY KEY (stream_seq, sent_at_ms)
) STRICT, WITHOUT ROWID;

-- How far the stream was read (a hub restored from a backup reads again what it lost), and all that was ever refused.
CREATE TABLE rollup_position (
  only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
  stream_seq INTEGER NOT NULL,
  refused    INTEGER NOT NULL
) STRICT;
INSERT INTO rollup_position VALUES (1, 0, 0);
