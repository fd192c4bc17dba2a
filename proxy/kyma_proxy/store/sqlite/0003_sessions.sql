-- Sessions of the dashboard. The cookie itself is not kept, only its SHA-256.

CREATE TABLE sessions (
    digest  BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    id      TEXT    NOT NULL,
    account TEXT    NOT NULL REFERENCES accounts (id),
    key     TEXT    NOT NULL,                         -- the key with which its holder signed in
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_of ON sessions (account, created);
CREATE INDEX sessions_by_end ON sessions (expires);
