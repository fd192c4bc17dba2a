-- Accounts, their keys, the ledger of their credits, and what they used on each day.
-- Money is nano-dollars, a moment is Unix seconds, a day is days since 1970-01-01 in UTC.

PRAGMA application_id = 0x4b594d41;  -- KYMA

CREATE TABLE accounts (
    id           TEXT    NOT NULL PRIMARY KEY,
    email        TEXT    NOT NULL,
    folded_email TEXT    NOT NULL UNIQUE,             -- the e-mail without regard to case, in all alphabets
    created      INTEGER NOT NULL,
    is_blocked   INTEGER NOT NULL CHECK (is_blocked IN (0, 1)),
    balance      INTEGER NOT NULL DEFAULT 0,          -- the sum of the account's entries
    purchased    INTEGER NOT NULL DEFAULT 0,          -- that of its purchases
    last_entry   INTEGER                              -- where the account's ledger ends
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    id            TEXT    NOT NULL PRIMARY KEY,
    account       TEXT    NOT NULL REFERENCES accounts (id),
    digest        BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    prefix        TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    created       INTEGER NOT NULL,
    last_used_day INTEGER,
    is_revoked    INTEGER NOT NULL CHECK (is_revoked IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE INDEX keys_of ON keys (account);

-- Each entry names the account's entry before it. An index by account would say the same, but it would touch a page of its
-- own for nearly every charge, and what a charge costs is mostly the pages that it touches.
CREATE TABLE entries (
    id         INTEGER NOT NULL PRIMARY KEY,
    account    TEXT    NOT NULL REFERENCES accounts (id),
    previous   INTEGER,
    at         INTEGER NOT NULL,
    kind       TEXT    NOT NULL CHECK (                -- a usage is asked for alone: the list would cost as much as the rest
        kind = 'usage' OR kind IN ('signup_bonus', 'purchase', 'grant', 'refund', 'adjustment')
    ),
    amount     INTEGER NOT NULL CHECK (kind IN ('refund', 'adjustment') OR (amount < 0) = (kind = 'usage')),
    reference  TEXT    NOT NULL,
    request_id TEXT,
    model      TEXT,
    key        TEXT,
    note       TEXT,
    UNIQUE (kind, reference)
) STRICT;

CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;

-- The day comes first, so that what changes today lies together.
CREATE TABLE usage (
    day               INTEGER NOT NULL,
    account           TEXT    NOT NULL REFERENCES accounts (id),
    model             TEXT    NOT NULL,
    key               TEXT    NOT NULL,               -- '' where no key was used
    requests          INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens     INTEGER NOT NULL,
    cost              INTEGER NOT NULL,
    PRIMARY KEY (day, account, model, key)
) STRICT, WITHOUT ROWID;
