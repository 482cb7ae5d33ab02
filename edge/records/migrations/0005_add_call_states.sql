-- Where a running call stands, for the worker that takes it over; sealed as a whole, gone when the call has ended.
CREATE TABLE call_states (
  call_id TEXT PRIMARY KEY REFERENCES calls (call_id) ON DELETE CASCADE,
  key_id  TEXT NOT NULL,
  state   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
