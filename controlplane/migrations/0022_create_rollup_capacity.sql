-- How full nodes were, by the minute and later by the hour: slots and the most that were in use, and callers refused.
CREATE TABLE rollup_capacity (
  region     TEXT NOT NULL,
  node       TEXT NOT NULL,
  minute     INTEGER NOT NULL,
  slots      INTEGER NOT NULL,
  used_peak  INTEGER NOT NULL,
  refused    INTEGER NOT NULL,
  PRIMARY KEY (region, node, minute)
) STRICT, WITHOUT ROWID;
