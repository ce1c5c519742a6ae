-- Search attributes: a projection of the journal, kept in the same transactions. A flag is a blob of one byte.
CREATE TABLE attribute (
    run_no INTEGER NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (run_no, name)
) WITHOUT ROWID;
CREATE INDEX attribute_value ON attribute (name, value);

-- Purged runs whose journals are not yet deleted to the end. The highest number stays: no number is given twice, because
-- an owner that was away may still write under it.
CREATE TABLE purged (
    no INTEGER PRIMARY KEY,
    swept INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX run_ended ON run (status, ended_at) WHERE ended_at > 0;
CREATE INDEX journal_blob ON journal (blob) WHERE blob IS NOT NULL;

-- People to be told that a run has failed or is blocked.
CREATE TABLE alert (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    workflow TEXT NOT NULL,
    status TEXT NOT NULL,
    detail TEXT NOT NULL,
    at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL
);
