-- name: find
SELECT owner, span, until, number, locked, reaped FROM lease WHERE owner = ?

-- name: register
INSERT INTO lease (owner, since, span, until, number, locked, reaped) VALUES (?, ?, ?, ?, 0, ?, 0)
ON CONFLICT (owner) DO UPDATE SET span = excluded.span, until = excluded.until, locked = excluded.locked

-- name: extend
UPDATE lease SET until = ?, number = ? WHERE owner = ?

-- name: prolong
UPDATE lease SET until = max(until, ?), number = max(number, ?) WHERE owner = ? AND reaped = 0

-- name: living
SELECT owner, since, span, until FROM lease INDEXED BY lease_until WHERE reaped = 0 ORDER BY since, owner

-- name: lapsed
SELECT owner FROM lease WHERE reaped = 0 AND until <= ? ORDER BY until

-- name: locked
SELECT owner FROM lease INDEXED BY lease_until WHERE reaped = 0 AND locked = 1

-- name: reap
UPDATE lease SET reaped = ? WHERE owner = ?

-- name: has_old
SELECT 1 FROM lease WHERE reaped > 0 AND reaped <= ? LIMIT 1

-- name: forget
DELETE FROM lease WHERE reaped > 0 AND reaped <= ?
