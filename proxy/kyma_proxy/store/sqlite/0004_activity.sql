-- The requests that accounts have made, as the access log has them: metadata, and no column that could hold content.
-- The oldest are deleted, so the ids that are there have no gaps to speak of, and the newest less the oldest is their number.

CREATE TABLE activity (
    id                INTEGER NOT NULL PRIMARY KEY,   -- in the order in which the requests ended
    account           TEXT    NOT NULL,
    key               TEXT,                           -- its public prefix
    at                INTEGER NOT NULL,
    request_id        TEXT    NOT NULL,
    endpoint          TEXT    NOT NULL,
    model_requested   TEXT,
    model             TEXT,
    provider          TEXT,
    stream            INTEGER NOT NULL,
    status            INTEGER NOT NULL,
    ending            TEXT    NOT NULL,
    error_code        TEXT,
    fallback_layer    INTEGER NOT NULL,
    ttft_ms           REAL,
    duration_ms       REAL    NOT NULL,
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    cached_tokens     INTEGER,
    usage_source      TEXT    NOT NULL,
    cost              INTEGER                         -- nano-dollars
) STRICT;

CREATE INDEX activity_of ON activity (account);       -- and within an account by id
