CREATE TABLE dead_letter (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    path TEXT NOT NULL,
    agent TEXT NOT NULL,
    tried INTEGER NOT NULL,
    at INTEGER NOT NULL,
    redone_by TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX dead_letter_open ON dead_letter (at) WHERE redone_by = '';
