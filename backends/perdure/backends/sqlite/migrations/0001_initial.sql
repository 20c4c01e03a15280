-- Executions, their journals, and everything the verbs keep beside them. Instants and spans are integer microseconds.

CREATE TABLE execution (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    function TEXT NOT NULL,
    version TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    created INTEGER NOT NULL,
    timeout INTEGER,
    retention INTEGER NOT NULL,
    parent TEXT,
    status TEXT NOT NULL,
    deleting INTEGER NOT NULL,
    ended INTEGER,
    deadline INTEGER,
    time_left INTEGER,
    paused INTEGER NOT NULL,
    owner TEXT,
    token TEXT,
    seq INTEGER NOT NULL,
    seq_at INTEGER NOT NULL,
    seq_length INTEGER NOT NULL,
    length INTEGER NOT NULL,
    tip_at INTEGER NOT NULL,
    tip_tag TEXT NOT NULL,
    wake INTEGER,
    invocation_id TEXT,
    invocation_at INTEGER,
    crashes INTEGER NOT NULL,
    quarantined INTEGER NOT NULL,
    format INTEGER NOT NULL,
    effect_last INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    effect_due INTEGER,
    epoch INTEGER NOT NULL,
    removal INTEGER
);

CREATE UNIQUE INDEX execution_name ON execution (function, name);
CREATE INDEX execution_due ON execution (function, version, wake, id, format)
    WHERE wake IS NOT NULL AND owner IS NULL AND paused = 0 AND quarantined = 0;
CREATE INDEX execution_owner ON execution (owner) WHERE owner IS NOT NULL;
CREATE INDEX execution_deadline ON execution (deadline, id) WHERE deadline IS NOT NULL;
CREATE INDEX execution_effect_due ON execution (effect_due, id) WHERE effect_due IS NOT NULL;
CREATE INDEX execution_removal ON execution (removal, id) WHERE removal IS NOT NULL;
CREATE INDEX execution_created ON execution (created, id);
CREATE INDEX execution_function_created ON execution (function, created, id);
CREATE INDEX execution_status_created ON execution (status, created, id);

-- Rows go to the end of one tree, whatever execution they belong to: a group commit dirties few pages.
CREATE TABLE journal (
    position INTEGER PRIMARY KEY,
    execution INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    at INTEGER NOT NULL,
    tag TEXT NOT NULL,
    seen INTEGER,
    invocation_id TEXT,
    invocation_at INTEGER,
    operation TEXT,
    body BLOB NOT NULL
);

CREATE UNIQUE INDEX journal_ordinal ON journal (execution, ordinal);

-- `id` is the execution's id, a slash, and the operation's; `due` is the earlier of both deadlines while the await is
-- open and its execution runs.
CREATE TABLE await (
    id TEXT PRIMARY KEY,
    secret TEXT NOT NULL,
    expires INTEGER,
    heartbeat INTEGER,
    heartbeat_due INTEGER,
    due INTEGER,
    closed_by TEXT,
    timed_out INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX await_due ON await (due, id) WHERE due IS NOT NULL;

CREATE TABLE signal (
    execution INTEGER NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (execution, key)
) WITHOUT ROWID;

-- `locked`: the owner's process holds a lock file, so that its death shows at once.
CREATE TABLE lease (
    owner TEXT PRIMARY KEY,
    span INTEGER NOT NULL,
    until INTEGER NOT NULL,
    number INTEGER NOT NULL,
    locked INTEGER NOT NULL,
    reaped INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX lease_until ON lease (until) WHERE reaped = 0;

CREATE TABLE function (
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    timeout INTEGER,
    retention INTEGER NOT NULL,
    registered INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) WITHOUT ROWID;

CREATE TABLE tombstone (
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX tombstone_at ON tombstone (at);

-- For people with a database shell: journals as text.
CREATE VIEW history AS
SELECT
    execution.id,
    execution.function,
    execution.name,
    journal.ordinal,
    strftime('%Y-%m-%dT%H:%M:%fZ', journal.at / 1000000.0, 'unixepoch') AS time,
    journal.operation,
    CAST(journal.body AS TEXT) AS entry
FROM journal
JOIN execution ON execution.number = journal.execution
ORDER BY journal.execution, journal.ordinal;
