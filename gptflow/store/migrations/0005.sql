-- What is with a provider's Batch API: files of calls, answered within a day. Each is written down
-- before it is sent, so that whoever comes after a killed process finds it again and never sends it
-- twice.

CREATE TABLE batches (
    batch_id   INTEGER PRIMARY KEY,
    run_id     INTEGER NOT NULL,
    token      TEXT    NOT NULL,                     -- our name for it; the provider keeps it too
    status     TEXT    NOT NULL,                     -- batches.BatchStatus
    model      TEXT    NOT NULL,
    endpoint   TEXT    NOT NULL,                     -- below /v1, as in records.Call
    calls      INTEGER NOT NULL,
    tokens     INTEGER NOT NULL,                     -- of its prompts, estimated
    size_bytes INTEGER NOT NULL,                     -- of its file
    digest     TEXT    NOT NULL,
    key_name   TEXT    NOT NULL DEFAULT '',          -- a name: keys themselves are never stored
    account    TEXT    NOT NULL DEFAULT '',          -- host and organization: whose keys can fetch it
    file_id    TEXT    NOT NULL DEFAULT '',          -- at the provider, as remote_id
    remote_id  TEXT    NOT NULL DEFAULT '',
    tries      INTEGER NOT NULL DEFAULT 0,           -- refusals for want of room in its queue
    changed_at REAL    NOT NULL
);

-- The calls that are on their way in a batch. A line goes in the same commit that stores its reply.
CREATE TABLE batch_calls (
    line_id  INTEGER PRIMARY KEY,                    -- in the order of the file
    batch_id INTEGER NOT NULL,
    call_key BLOB    NOT NULL CHECK (length(call_key) = 16),
    step     TEXT    NOT NULL,
    tokens   INTEGER NOT NULL                        -- of its prompt, estimated
);
CREATE INDEX batch_calls_by_key ON batch_calls (call_key);
CREATE INDEX batch_calls_by_batch ON batch_calls (batch_id, call_key);

-- What calls came back with that have no reply yet: they are asked again, up to limits.attempts.
CREATE TABLE batch_faults (
    fault_id INTEGER PRIMARY KEY,
    run_id   INTEGER NOT NULL,
    call_key BLOB    NOT NULL CHECK (length(call_key) = 16),
    key_name TEXT    NOT NULL,
    verdict  BLOB    NOT NULL                        -- as JSON
);
CREATE INDEX batch_faults_by_key ON batch_faults (call_key);

-- The part of `usage` and `estimates` that was had at the price of a batch.
CREATE TABLE discounted (
    run_id            INTEGER NOT NULL,
    model             TEXT    NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens     INTEGER NOT NULL,
    PRIMARY KEY (run_id, model)
) WITHOUT ROWID;
