-- In the order in which calls ended, without gaps that could still be filled: a reader keeps the seq it has got to.
CREATE TABLE ended_calls (
  seq     INTEGER PRIMARY KEY AUTOINCREMENT,
  call_id TEXT NOT NULL UNIQUE REFERENCES calls (call_id) ON DELETE CASCADE
) STRICT;
INSERT INTO ended_calls (call_id) SELECT call_id FROM calls WHERE ended_at IS NOT NULL ORDER BY ended_at, call_id;

-- The reply was meant to be spoken, and no sound of it was made.
ALTER TABLE turns ADD COLUMN is_silent INTEGER NOT NULL DEFAULT 0 CHECK (is_silent IN (0, 1));

-- The run of a call worker that holds the call (edge/records/presence.py); NULL: written by a release before this one.
ALTER TABLE calls ADD COLUMN worker TEXT;
CREATE INDEX calls_still_open ON calls (worker) WHERE ended_at IS NULL;
