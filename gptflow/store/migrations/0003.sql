-- A source that has grown is known by the bytes that an earlier run has read, and not parsed again.

ALTER TABLE runs ADD COLUMN source_proof TEXT NOT NULL DEFAULT ''; -- size, records and hash, or ''
