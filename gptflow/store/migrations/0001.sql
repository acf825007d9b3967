-- The store as it was born. A file NNNN.sql takes a store from version NNNN - 1 to NNNN; one that
-- has been released is never edited again.
--
-- What a run needs to be read back is in here: its spec as it was, its rows with what became of
-- them, and every reply that was paid for, as it came.

CREATE TABLE runs (
    run_id             INTEGER PRIMARY KEY,
    name               TEXT    NOT NULL,
    status             TEXT    NOT NULL,             -- record.RunStatus
    plan_digest        TEXT    NOT NULL,
    source_fingerprint TEXT    NOT NULL,
    spec               TEXT    NOT NULL,             -- the file's text as it was
    spec_file          TEXT    NOT NULL,
    server             TEXT    NOT NULL,             -- '' is the real one
    fresh              INTEGER NOT NULL,             -- 1: begun by --fresh
    since_run          INTEGER NOT NULL,             -- replies of runs before it are not reused
    output             TEXT    NOT NULL,
    fields             TEXT    NOT NULL,             -- of its rows, a JSON list
    version            TEXT    NOT NULL,             -- of gptflow
    started_at         REAL    NOT NULL,             -- seconds since 1970, as all times here
    ended_at           REAL,                         -- NULL while it runs
    stop_reason        TEXT    NOT NULL DEFAULT '',
    output_digest      TEXT    NOT NULL DEFAULT '',
    ledger_digest      TEXT    NOT NULL DEFAULT '',
    rows               INTEGER NOT NULL DEFAULT 0,
    columns            TEXT    NOT NULL DEFAULT '[]' -- of the source, a JSON list
);

-- One small row of fixed size for every row of every run, so that going through a million of them
-- stays cheap. row_id is run_id << 40 | position: the rows of a run are one stretch of the table,
-- in their order, without an index.
CREATE TABLE ledger (
    row_id  INTEGER PRIMARY KEY,
    record  INTEGER NOT NULL,
    row_key BLOB    NOT NULL CHECK (length(row_key) = 16),
    ordinal INTEGER NOT NULL DEFAULT 0,
    status  INTEGER NOT NULL DEFAULT 0               -- 0 pending, 1 done, 2 failed
);
CREATE INDEX failed_rows ON ledger (row_id) WHERE status = 2;

-- What became of a row; rows that are pending have none.
CREATE TABLE results (
    row_id    INTEGER PRIMARY KEY,                   -- as in ledger
    raw       BLOB    NOT NULL,                      -- the source's record: an output needs no source
    fields    BLOB    NOT NULL,                      -- a JSON object
    failure   BLOB,                                  -- records.Failure as JSON; NULL: the row is done
    calls     BLOB    NOT NULL,                      -- call keys of 16 bytes, one after the other
    truncated INTEGER NOT NULL
);
CREATE INDEX truncated_rows ON results (row_id) WHERE truncated;

-- Every reply ever received. A question that is asked again adds a row and replaces none, so that
-- what a run has cost never changes; the newest one that is not stale is the answer.
CREATE TABLE calls (
    call_id           INTEGER PRIMARY KEY,
    call_key          BLOB    NOT NULL CHECK (length(call_key) = 16),
    run_id            INTEGER NOT NULL,
    step              TEXT    NOT NULL,
    model             TEXT    NOT NULL,              -- the one that was asked for
    key_name          TEXT    NOT NULL,              -- a name: keys themselves are never stored
    finish_reason     TEXT,
    prompt_tokens     INTEGER,                       -- NULL here is unknown, which is not 0
    completion_tokens INTEGER,
    cached_tokens     INTEGER,
    attempts          INTEGER NOT NULL,
    latency_s         REAL    NOT NULL,
    asked_at          REAL    NOT NULL,
    stale             INTEGER NOT NULL DEFAULT 0,    -- 1: to be asked again, by --retry
    body              BLOB    NOT NULL               -- the response's body as it came
);
CREATE INDEX calls_by_key ON calls (call_key);

-- Sums over calls, kept by the trigger: adding up a million calls would read all their bodies.
CREATE TABLE usage (
    run_id            INTEGER NOT NULL,
    model             TEXT    NOT NULL,
    calls             INTEGER NOT NULL,
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    cached_tokens     INTEGER,
    PRIMARY KEY (run_id, model)
) WITHOUT ROWID;

CREATE TRIGGER add_usage AFTER INSERT ON calls BEGIN
    INSERT INTO usage
    VALUES (new.run_id, new.model, 1,
            new.prompt_tokens, new.completion_tokens, new.cached_tokens)
    ON CONFLICT (run_id, model) DO UPDATE SET
        calls = calls + 1,
        prompt_tokens =
            coalesce(prompt_tokens + excluded.prompt_tokens, prompt_tokens, excluded.prompt_tokens),
        completion_tokens =
            coalesce(completion_tokens + excluded.completion_tokens,
                     completion_tokens, excluded.completion_tokens),
        cached_tokens =
            coalesce(cached_tokens + excluded.cached_tokens, cached_tokens, excluded.cached_tokens);
END;
