-- name: by_id
SELECT {columns} FROM execution WHERE id = ?

-- name: by_name
SELECT {columns} FROM execution WHERE function = ? AND name = ?

-- name: insert
INSERT INTO execution ({columns}) VALUES ({values})

-- name: extend
UPDATE execution
SET seq = ?2, seq_at = ?3, seq_length = ?4, length = ?4, tip_at = ?3, tip_tag = ?5, format = max(format, ?6)
WHERE id = ?1 AND token = ?7 AND owner IS NOT NULL AND seq = ?2 - 1 AND length = ?4 - 1 AND tip_at = ?8 AND tip_tag = ?9

-- name: extend_all
UPDATE execution
SET seq = news.seq, seq_at = news.at, seq_length = news.length, length = news.length, tip_at = news.at,
    tip_tag = news.tag, format = max(execution.format, news.format)
FROM (
    WITH news (id, seq, at, length, tag, format, token, seen_at, seen_tag) AS (VALUES {heads}) SELECT * FROM news
) AS news
WHERE execution.id = news.id AND execution.token = news.token AND execution.owner IS NOT NULL
    AND execution.seq = news.seq - 1 AND execution.length = news.length - 1
    AND execution.tip_at = news.seen_at AND execution.tip_tag = news.seen_tag

-- name: due
SELECT wake, id FROM execution INDEXED BY execution_due
WHERE function = ? AND version = ? AND format <= ?
    AND wake IS NOT NULL AND owner IS NULL AND paused = 0 AND quarantined = 0
ORDER BY wake, id LIMIT ?

-- name: by_ids
SELECT {columns} FROM execution WHERE id IN ({ids})

-- name: take
UPDATE execution
SET owner = ?, token = ?, wake = NULL, invocation_at = CASE WHEN invocation_id IS NULL THEN ? ELSE invocation_at END,
    invocation_id = coalesce(invocation_id, ?)
WHERE id IN ({ids})

-- name: held_under_token
SELECT {columns} FROM execution WHERE owner = ? AND token = ? ORDER BY id

-- name: held_briefly
SELECT id, token, seq, length FROM execution WHERE owner = ? ORDER BY id

-- name: ids_of_owner
SELECT id FROM execution WHERE owner = ? ORDER BY id

-- name: of_owner
SELECT {columns} FROM execution WHERE owner = ? ORDER BY id LIMIT ?

-- name: orphans
WITH RECURSIVE holder (owner) AS (
    SELECT min(owner) FROM execution WHERE owner IS NOT NULL
    UNION ALL
    SELECT (SELECT min(execution.owner) FROM execution WHERE execution.owner > holder.owner)
    FROM holder WHERE holder.owner IS NOT NULL
)
SELECT owner FROM holder
WHERE owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.owner = holder.owner AND lease.reaped = 0)

-- name: overdue
SELECT {columns} FROM execution WHERE deadline IS NOT NULL AND deadline <= ? ORDER BY deadline, id LIMIT ?

-- name: first_deadline
SELECT deadline FROM execution WHERE deadline IS NOT NULL ORDER BY deadline LIMIT 1

-- name: unsettled
SELECT {columns} FROM execution WHERE effect_due IS NOT NULL AND effect_due <= ? ORDER BY effect_due, id LIMIT ?

-- name: first_effect
SELECT effect_due FROM execution WHERE effect_due IS NOT NULL ORDER BY effect_due LIMIT 1

-- name: removable
SELECT number, id, length FROM execution WHERE removal IS NOT NULL AND removal <= ? ORDER BY removal, id LIMIT ?

-- name: delete
DELETE FROM execution WHERE number = ?
