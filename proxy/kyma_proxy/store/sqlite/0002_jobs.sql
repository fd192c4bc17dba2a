-- Image jobs, without what they are about: no prompt, no picture, no address of one.

CREATE TABLE jobs (
    number          INTEGER NOT NULL PRIMARY KEY,     -- in the order of their submission
    id              TEXT    NOT NULL UNIQUE,
    account         TEXT    NOT NULL REFERENCES accounts (id),
    key             TEXT    NOT NULL,
    request_id      TEXT    NOT NULL,
    idempotency_key TEXT,
    digest          BLOB,                             -- of the request, where it has an idempotency key; salted with the id
    model           TEXT    NOT NULL,
    n               INTEGER NOT NULL CHECK (n BETWEEN 1 AND 4),
    price           INTEGER NOT NULL CHECK (price >= 0),
    created         INTEGER NOT NULL,
    status          TEXT    NOT NULL CHECK (status IN ('pending', 'processing', 'succeeded', 'failed', 'refunded', 'expired')),
    completed       INTEGER,
    charged         INTEGER NOT NULL DEFAULT 0 CHECK (charged BETWEEN 0 AND price * n),
    error           TEXT,                             -- the code of the error with which it ended
    delivered       INTEGER NOT NULL DEFAULT 0 CHECK (delivered IN (0, 1)),
    provider        TEXT,                             -- who has accepted it, as what, and under which name
    provider_model  TEXT,
    provider_job    TEXT,
    answer_model    TEXT,
    layer           INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX jobs_by_idempotency_key ON jobs (account, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_of ON jobs (account, number);
CREATE INDEX jobs_by_time ON jobs (created);
-- What a start has to look after.
CREATE INDEX jobs_unfinished ON jobs (number) WHERE status IN ('pending', 'processing')
    OR (status = 'succeeded' AND delivered = 0);
