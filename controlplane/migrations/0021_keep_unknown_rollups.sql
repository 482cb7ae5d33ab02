-- Rollups that stay in the stream because they name what the hub does not know yet: documents, a version or a minute.
CREATE TABLE rollup_kept (
  stream_seq  INTEGER PRIMARY KEY,
  sent_at_ms  INTEGER NOT NULL,
  tried_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX rollup_kept_by_try ON rollup_kept (tried_at_ms);
