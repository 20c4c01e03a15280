-- name: append
INSERT INTO journal (execution, ordinal, at, tag, seen, invocation_id, invocation_at, operation, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: append_seen
INSERT INTO journal (execution, ordinal, at, tag, seen, body)
WITH news (id, length, at, tag, body) AS (VALUES {rows})
SELECT execution.number, news.length, news.at, news.tag, news.length - 1, news.body
FROM news CROSS JOIN execution ON execution.id = news.id
WHERE execution.seq_length = news.length AND execution.tip_tag = news.tag
ON CONFLICT (execution, ordinal) DO NOTHING

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
FROM (SELECT execution FROM journal WHERE position > ? AND position <= ? ORDER BY position LIMIT ?) AS news
CROSS JOIN execution ON execution.number = news.execution

-- name: delete
DELETE FROM journal WHERE execution = ?
