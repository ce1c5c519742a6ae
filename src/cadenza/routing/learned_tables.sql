-- What was learned of (instance, skill) pairs: the columns of routing.learn.Record, in its order, and the number of the
-- last observation in it, by which other processes find what has changed.
CREATE TABLE routing_performance (
    instance TEXT NOT NULL,
    skill TEXT NOT NULL,
    at INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    weight REAL NOT NULL,
    successes REAL NOT NULL,
    latency_weight REAL NOT NULL,
    latency_sum REAL NOT NULL,
    latency_squares REAL NOT NULL,
    price_weight REAL NOT NULL,
    price_sum REAL NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (instance, skill)
) STRICT, WITHOUT ROWID;
CREATE INDEX routing_performance_number ON routing_performance (number);
CREATE INDEX routing_performance_calls ON routing_performance (skill, calls);
-- The keys of the last observations, so that each counts once.
CREATE TABLE routing_observed (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE
) STRICT;
