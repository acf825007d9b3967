-- A source that has grown is known by the bytes that an earlier run has read, and not parsed again.

CREATE TABLE proofs (
    run_id INTEGER PRIMARY KEY,
    proof  TEXT NOT NULL                             -- size, records and hash of the run's source
);
