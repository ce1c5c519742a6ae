-- Times are microseconds since 1970, UTC.
CREATE TABLE run (
    no INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    workflow TEXT NOT NULL,
    status TEXT NOT NULL,
    business_id TEXT NOT NULL DEFAULT '',
    generation INTEGER NOT NULL DEFAULT 0,
    first_seq INTEGER NOT NULL DEFAULT 1,
    epoch INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',
    ready_at INTEGER NOT NULL DEFAULT 0,
    wake_at INTEGER NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL DEFAULT 0,
    concurrency_key TEXT NOT NULL DEFAULT '',
    concurrency INTEGER NOT NULL DEFAULT 0,
    parent TEXT NOT NULL DEFAULT '',
    parent_path TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL DEFAULT 0,
    detail TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX run_business ON run (business_id) WHERE business_id <> '';
CREATE INDEX run_ready ON run (priority DESC, ready_at) WHERE status = 'ready';
CREATE INDEX run_wake ON run (wake_at) WHERE status = 'waiting' AND wake_at > 0;
CREATE INDEX run_owner ON run (owner) WHERE owner <> '';
CREATE INDEX run_blocked ON run (no) WHERE status = 'blocked';
CREATE INDEX run_concurrency ON run (concurrency_key) WHERE concurrency > 0 AND ended_at = 0 AND epoch > 0;
CREATE INDEX run_parent ON run (parent) WHERE parent <> '';

-- id is run.no << 24 | seq: one table, appends to a run stay on its pages, and a doubled seq is refused by the key.
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    event BLOB NOT NULL,
    blob BLOB
);

-- Payloads over 16 kB, once each, by SHA-256.
CREATE TABLE blob (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    body BLOB NOT NULL
);

-- A read letter stays as a tombstone (event NULL) where it has a key, so that a duplicate is known.
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_no INTEGER NOT NULL,
    key TEXT,
    generation INTEGER NOT NULL DEFAULT -1,
    event BLOB
);
CREATE UNIQUE INDEX inbox_key ON inbox (run_no, key) WHERE key IS NOT NULL;
CREATE INDEX inbox_unread ON inbox (run_no) WHERE event IS NOT NULL;

-- Questions that wait for a person: a projection of the journal, kept in the same transactions.
CREATE TABLE task (
    run_no INTEGER NOT NULL,
    path TEXT NOT NULL,
    generation INTEGER NOT NULL,
    task BLOB NOT NULL,
    asked_at INTEGER NOT NULL,
    PRIMARY KEY (run_no, path)
);

CREATE TABLE owner (
    owner TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
