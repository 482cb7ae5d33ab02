-- Times of day are UTC milliseconds since 1970; durations are milliseconds. The caller is an HMAC subject id.
CREATE TABLE calls (
  call_id        TEXT PRIMARY KEY,
  tenant         TEXT NOT NULL,
  agent          TEXT NOT NULL,
  agent_version  TEXT NOT NULL,
  subject_id     TEXT NOT NULL,
  called_number  TEXT NOT NULL,
  transport      TEXT NOT NULL CHECK (transport IN ('sip', 'webrtc')),
  started_at     INTEGER NOT NULL,
  answered_at    INTEGER,
  ended_at       INTEGER,
  outcome        TEXT,
  hangup_cause   TEXT,
  reason         TEXT,
  first_audio_ms INTEGER
) STRICT;
CREATE INDEX calls_by_start ON calls (started_at);
CREATE INDEX calls_by_subject ON calls (subject_id);

CREATE TABLE turns (
  call_id              TEXT NOT NULL REFERENCES calls (call_id) ON DELETE CASCADE,
  seq                  INTEGER NOT NULL,
  began_at             INTEGER NOT NULL,
  intent               TEXT,
  confidence           REAL,
  citations            TEXT NOT NULL,
  was_interrupted      INTEGER NOT NULL CHECK (was_interrupted IN (0, 1)),
  pause_seen_ms        INTEGER,
  recognise_queue_ms   INTEGER,
  recognise_compute_ms INTEGER,
  understand_ms        INTEGER,
  audio_ready_ms       INTEGER,
  sent_ms              INTEGER,
  PRIMARY KEY (call_id, seq)
) STRICT, WITHOUT ROWID;

-- Personal content stands alone, so that it can be encrypted and erased per data subject.
CREATE TABLE turn_contents (
  call_id     TEXT NOT NULL,
  seq         INTEGER NOT NULL,
  subject_id  TEXT NOT NULL,
  caller_text TEXT NOT NULL,
  agent_text  TEXT NOT NULL,
  PRIMARY KEY (call_id, seq),
  FOREIGN KEY (call_id, seq) REFERENCES turns (call_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX turn_contents_by_subject ON turn_contents (subject_id);

CREATE TABLE tool_runs (
  call_id     TEXT NOT NULL REFERENCES calls (call_id) ON DELETE CASCADE,
  seq         INTEGER NOT NULL,
  tool        TEXT NOT NULL,
  began_at    INTEGER NOT NULL,
  took_ms     INTEGER NOT NULL,
  error       TEXT,
  PRIMARY KEY (call_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE transfers (
  call_id     TEXT NOT NULL REFERENCES calls (call_id) ON DELETE CASCADE,
  seq         INTEGER NOT NULL,
  destination TEXT NOT NULL,
  reason      TEXT NOT NULL,
  began_at    INTEGER NOT NULL,
  took_ms     INTEGER NOT NULL,
  outcome     TEXT NOT NULL,
  PRIMARY KEY (call_id, seq)
) STRICT, WITHOUT ROWID;
