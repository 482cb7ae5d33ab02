-- How far the region has heard of the calls that were counted: those of the last day are told when it can be reached.
ALTER TABLE watermarks ADD COLUMN told_seq INTEGER NOT NULL DEFAULT 0;
