-- Keys that have sealed values of this file. Each row is a sealed value, which proves that somebody has the key.
CREATE TABLE sealing (
    head BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
