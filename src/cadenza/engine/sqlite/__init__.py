"""The SQLite store, through apsw alone: the standard module's locks and apsw's would break each other on one file."""
