CREATE TABLE routing_breaker (
    key TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    failed INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    until INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;
