-- name: append
INSERT INTO journal (execution, ordinal, at, tag, seen, invocation_id, invocation_at, operation, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: append_by_id
INSERT INTO journal (execution, ordinal, at, tag, seen, body) SELECT number, ?2, ?3, ?4, ?2 - 1, ?5 FROM execution WHERE id = ?1

-- name: tip
SELECT at, tag FROM journal WHERE execution = ? AND ordinal = ?

-- name: entries
SELECT journal.ordinal, journal.at, journal.tag, journal.seen, journal.invocation_id, journal.invocation_at,
    journal.operation, journal.body
FROM execution CROSS JOIN journal ON journal.execution = execution.number
WHERE execution.id = ? AND journal.ordinal > ?
ORDER BY journal.ordinal

-- name: exists
SELECT 1 FROM execution WHERE id = ?

-- name: last_position
SELECT max(position) FROM journal

-- name: grown
SELECT DISTINCT execution.id, execution.function, execution.status
FROM (SELECT execution FROM journal WHERE position > ? ORDER BY position LIMIT ?) AS news
CROSS JOIN execution ON execution.number = news.execution

-- name: delete
DELETE FROM journal WHERE execution = ?
