-- Personal content is sealed with a key per data subject, which is in another database (edge/records/keyring.py).
-- subject_key() and seal() are functions of the connection (edge/records/contents.py).
DROP INDEX turn_contents_by_subject;
ALTER TABLE turn_contents RENAME TO plain_contents;
CREATE TABLE turn_contents (
  call_id     TEXT NOT NULL,
  seq         INTEGER NOT NULL,
  subject_id  TEXT NOT NULL,
  key_id      TEXT NOT NULL,
  caller_text BLOB NOT NULL,
  agent_text  BLOB NOT NULL,
  PRIMARY KEY (call_id, seq),
  FOREIGN KEY (call_id, seq) REFERENCES turns (call_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
INSERT INTO turn_contents
  SELECT call_id, seq, subject_id, subject_key(subject_id),
    seal(subject_id, call_id, seq, 'caller_text', caller_text), seal(subject_id, call_id, seq, 'agent_text', agent_text)
  FROM plain_contents;
DROP TABLE plain_contents;
CREATE INDEX turn_contents_by_subject ON turn_contents (subject_id);

-- A SIP address may name the human who was rung.
ALTER TABLE transfers RENAME TO plain_transfers;
CREATE TABLE transfers (
  call_id     TEXT NOT NULL REFERENCES calls (call_id) ON DELETE CASCADE,
  seq         INTEGER NOT NULL,
  key_id      TEXT NOT NULL,
  destination BLOB NOT NULL,
  reason      TEXT NOT NULL,
  began_at    INTEGER NOT NULL,
  took_ms     INTEGER NOT NULL,
  outcome     TEXT NOT NULL,
  PRIMARY KEY (call_id, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO transfers
  SELECT call_id, seq, subject_key(subject_id), seal(subject_id, call_id, seq, 'destination', destination),
    plain_transfers.reason, began_at, took_ms, plain_transfers.outcome
  FROM plain_transfers JOIN calls USING (call_id);
DROP TABLE plain_transfers;
