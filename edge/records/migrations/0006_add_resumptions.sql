-- Calls that we cut off, and the calls in which their callers went on, perhaps on another node. Ids only.
CREATE TABLE resumptions (
  call_id    TEXT PRIMARY KEY REFERENCES calls (call_id) ON DELETE CASCADE,
  resumes    TEXT,
  resumed_as TEXT
) STRICT, WITHOUT ROWID;
