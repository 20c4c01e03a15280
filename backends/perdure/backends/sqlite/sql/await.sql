-- name: open
INSERT OR REPLACE INTO await (id, secret, expires, heartbeat, heartbeat_due, due, closed_by, timed_out)
VALUES (?, ?, ?, ?, ?, ?, NULL, 0)

-- name: find
SELECT id, secret, expires, heartbeat, heartbeat_due, closed_by, timed_out FROM await WHERE id = ?

-- name: close
UPDATE await SET closed_by = ?, due = NULL WHERE id = ?

-- name: time_out
UPDATE await SET timed_out = 1, due = NULL WHERE id = ?

-- name: beat
UPDATE await SET heartbeat_due = ?, due = ? WHERE id = ?

-- name: retire
UPDATE await SET due = NULL WHERE id > ?1 || '/' AND id < ?1 || '0' AND due IS NOT NULL

-- name: overdue
SELECT id, secret, expires, heartbeat, heartbeat_due, closed_by, timed_out FROM await
WHERE due IS NOT NULL AND due <= ? ORDER BY due, id LIMIT ?

-- name: first
SELECT due FROM await WHERE due IS NOT NULL ORDER BY due LIMIT 1

-- name: delete
DELETE FROM await WHERE id > ?1 || '/' AND id < ?1 || '0'
