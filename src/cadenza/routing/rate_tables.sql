CREATE TABLE routing_rate (
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    level REAL NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (key, kind)
) STRICT;
