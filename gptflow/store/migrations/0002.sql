-- A row that a run takes over from an earlier one is a reference to that one's result, not a copy:
-- a million rows with ten new ones are otherwise half a gigabyte a run, and a quarter of a minute.

CREATE TABLE reused (
    row_id    INTEGER PRIMARY KEY,                   -- as in ledger; it has no row in results
    result_id INTEGER NOT NULL                       -- the row in results that it stands for
);

-- What became of a row, wherever that is kept.
CREATE VIEW outcomes AS
    SELECT row_id, raw, fields, failure, calls, truncated FROM results
    UNION ALL
    SELECT reused.row_id, raw, fields, failure, calls, truncated
    FROM reused CROSS JOIN results ON results.row_id = reused.result_id;
