-- What any process of the file has known of an instance. `seen_at` is when the last process that ran it was heard of.
CREATE TABLE registry_instance (
    key TEXT PRIMARY KEY,
    card BLOB NOT NULL,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    health_url TEXT NOT NULL,
    problem TEXT NOT NULL,
    seen_at INTEGER NOT NULL
) STRICT;

-- Processes that run agents; one row is written with each heartbeat.
CREATE TABLE registry_worker (
    worker TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
) STRICT;

CREATE TABLE registry_hosted (
    worker TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (worker, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX registry_hosted_by_key ON registry_hosted (key);

-- The last answer to "are you well?"; `answered_at` is when it last was.
CREATE TABLE registry_probe (
    key TEXT PRIMARY KEY,
    probed_at INTEGER NOT NULL,
    answered_at INTEGER NOT NULL,
    latency_s REAL,
    problem TEXT NOT NULL
) STRICT;

-- Grows with every change that is more than a heartbeat.
CREATE TABLE registry_change (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL) STRICT;
INSERT INTO registry_change VALUES (1, 0);
