-- Replies whose server told no tokens cost money, too: what they are taken for is added up beside
-- `usage`, which stays what was told.

CREATE TABLE estimates (
    run_id            INTEGER NOT NULL,
    model             TEXT    NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    PRIMARY KEY (run_id, model)
) WITHOUT ROWID;
